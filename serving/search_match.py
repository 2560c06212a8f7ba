"""How a query finds items in the embedded index: what its words are taken for, which items have them, and how well each fits.

Three readings, the first that finds an item with all the words: as it is written, where only a word that the catalogue does not know
is completed, split or corrected; then with every word corrected, because a misspelt word may be another word; then the items
with most of the words, where none has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz.distance import OSA

from serving.search_context import likeliest, others_of
from serving.search_index import FIELDS, Hit, Matches, Matching, Word
from serving.search_terms import FORM, JOINED, Meaning, Terms
from serving.search_words import folded, joined, words

if TYPE_CHECKING:
    from serving.search_text import TextIndex

Postings = tuple[np.ndarray, np.ndarray]
MOST_WORDS = 24  # of a query that are looked at
TITLE_SHARE = 0.15  # of the fit that goes by how much of the title the query names
MOST_OF = (
    0.6  # of the weight that the best item's words have: where none has all, items with so much are found
)
OTHERS = 0.5  # times the fit of other items where the query is the id of one
LIKE = 0.5  # least likeness of a suggestion, 1 being the same word


@dataclass(frozen=True)
class Reading:
    """What one word of the query is taken for. split: two terms that it is written together of. code: the slot of the item whose
    id it is. optional: an item need not have it.
    """

    word: str
    meanings: Sequence[Meaning] = ()
    split: tuple[int, int] | None = None
    optional: bool = False
    code: int | None = None

    def told(self, terms: Terms) -> Word:
        if self.meanings:
            first = self.meanings[0]
            taken_for = tuple(dict.fromkeys(terms.terms[each.term] for each in self.meanings))
            return Word(self.word, taken_for, first.how, first.edits)
        if self.code is not None:
            return Word(self.word, (self.word,), "exact")
        if self.split:
            return Word(self.word, (" ".join(terms.terms[each] for each in self.split),), "split")
        return Word(self.word)


def search(index: TextIndex, query: str, typing: bool) -> Matches:
    """See `SearchIndex.search`."""
    asked = parts(index, query)
    code = index.slot(folded(query).strip())
    readings = read(index, asked, typing)
    slots, text, matching = judged(index, readings)
    if matching != "all" and code is None:
        wide = read(index, asked, typing, wide=True)
        found = judged(index, wide)
        if found[2] == "all" or matching == "none":
            readings, (slots, text, matching) = wide, found
    if code is not None:
        slots, text = with_code(slots, text, code)
        matching = "all"
    told = [each.told(index.terms) for each in readings]
    if len(slots):
        told = as_found(told, hits(index, readings, int(slots[text.argmax()]), code))
    understood = " ".join(
        each.taken_for[0] if each.how in ("corrected", "split") else each.word for each in told
    )
    return Matches(
        index.ids,
        slots,
        text,
        tuple(told),
        matching,
        understood if any(each.how in ("corrected", "split") for each in told) and code is None else None,
        suggestion(index, told) if matching == "none" else None,
        lambda slot: hits(index, readings, slot, code),
    )


def parts(index: TextIndex, query: str) -> list[str]:
    """The words of a query, each once; the id of an item is one word, whatever it is made of."""
    found = (
        [piece] if index.slot(piece) is not None else words(piece)
        for piece in folded(query).split()[:MOST_WORDS]
    )
    return list(dict.fromkeys(each for some in found for each in some))[:MOST_WORDS]


def read(index: TextIndex, asked: Sequence[str], typing: bool, wide: bool = False) -> list[Reading]:
    """A reading a word. wide: also those of words that are known as they stand. What a misspelt word is taken for first goes by the
    others: by which of its corrections stand beside them in an item.
    """
    terms, counts = index.terms, index.counts
    pairs = {first + second: place for place, (first, second) in enumerate(pairwise(asked))}
    one = {
        place + more: terms.numbers[whole]
        for whole, place in pairs.items()
        if whole in terms.numbers and counts[terms.numbers[whole]]
        for more in (0, 1)
    }
    found: list[Reading] = []
    guessed: dict[int, list[Meaning]] = {}
    for place, word in enumerate(asked):
        last, split, code = place == len(asked) - 1, None, index.slot(word)
        meanings = terms.plain(word, counts)
        if code is not None:
            found.append(Reading(word, meanings, code=code))
            continue
        if last and (typing or wide or not meanings):
            meanings += [
                each for each in terms.begun(word, counts) if each.term not in {m.term for m in meanings}
            ]
        if place in one:
            meanings.append(Meaning(one[place], JOINED, "joined"))
        if wide or not meanings:
            split = terms.in_two(word, counts)
        if wide or not (meanings or split):
            guessed[place] = terms.corrected(word, counts, nearest=not wide)
        if not (meanings or split or guessed[place]):
            guessed[place] = terms.corrected(word, counts, more=1)
        found.append(Reading(word, meanings, split, word in index.optional))
    beside: list[np.ndarray | None] = [None] * len(found)
    if any(len(some) > 1 for some in guessed.values()):
        wanted = [place for place, each in enumerate(found) if not each.optional]
        tried = [
            replace(found[place], meanings=[*found[place].meanings, *guessed.get(place, ())])
            for place in wanted
        ]
        for place, others in zip(wanted, others_of([fit(index, each) > 0 for each in tried]), strict=True):
            beside[place] = others
    for place, some in guessed.items():
        known = found[place].meanings
        best = likeliest(index, some, beside[place])
        found[place] = replace(found[place], meanings=[*known, *with_forms(index, best, known)])
    return found


def with_forms(index: TextIndex, corrected: list[Meaning], known: list[Meaning]) -> list[Meaning]:
    """Corrections that are not known yet, and the other forms of the likeliest: as if it had been typed."""
    forms = index.terms.plain(index.terms.terms[corrected[0].term], index.counts)[1:] if corrected else []
    more = [corrected[0]._replace(term=each.term, likeness=corrected[0].likeness * FORM) for each in forms]
    taken, found = {each.term for each in known}, []
    for each in [*corrected, *more]:
        if each.term not in taken:
            taken.add(each.term)
            found.append(each)
    return found


def fit(index: TextIndex, reading: Reading) -> np.ndarray:
    """(slots,) float32: how well each item has a word, 0 where it has nothing of it."""
    found = np.zeros(len(index.ids), np.float32)
    for meaning in reading.meanings:
        slots, weights = index.postings[meaning.term]
        found[slots] = np.maximum(found[slots], weights * np.float32(meaning.likeness))
    if reading.code is not None:
        found[reading.code] = 1.0
    if reading.split:
        (first, w1), (second, w2) = (index.postings[each] for each in reading.split)
        both, at1, at2 = np.intersect1d(first, second, assume_unique=True, return_indices=True)
        found[both] = np.maximum(found[both], np.minimum(w1[at1], w2[at2]) * np.float32(JOINED))
    return found


def judged(index: TextIndex, readings: Sequence[Reading]) -> tuple[np.ndarray, np.ndarray, Matching]:
    """(slots, text, matching). text: the words' fits, each weighed by how rare the word is, and how much of the title they are."""
    fits = [(reading, found) for reading in readings if (found := fit(index, reading)).any()]
    if not fits:
        return np.empty(0, np.int64), np.empty(0, np.float32), "none"
    every = np.stack([found for _, found in fits])
    there = every > 0
    rare = np.log1p(len(index.ids) / there.sum(axis=1)).astype(np.float32)
    asked = [place for place, (reading, _) in enumerate(fits) if not reading.optional] or [*range(len(fits))]
    found = there[asked].all(axis=0)
    whole = all(reading.optional or reading in [known for known, _ in fits] for reading in readings)
    if not found.any():
        whole, level = False, rare[asked] @ there[asked]
        found = level >= MOST_OF * level.max()
    slots = np.flatnonzero(found)
    text = rare @ every[:, slots] / rare.sum()
    named = np.minimum(there[:, slots].sum(axis=0) / index.lengths[slots], 1.0)
    text = text * (1 - TITLE_SHARE + TITLE_SHARE * named)
    return slots, text.astype(np.float32), "all" if whole else "some"


