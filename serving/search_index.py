"""What search asks of an index, and of nobody else: the protocol behind which the embedded one (`serving.search_text`) stands.

Another index (a server's) is one more class with these three members: it gets the same texts and gives numbers of items with
how well each fits. Filters, preference, facets and pages are not its business, so that they hold for every index alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Matching = Literal["all", "some", "none"]
FIELDS = {"title": 1.0, "brand": 0.9, "categories": 0.8}  # what a word counts there


class Document(NamedTuple):
    """What of an item is searched, beside its id."""

    title: str
    brand: str = ""
    categories: tuple[str, ...] = ()


class Word(NamedTuple):
    """A word of a query. taken_for: what it stands for in the index, the likeliest first; none where nothing is like it.

    how, edits: of the likeliest, see search_terms.Meaning; "" where there is none.
    """

    word: str
    taken_for: tuple[str, ...] = ()
    how: str = ""
    edits: int = 0


class Hit(NamedTuple):
    """A word of a query in an item: found as `matched`, in the field `where`."""

    word: str
    matched: str
    how: str
    where: str


@dataclass(frozen=True)
class Matches:
    """What a query finds, in no order.

    ids: the item of each slot, of the whole index. slots: (n,) int, those found. text: (n,) float32 in (0, 1], how well each fits.
    matching: whether items have "all" words of the query or, where none has, "some"; "none": nothing is found.
    corrected: the query as it was understood, None where that is as it was written. suggestion: where nothing is found, what
    may have been meant. hits: by slot, what it was found by.
    """

    ids: Sequence[str]
    slots: np.ndarray
    text: np.ndarray
    words: tuple[Word, ...] = ()
    matching: Matching = "none"
    corrected: str | None = None
    suggestion: str | None = None
    hits: Callable[[int], list[Hit]] = lambda slot: []


class SearchIndex(Protocol):
    """May be read from many threads; a change gives another one."""

    @property
    def ids(self) -> Sequence[str]:
        """The item of each slot; "" where one was taken out."""

    def search(self, query: str, typing: bool = False) -> Matches:
        """typing: the last word may be unfinished."""

    def with_changes(self, changed: Mapping[str, Document | None]) -> Any:
        """With these texts of items, new or known; None takes one out."""
