"""What people like this one buy, without a row of any of them: groups of people and their mean tastes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.graph import directions
from engine.sources.neighbours import pack, rows_of, strongest_of, unpack

MEMBERS = 10  # of a group, at least: docs/adr/0004 wants no row of a person
SUPPORT = 3  # members who share an item, before their group is said to like it
ROUNDS = 8  # of k-means


@dataclass(frozen=True)
class People(Source):
    """User-based filtering over prototypes: Resnick et al. (1994), with groups for neighbours.

    groups: (n_groups, n_items) sparse float32, mean tastes of MEMBERS people or more, items with SUPPORT of them.
    rarity: (n_items,) float32, log of how rare an item is: what two people share counts by it.
    nearest: groups that speak for a user.
    """

    groups: sparse.csr_array
    rarity: np.ndarray
    nearest: int
    half_life_days: float
    name = "people"

    @classmethod
    def fit(
        cls,
        events: Events,
        catalogue: Catalogue,
        partitions: int = 4,
        nearest: int = 30,
        rank: int = 64,
        half_life_days: float = 60.0,
        seed: int = 7,
    ) -> People:
        """Several partitions of the people, so that who stands at the edge of one group is inside another.

        Memory: 4 rank bytes a user, and a group's items: at most events * partitions / SUPPORT * 8 bytes.
        """
        tastes = events.tastes(half_life_days)
        rarity = np.log((1 + tastes.shape[0]) / (1 + np.bincount(tastes.indices, minlength=tastes.shape[1])))
        rarity = rarity.astype(np.float32)
        some = np.flatnonzero(np.diff(tastes.indptr))
        tastes = sparse.csr_array(tastes[some])
        parts = [sparse.csr_array((0, tastes.shape[1]), dtype=np.float32)]
        if len(some) >= MEMBERS:
            places = embedded(unit(tastes, rarity), rank, seed)
            parts += [means(tastes, partition(places, seed + each)) for each in range(partitions)]
        groups = sparse.csr_array(sparse.vstack(parts, format="csr"))
        return cls(groups, rarity, nearest, half_life_days)

    @cached_property
    def prototypes(self) -> sparse.csr_array:
        """(n_items, n_groups) unit columns."""
        return sparse.csr_array(unit(self.groups, self.rarity).T)

    def scores(self, events: Events) -> np.ndarray:
        likeness = self._likeness(events.tastes(self.half_life_days))
        return np.asarray((sparse.csr_array(likeness) @ self.groups).toarray(), np.float32)

    def _likeness(self, tastes: sparse.csr_array) -> np.ndarray:
        """(n_users, n_groups): squared cosine with the `nearest` groups, 0 with others. Squared: the near count."""
        cosine = (unit(tastes, self.rarity) @ self.prototypes).toarray()
        if self.nearest < cosine.shape[1]:
            place = cosine.shape[1] - self.nearest
            cosine[cosine < np.partition(cosine, place, axis=1)[:, place, None]] = 0.0
        return cosine**2

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """The item of the history that makes the user like those groups which have the item."""
        tastes = events.tastes(self.half_life_days)
        toward = self._likeness(tastes)[0][:, None] * self.groups[:, items].toarray()
        mine = unit(tastes, self.rarity)
        return strongest_of(
            mine.indices, mine.data[:, None] * (self.prototypes[mine.indices] @ np.sqrt(toward))
        )

    def arrays(self) -> Arrays:
        parameters = np.array([self.nearest, self.half_life_days])
        return {**pack(self.groups), "rarity": self.rarity, "parameters": parameters}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> People:
        nearest, half_life_days = arrays["parameters"].tolist()
        return cls(unpack(arrays), arrays["rarity"], int(nearest), half_life_days)


def unit(tastes: sparse.csr_array, weights: np.ndarray) -> sparse.csr_array:
    """Rows weighted by item and brought to unit length."""
    found = tastes.copy()
    found.data = found.data * weights[found.indices]
    length = np.sqrt(np.bincount(rows_of(found), found.data**2, minlength=found.shape[0]))
    found.data = (found.data / np.maximum(length, 1e-9)[rows_of(found)]).astype(np.float32)
    return found


def embedded(rows: sparse.csr_array, rank: int, seed: int) -> np.ndarray:
    """(n_users, rank) float32 of unit length: where each person stands."""
    found = rows @ directions(rows, rank, seed)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def partition(places: np.ndarray, seed: int) -> np.ndarray:
    """(n_users,) group of each: spherical k-means, groups of fewer than MEMBERS dissolved among the others."""
    n = len(places)
    chosen = np.random.default_rng(seed).permutation(n)[: max(1, n // MEMBERS)]
    centres = places[chosen]
    for _ in range(ROUNDS):
        group = closest(places, centres)
        ones = sparse.csr_array((np.ones(n, np.float32), (group, np.arange(n))), shape=(len(centres), n))
        centres = ones @ places
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    while True:
        group = closest(places, centres)
        size = np.bincount(group, minlength=len(centres))
        small = np.flatnonzero(size < MEMBERS)
        if not len(small):
            return group
        small = small[np.argsort(size[small], kind="stable")]
        centres = np.delete(centres, small[: (len(small) + 1) // 2], axis=0)


def closest(places: np.ndarray, centres: np.ndarray, block: int = 2048) -> np.ndarray:
    parts = [
        (places[start : start + block] @ centres.T).argmax(axis=1) for start in range(0, len(places), block)
    ]
    return np.concatenate(parts)


def means(tastes: sparse.csr_array, group: np.ndarray) -> sparse.csr_array:
    """(n_groups, n_items) mean tastes, without what fewer than SUPPORT members share."""
    n, size = len(group), np.bincount(group)
    members = sparse.csr_array((np.ones(n, np.float32), (group, np.arange(n))), shape=(len(size), n))
    total, shared = (
        sparse.csr_array(members @ tastes),
        sparse.csr_array(members @ (tastes > 0).astype(np.float32)),
    )
    total.sort_indices()
    shared.sort_indices()
    total.data = np.where(shared.data >= SUPPORT, total.data / size[rows_of(total)], 0).astype(np.float32)
    total.eliminate_zeros()
    return total
