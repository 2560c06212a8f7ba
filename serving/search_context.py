"""Which correction of a misspelt word was meant: told by the letters, and by the other words of the query.

A noisy channel: how likely somebody who meant a word wrote this one, times how likely the word is where it stands. The second is a
count of items that have it beside the query's other words: "light" stands beside "night", and never beside "nile".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from serving.search_terms import Meaning

if TYPE_CHECKING:
    from serving.search_text import TextIndex

SECOND = 0.9  # times the likeness, of corrections that are not the likeliest one
EDIT_ODDS = (
    math.log(10) / 0.175
)  # by likeness: an edit more, which is some 0.175 less, is ten times less likely
UNSEEN = 0.5  # items that a word has anywhere, whatever was seen


def others_of(there: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """By word, which items have all the other words. there: (slots,) bool by word; None where there is no other word."""
    if len(there) < 2:
        return [None] * len(there)
    count = np.sum(there, axis=0, dtype=np.int16)
    return [count - each == len(there) - 1 for each in there]


def likeliest(index: TextIndex, guesses: Sequence[Meaning], beside: np.ndarray | None) -> list[Meaning]:
    """Corrections of one word, the likeliest first, the others counting less. beside: (slots,) bool, items with the other words."""

    def likely(each: Meaning) -> float:
        seen = float(index.counts[each.term])
        if beside is not None:
            seen = float(np.count_nonzero(beside[index.postings[each.term][0]])) + seen / len(index.ids)
        return each.likeness * EDIT_ODDS + math.log(seen + UNSEEN)

    if len(guesses) < 2:
        return list(guesses)
    first, *rest = sorted(guesses, key=likely, reverse=True)
    return [first, *(each._replace(likeness=each.likeness * SECOND) for each in rest)]
