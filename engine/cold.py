"""Items that nobody bought yet: each source says of them what it says of the items that they read like.

A source that learns from purchases alone knows nothing of such an item, and its 0 would hold the item below everything that
was ever bought. Attribute-to-feature mapping from nearest neighbours: Gantner et al., Learning Attribute-to-Feature Mappings
for Cold-Start Recommendations (2010), section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from engine.sources.base import Arrays
from engine.sources.content import Content
from engine.sources.neighbours import keep_largest_of_rows, pack, unpack
from engine.sources.personal import Personal
from engine.sources.sequence import Sequence
from engine.sources.two_tower import TwoTower
from engine.trends import Trends

NEIGHBOURS = (
    3  # items that speak for a new one: a mean of many lies near the average, and never among the best
)
# These place a new item themselves, or have nothing to say of it that a neighbour could.
SPEAK_FOR_THEMSELVES = (Content.name, Sequence.name, TwoTower.name, Personal.name)


@dataclass(frozen=True)
class Cold:
    """items: (c,) rows of items without a buyer that read like some with one. alike: (c, n_items) float32 weights of those; a row
    sums to 1."""

    items: np.ndarray
    alike: sparse.csr_array

    @classmethod
    def of(cls, content: Content, trends: Trends) -> Cold:
        items = np.flatnonzero(trends.buyers == 0)
        bought = sparse.diags_array((trends.buyers > 0).astype(np.float32))
        return cls(*_shares(items, sparse.csr_array(content.similarity.T)[items] @ bought))

    def with_items(self, content: Content, trends: Trends) -> Cold:
        """With the items that came behind those that it was made for, as `of` would say of them: nobody bought one yet, so that
        none speaks for another item.

        content, trends: with the new items.
        """
        start = self.alike.shape[1]
        bought = sparse.diags_array((trends.buyers > 0).astype(np.float32))
        items, alike = _shares(np.arange(start, len(trends.buyers)), content.similarity[start:] @ bought)
        held = sparse.csr_array(
            (self.alike.data, self.alike.indices, self.alike.indptr), shape=(len(self.items), alike.shape[1])
        )
        both = sparse.csr_array(sparse.vstack([held, alike], format="csr"))
        return Cold(np.concatenate([self.items, items]), both)

    def fill(self, name: str, scores: np.ndarray) -> np.ndarray:
        """The scores of a source, (n_users, n_items), with the columns of new items set where it cannot place them itself."""
        if name in SPEAK_FOR_THEMSELVES or not len(self.items):
            return scores
        found = np.array(scores)
        found[:, self.items] = (self.alike @ scores.T).T
        return found

    @cached_property
    def _speakers(self) -> tuple[np.ndarray, sparse.csr_array]:
        """The items that speak for others, and `alike` of them alone."""
        columns = np.unique(self.alike.indices)
        return columns, sparse.csr_array(self.alike[:, columns])

    def fill_one(self, scores: np.ndarray) -> None:
        """As `fill` of one user's (n_items,) scores by a source that cannot place new items itself, in place."""
        columns, alike = self._speakers
        scores[self.items] = alike @ scores[columns]

    def arrays(self) -> Arrays:
        return {"items": self.items, **pack(self.alike)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Cold:
        return cls(arrays["items"], unpack(arrays))

    def trends(self, trends: Trends) -> Trends:
        """As if a new item did as the items do that it reads like."""
        recent, buyers, again = trends.recent.copy(), trends.buyers.copy(), trends.again.copy()
        recent[:, self.items] = (self.alike @ trends.recent.T).T
        buyers[self.items] = self.alike @ trends.buyers
        again[self.items] = self.alike @ trends.again
        return replace(trends, recent=recent, buyers=buyers, again=again)


def _shares(items: np.ndarray, alike: sparse.csr_array) -> tuple[np.ndarray, sparse.csr_array]:
    """Of items and how alike others are: those that some are like, and the NEIGHBOURS most alike as shares, float32."""
    found = keep_largest_of_rows(sparse.csr_array(alike), NEIGHBOURS)
    some = np.flatnonzero(np.diff(found.indptr))
    found = sparse.csr_array(found[some])
    share = sparse.diags_array(1.0 / np.asarray(found.sum(axis=1)).ravel())
    return items[some], sparse.csr_array(share @ found).astype(np.float32)
