"""The embedded search index: an inverted index in arrays, frozen. A change gives another one that shares all it did not touch,
so that no search waits for a change or sees half of one. Why no search library: docs/adr/0009-search-index.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aisle.errors import SettingsError
from aisle.settings import Search
from serving.search_index import FIELDS, Document, Matches
from serving.search_match import Postings, search
from serving.search_terms import Edits, Terms
from serving.search_words import Stems, folded, joined, words

NOTHING: Postings = (np.empty(0, np.int32), np.empty(0, np.float32))
REBUILT = 0.1  # share of items that change or were taken out above which a change is a new index: single ones would take longer


@dataclass(frozen=True)
class TextIndex:
    """See `of`. ids, documents: by slot. slots: by id. postings: by term, the slots that have it, rising, and its weight there.

    lengths: (slots,) float32 words of the title. codes: by folded id, its slot, where that is not the id itself.
    """

    terms: Terms
    optional: frozenset[str] = frozenset()
    ids: Sequence[str] = ()
    documents: Sequence[Document | None] = ()
    slots: Mapping[str, int] = field(default_factory=dict)
    postings: Sequence[Postings] = ()
    counts: Sequence[int] = ()
    lengths: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    codes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, documents: Mapping[str, Document], stems: Stems, edits: Edits, optional: Iterable[str] = ()
    ) -> TextIndex:
        """An index of items by id. optional: words of a query that an item need not have, such as "of"."""
        numbers: dict[str, int] = {}
        slot_of: list[int] = []
        term_of: list[int] = []
        weight_of: list[float] = []
        lengths = np.ones(len(documents), np.float32)
        for slot, document in enumerate(documents.values()):
            weights, lengths[slot] = weighed(document)
            slot_of += [slot] * len(weights)
            term_of += [numbers.setdefault(term, len(numbers)) for term in weights]
            weight_of += weights.values()
        term = np.array(term_of, np.int32)
        order = np.argsort(term, kind="stable")
        slots, values = np.array(slot_of, np.int32)[order], np.array(weight_of, np.float32)[order]
        ends = np.cumsum(np.bincount(term, minlength=len(numbers))).tolist()
        postings = [
            (slots[start:end], values[start:end]) for start, end in zip([0, *ends], ends, strict=False)
        ]
        ids = list(documents)
        return cls(
            Terms(stems, edits).with_new(list(numbers)),
            frozenset(map(folded, optional)),
            ids,
            list(documents.values()),
            {item: slot for slot, item in enumerate(ids)},
            postings,
            [len(each) for each, _ in postings],
            lengths,
            {code: slot for slot, item in enumerate(ids) if (code := _code(item)) != item},
        )

    def slot(self, code: str) -> int | None:
        """Of the item with this id, folded; None where there is none."""
        found = self.slots.get(code, self.codes.get(code, -1))
        return found if found >= 0 and self.documents[found] is not None else None

    def search(self, query: str, typing: bool = False) -> Matches:
        return search(self, query, typing)

    def with_changes(self, changed: Mapping[str, Document | None]) -> TextIndex:
        if len(changed) + self.documents.count(None) > REBUILT * len(self.ids) + 100:
            return self._anew(changed)
        documents, lengths = [*self.documents], self.lengths.copy()
        new = [item for item, document in changed.items() if document and item not in self.slots]
        slots = (
            {**self.slots, **{item: slot for slot, item in enumerate(new, len(documents))}}
            if new
            else self.slots
        )
        codes = {code: slots[item] for item in new if (code := _code(item)) != item}
        documents += [None] * len(new)
        lengths = np.append(lengths, np.ones(len(new), np.float32))
        out: dict[str, dict[int, float]] = {}  # by term, the slots that had it
        into: dict[str, dict[int, float]] = {}  # and those that have it now
        for item, document in changed.items():
            if item not in slots:
                continue
            slot = slots[item]
            for held, terms in ((documents[slot], out), (document, into)):
                if held:
                    weights, lengths[slot] = weighed(held)
                    for term, weight in weights.items():
                        terms.setdefault(term, {})[slot] = weight
            documents[slot] = document
        terms = self.terms.with_new([term for term in into if term not in self.terms.numbers])
        more = len(terms.terms) - len(self.postings)
        postings = [*self.postings, *[NOTHING] * more]
        counts = [*self.counts, *[0] * more]
        for term in {**out, **into}:
            number = terms.numbers[term]
            postings[number] = _changed(postings[number], out.get(term, {}), into.get(term, {}))
            counts[number] = len(postings[number][0])
        return replace(
            self,
            terms=terms,
            ids=[*self.ids, *new] if new else self.ids,
            documents=documents,
            slots=slots,
            postings=postings,
            counts=counts,
            lengths=lengths,
            codes={**self.codes, **codes} if codes else self.codes,
        )

    def _anew(self, changed: Mapping[str, Document | None]) -> TextIndex:
        held = {item: each for item, each in zip(self.ids, self.documents, strict=True) if each is not None}
        now = {item: each for item, each in {**held, **changed}.items() if each is not None}
        return TextIndex.of(now, self.terms.stemmer, self.terms.edits, self.optional)


def _code(item: str) -> str:
    return folded(item).strip()


def weighed(document: Document) -> tuple[dict[str, float], int]:
    """What each word of an item counts, in the field where it counts most; and the number of words of its title."""
    found: dict[str, float] = {}
    titled = words(document.title)
    parts = (
        ("title", (*titled, *joined(document.title))),
        ("brand", words(document.brand) if document.brand else ()),
        ("categories", [word for each in document.categories for word in words(each)]),
    )
    for name, some in parts:
        for word in some:
            found.setdefault(word, FIELDS[name])
    return found, max(len(titled), 1)


def _changed(held: Postings, out: Mapping[int, float], into: Mapping[int, float]) -> Postings:
    """Without the slots of `out`, with those of `into`, in order."""
    slots, weights = held
    if out:
        kept = ~np.isin(slots, list(out))
        slots, weights = slots[kept], weights[kept]
    if into:
        slots = np.concatenate([slots, np.fromiter(into, np.int32, len(into))])
        weights = np.concatenate([weights, np.fromiter(into.values(), np.float32, len(into))])
        order = np.argsort(slots, kind="stable")
        slots, weights = slots[order], weights[order]
    return slots, weights


def build(documents: Mapping[str, Document], settings: Search) -> TextIndex:
    """An index under the settings. Raises SettingsError for a language without stems."""
    try:
        stems = Stems(settings.language)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    edits = Edits(settings.one_edit_from, settings.two_edits_from)
    return TextIndex.of(documents, stems, edits, settings.optional_words)
