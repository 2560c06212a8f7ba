"""One score from many: each source's scores made comparable per user, then weighted.

There are two sets of weights, because "again" and "something new" are different questions: one for items
that the user already had, one for items new to them, and an offset that says how much the first group is
lifted over the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from engine import metrics

Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Weights by source, for items the user had and for items new to them; `offset` lifts the former."""

    again: Mapping[str, float] = field(default_factory=dict)
    new: Mapping[str, float] = field(default_factory=dict)
    offset: float = 0.0


def normalise(scores: np.ndarray) -> np.ndarray:
    """Per user, standard scores over the catalogue: (n_users, n_items) float32; 0 for a user whose items tie.

    What is not finite stays so: it must not be shown, and a mean over it would hide it.
    """
    finite = np.isfinite(scores)
    known = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    clean = np.where(finite, scores, 0.0)
    mean = clean.sum(axis=1, keepdims=True) / known
    spread = np.sqrt((np.where(finite, clean - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / known)
    return np.where(finite, (clean - mean) / np.where(spread > 1e-12, spread, 1.0), scores).astype(np.float32)


def combine(normalised: Scores, owned: sparse.csr_array, weights: Weights) -> np.ndarray:
    """(n_users, n_items) float32: `again` and the offset where the user had the item, else `new`."""
    had = owned.toarray() > 0
    found = np.where(had, np.float32(weights.offset), np.float32(0.0))
    for source, scores in normalised.items():
        again, new = weights.again.get(source, 0.0), weights.new.get(source, 0.0)
        if again or new:
            found += np.where(had, np.float32(again), np.float32(new)) * scores
    return found


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

    def mix(self, weights: Mapping[str, float]) -> np.ndarray:
        """(users, places): the weighted sum."""
        total = np.where(np.isfinite(self.values[0]), np.float32(0.0), np.float32(-np.inf))
        for name, values in zip(self.names, self.values, strict=True):
            if weights.get(name):
                total = total + np.float32(weights[name]) * values
        return total

    def ndcg(self, total: np.ndarray, k: int) -> float:
        """Mean NDCG@k of the lists that `total` orders."""
        if not len(total):
            return 0.0
        k = min(k, total.shape[1])
        best = np.argpartition(-total, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(total, best, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self.wanted, np.take_along_axis(best, order, axis=1), axis=1)
        return float(metrics.ndcg(hits, self.n_relevant, k).mean())


AGAIN_ONLY = (
    "personal"  # of an item that a user never had it knows nothing: there it would weigh its tie-break only
)
STEPS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
OFFSETS = tuple(np.arange(-2.0, 12.5, 0.5).tolist())


def choose_weights(
    normalised: Scores,
    owned: sparse.csr_array,
    truth: sparse.csr_array,
    k: int = 20,
    depth: int = 100,
    repeat: bool = True,
) -> Weights:
    """Weights that maximise mean NDCG@k, by coordinate ascent in three small searches. Deterministic.

    First `new` over the items a user did not have, without AGAIN_ONLY, then `again` over those they had, then the scale between
    the two and the offset over all items. `truth`: (n_users, n_items), bought in a window after what the
    sources were fitted on.
    """
    had, wanted = owned.toarray() > 0, truth.toarray() > 0
    about_new = {name: scores for name, scores in normalised.items() if name != AGAIN_ONLY}
    new = _ascend(Board.of(about_new, had, wanted, ~had, depth), k)
    if not repeat:  # what a user had is not shown: there is nothing to weigh
        return Weights({}, new, 0.0)
    again = _ascend(Board.of(normalised, had, wanted, had, depth), k)
    board = Board.of(normalised, had, wanted, np.ones_like(had), depth)
    fresh, known = board.mix(new), board.mix(again)
    tried = {
        (scale, offset): board.ndcg(
            np.where(board.had, np.float32(scale) * known + np.float32(offset), fresh), k
        )
        for scale in SCALES
        for offset in OFFSETS
    }
    scale, offset = max(tried, key=tried.__getitem__)
    return Weights({source: round(weight * scale, 4) for source, weight in again.items()}, new, offset)


def _ascend(board: Board, k: int, rounds: int = 4) -> dict[str, float]:
    """From the best single source on, tries each weight of each source in turn until nothing helps."""
    alone = {name: board.ndcg(board.mix({name: 1.0}), k) for name in board.names}
    first = max(alone, key=alone.__getitem__)
    weights, best = {name: float(name == first) for name in board.names}, alone[first]
    for _ in range(rounds):
        before = best
        for name in board.names:
            for step in STEPS:
                trial = {**weights, name: step}
                value = board.ndcg(board.mix(trial), k) if any(trial.values()) else 0.0
                if value > best + 1e-5:
                    weights, best = trial, value
        if best <= before + 1e-4:
            break
    return weights
