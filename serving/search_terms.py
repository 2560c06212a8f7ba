"""What a word of a query may mean among the words of the catalogue: the word itself, another form of it, what it begins, or what was
meant by a misspelt one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from serving.cached import Lru
from serving.search_sound import sound
from serving.search_words import Stems

How = Literal["exact", "form", "begins", "split", "joined", "corrected"]
FORM, JOINED = 0.98, 0.95  # what a word counts that is there in another form, in two words or in one
BEGINS = (0.8, 0.15)  # of a beginning: so much, and so much more times the share of the word that was typed
CORRECTED = (1.0, 0.8, 0.65, 0.5)  # by edits
OTHER_START = 0.1  # less, where the first letter was wrong: people seldom mistype it
SOUNDS = 0.9  # of a word that sounds the same, however it is written
MISSPELT, MISSPELT_SECONDS = 4096, 3600.0  # words whose corrections are kept
MOST = 40  # terms that one word may stand for
SHORTEST_BEGINNING = 2
SHORTEST_MISSPELT = 3
SHORTEST_PART = 3  # of two words that were written in one


class Meaning(NamedTuple):
    """One term that a word may stand for. likeness: 1 for the word itself. edits: letters changed, left out, put in or swapped."""

    term: int
    likeness: float
    how: How = "exact"
    edits: int = 0


@dataclass(frozen=True)
class Edits:
    """How many edits are forgiven, by the length of a word: one from `one_from` letters on, two from `two_from`."""

    one_from: int = 4
    two_from: int = 8

    def of(self, word: str, more: int = 0) -> int:
        """more: beyond those. A word with a digit is a code or a size: another one is another thing.

        >>> Edits().of("mug"), Edits().of("heart"), Edits().of("toadstool"), Edits().of("85123a")
        (0, 1, 2, 0)
        """
        if not word.isalpha() or len(word) < SHORTEST_MISSPELT:
            return 0
        return min((len(word) >= self.one_from) + (len(word) >= self.two_from) + more, len(CORRECTED) - 1)


@dataclass(frozen=True)
class Terms:
    """The words of a catalogue, numbered in the order in which they came; a number never changes its word.

    terms, numbers: each way. sorted: for beginnings. stems: by stem, its terms. lengths: by number of letters, terms and their
    numbers, of those that may be corrected to. sounds: by sound, its terms, where that is known. Frozen; `with_new` shares what did
    not change.
    """

    stemmer: Stems
    edits: Edits
    terms: Sequence[str] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    sorted: Sequence[str] = ()
    stems: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lengths: Mapping[int, tuple[list[str], list[int]]] = field(default_factory=dict)
    sounds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    _near: Lru[list[tuple[int, int]]] = field(default_factory=lambda: Lru(MISSPELT, MISSPELT_SECONDS))

    def with_new(self, new: Sequence[str]) -> Terms:
        """With terms that are not among them yet, each named once."""
        if not new:
            return self
        numbers, stems, lengths = dict(self.numbers), dict(self.stems), dict(self.lengths)
        sounds = dict(self.sounds)
        copied: set[int] = set()
        for term in new:
            number = numbers[term] = len(numbers)
            stem = self.stemmer.of(term)
            stems[stem] = (*stems.get(stem, ()), number)
            if spoken := self._sound(term):
                sounds[spoken] = (*sounds.get(spoken, ()), number)
            size = len(term)
            if term.isalpha():
                if size not in copied:
                    held = lengths.get(size, ([], []))
                    lengths[size] = ([*held[0]], [*held[1]])
                    copied.add(size)
                lengths[size][0].append(term)
                lengths[size][1].append(number)
        return Terms(
            self.stemmer,
            self.edits,
            [*self.terms, *new],
            numbers,
            sorted([*self.sorted, *new]),
            stems,
            lengths,
            sounds,
        )

    def _sound(self, word: str) -> str:
        return sound(word) if self.stemmer.language == "english" else ""

    # -- what a word may mean; counts: by term, how many items have it. A term without an item is none.

    def plain(self, word: str, counts: Sequence[int]) -> list[Meaning]:
        """The word, and other forms of it."""
        found = []
        number = self.numbers.get(word, -1)
        if number >= 0 and counts[number]:
            found.append(Meaning(number, 1.0))
        siblings = (each for each in self.stems.get(self.stemmer.of(word), ()) if each != number)
        return found + [Meaning(each, FORM, "form") for each in siblings if counts[each]]

    def begun(self, word: str, counts: Sequence[int]) -> list[Meaning]:
        """Terms that it begins, those of the most items."""
        if len(word) < SHORTEST_BEGINNING:
            return []
        place, found = bisect_left(self.sorted, word), []
        while place < len(self.sorted) and self.sorted[place].startswith(word):
            number = self.numbers[self.sorted[place]]
            if counts[number] and len(self.sorted[place]) > len(word):
                found.append(number)
            place += 1
        found.sort(key=lambda each: -counts[each])
        least, more = BEGINS
        return [
            Meaning(each, least + more * len(word) / len(self.terms[each]), "begins") for each in found[:MOST]
        ]

    def corrected(
        self, word: str, counts: Sequence[int], nearest: bool = True, more: int = 0
    ) -> list[Meaning]:
        """Terms within the edits that are forgiven, and so many `more`, and those of the same sound; the likeliest first. nearest: of
        the first only those of the fewest edits.
        """
        most = self.edits.of(word, more)
        if not most:
            return []
        near = [each for each in self.near(word, most) if counts[each[1]]]
        if nearest and near:
            fewest = min(near)[0]
            near = [each for each in near if each[0] == fewest]
        likeness = {
            number: (CORRECTED[edits] - OTHER_START * (self.terms[number][0] != word[0]), edits)
            for edits, number in near
        }
        for number in self.sounds.get(self._sound(word), ()):
            if counts[number] and self.terms[number] != word:
                known = likeness.get(number, (0.0, OSA.distance(word, self.terms[number])))
                likeness[number] = max(known[0], SOUNDS), known[1]
        found = [Meaning(number, like, "corrected", edits) for number, (like, edits) in likeness.items()]
        return sorted(found, key=lambda each: (-each.likeness, -counts[each.term]))[:MOST]

    def near(self, word: str, most: int) -> list[tuple[int, int]]:
        """(edits, term) of the terms of letters alone that are 1 to `most` edits away."""
        held = self._near.get((word, most))
        if held is None:
            held = []
            for size in range(len(word) - most, len(word) + most + 1):
                terms, numbers = self.lengths.get(size, ((), ()))
                found = process.extract(
                    word, terms, scorer=OSA.distance, processor=None, score_cutoff=most, limit=None
                )
                held += [(edits, numbers[place]) for _, edits, place in found if edits]
            self._near.put((word, most), held)
        return held

    def like(self, word: str, counts: Sequence[int], least: float) -> str | None:
        """The term that looks most like it; least: share of letters that are the same, more than 0."""
        best, found = least, None
        for size in range(max(int(len(word) * least), 3), int(len(word) / least) + 1):
            terms, numbers = self.lengths.get(size, ((), ()))
            for term, likeness, place in process.extract(
                word, terms, scorer=OSA.normalized_similarity, processor=None, score_cutoff=best, limit=5
            ):
                if counts[numbers[place]] and likeness > best:
                    best, found = likeness, term
                    break
        return found

    def in_two(self, word: str, counts: Sequence[int]) -> tuple[int, int] | None:
        """Two terms that it is written together of, the commonest pair; None where there is none.

        With fewer letters than twice SHORTEST_PART anything is two words.
        """
        best, found = 0, None
        for cut in range(SHORTEST_PART, len(word) - SHORTEST_PART + 1):
            first, second = self.numbers.get(word[:cut], -1), self.numbers.get(word[cut:], -1)
            if first >= 0 and second >= 0 and min(counts[first], counts[second]) > best:
                best, found = min(counts[first], counts[second]), (first, second)
        return found