def with_code(slots: np.ndarray, text: np.ndarray, code: int) -> tuple[np.ndarray, np.ndarray]:
    """The item whose id the query is, before all others that it finds."""
    others = slots != code
    return np.append(slots[others], code), np.append(text[others] * np.float32(OTHERS), np.float32(1.0))


def hits(index: TextIndex, readings: Sequence[Reading], slot: int, code: int | None) -> list[Hit]:
    """What an item was found by, word by word."""
    document, item = index.documents[slot], index.ids[slot]
    if document is None:
        return []
    if slot == code:
        return [Hit(item, item, "exact", "item_id")]
    there = {
        "title": {*words(document.title), *joined(document.title)},
        "brand": set(words(document.brand)),
        "categories": {word for each in document.categories for word in words(each)},
    }
    terms, found = index.terms.terms, []
    for reading in readings:
        options = [
            (each.likeness * FIELDS[where], Hit(reading.word, terms[each.term], each.how, where))
            for each in reading.meanings
            for where, some in there.items()
            if terms[each.term] in some
        ]
        if reading.code == slot:
            found.append(Hit(reading.word, item, "exact", "item_id"))
        elif options:
            found.append(max(options, key=lambda each: each[0])[1])
        elif reading.split:
            parts = [terms[each] for each in reading.split]
            where = next((where for where, some in there.items() if {*parts} <= some), "")
            found += [Hit(reading.word, " ".join(parts), "split", where)] if where else []
    return found


def as_found(told: Sequence[Word], best: Sequence[Hit]) -> list[Word]:
    """The words as the item has them that fits best: what a misspelt word that is another word was taken for."""
    of_word = {each.word: each for each in best}
    found = []
    for each in told:
        hit = of_word.get(each.word)
        if hit is not None and hit.matched in each.taken_for and hit.matched != each.taken_for[0]:
            rest = (taken for taken in each.taken_for if taken != hit.matched)
            edits = OSA.distance(each.word, hit.matched) if hit.how == "corrected" else 0
            each = Word(each.word, (hit.matched, *rest), hit.how, edits)
        found.append(each)
    return found


def suggestion(index: TextIndex, told: Sequence[Word]) -> str | None:
    """Words of the catalogue that look most like those that nothing was found by; None where nothing does."""
    near = [index.terms.like(each.word, index.counts, LIKE) if len(each.word) > 2 else None for each in told]
    if not any(near):
        return None
    return " ".join(like or each.word for like, each in zip(near, told, strict=True))
