"""The items that a blend's weights are chosen on, and how well a blend orders them.

Only each source's best items of a user are held, so that thousands of buyers of a large catalogue can decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from engine import metrics
from engine.blend import Scores


@dataclass(frozen=True)
class Board:
    """The items worth looking at while weights are chosen: each source's best ones, per user.

    values: (sources, users, places) float32. had, wanted: (users, places) bool. n_relevant: (users,) of the
    whole truth. Places beyond a user's items hold -inf.
    """

    names: tuple[str, ...]
    values: np.ndarray
    had: np.ndarray
    wanted: np.ndarray
    n_relevant: np.ndarray

    @classmethod
    def of(
        cls, normalised: Scores, had: np.ndarray, wanted: np.ndarray, allowed: np.ndarray, depth: int
    ) -> Board:
        """Users who wanted something that is `allowed` (users, items); each source's best `depth` items."""
        users = np.flatnonzero((wanted & allowed).any(axis=1))
        wanted, allowed, had = wanted[users] & allowed[users], allowed[users], had[users]
        listed = np.zeros_like(allowed)
        for scores in normalised.values():
            best = metrics.top_k(np.where(allowed, scores[users], -np.inf), depth)
            rows, places = np.nonzero(best >= 0)
            listed[rows, best[rows, places]] = True
        width = int(listed.sum(axis=1).max(initial=0))
        items = np.argsort(~listed, axis=1, kind="stable")[:, :width]
        empty = ~np.take_along_axis(listed, items, axis=1)
        values = np.stack(
            [np.take_along_axis(scores[users], items, axis=1) for scores in normalised.values()]
        )
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        values[:, empty] = -np.inf
        return cls(
            tuple(normalised),
            values,
            np.take_along_axis(had, items, axis=1),
            np.take_along_axis(wanted, items, axis=1) & ~empty,
            wanted.sum(axis=1),
        )

    @classmethod
    def joined(cls, parts: Sequence[Board]) -> Board:
        """The users of all parts, which have the same sources."""
        width = max(part.values.shape[2] for part in parts)

        def wide(values: np.ndarray, fill: float | bool) -> np.ndarray:
            edges = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
            return np.pad(values, edges, constant_values=fill)

        return cls(
            parts[0].names,
            np.concatenate([wide(part.values, -np.inf) for part in parts], axis=1),
            np.concatenate([wide(part.had, False) for part in parts]),
            np.concatenate([wide(part.wanted, False) for part in parts]),
            np.concatenate([part.n_relevant for part in parts]),
        )

    def only(self, names: Iterable[str]) -> Board:
        """With these sources alone, in the board's order; a name that it has not is passed over."""
        wanted = set(names)
        left = [row for row, name in enumerate(self.names) if name in wanted]
        return replace(self, names=tuple(self.names[row] for row in left), values=self.values[left])

    def at(self, places: np.ndarray, kept: np.ndarray) -> Board:
        """Without values: of the users' items at `places` (users, n) alone, where `kept`."""
        had, wanted = (np.take_along_axis(each, places, axis=1) & kept for each in (self.had, self.wanted))
        return Board((), np.empty((0, *places.shape), np.float32), had, wanted, self.n_relevant)

    def mix(self, weights: Mapping[str, float]) -> np.ndarray:
        """(users, places): the weighted sum."""
        total = np.where(np.isfinite(self.values[0]), np.float32(0.0), np.float32(-np.inf))
        for name, values in zip(self.names, self.values, strict=True):
            if weights.get(name):
                total += np.float32(weights[name]) * values
        return total

    @cached_property
    def _hits(self) -> tuple[np.ndarray, np.ndarray]:
        """User and place of each wanted item."""
        return np.nonzero(self.wanted)

    def ndcg(self, total: np.ndarray, k: int) -> float:
        """Mean NDCG@k of the lists that `total` orders; of items that tie, of all their orders.

        Items are counted, not ordered: McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently
        in the Presence of Tied Scores (2008).
        """
        if not total.size:
            return 0.0
        k = min(k, total.shape[1])
        best = np.partition(total, total.shape[1] - k, axis=1)[:, -k:]
        user, place = self._hits
        value = total[user, place]
        shown = value >= best[user, 0]  # a partition puts the least of them there
        user, value = user[shown], value[shown, None]
        above, equal = (best[user] > value).sum(axis=1), (best[user] == value).sum(axis=1)
        edge = value[:, 0] == best[user, 0]  # may tie with what the list is too short for
        equal[edge] = (total[user[edge]] == value[edge]).sum(axis=1)
        gained = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
        gain = (gained[np.minimum(above + equal, k)] - gained[above]) / equal
        whole = np.bincount(user, gain, minlength=len(total)) / gained[np.minimum(self.n_relevant, k)]
        return float(whole.mean())

    def found(self, depth: int) -> int:
        """How many of the wanted items are among the `depth` best of some source."""
        listed = np.zeros_like(self.wanted)
        for values in self.values:
            best = metrics.top_k(values, depth)
            rows, places = np.nonzero(best >= 0)
            listed[rows, best[rows, places]] = True
        return int((listed & self.wanted).sum())
