"""Chooses a blend's weights: coordinate ascent on the items that some source ranks high, for validation's buyers.

Only each source's best items of a user are held, so that thousands of buyers of a large catalogue can decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from engine import metrics
from engine.blend import Scores, Weights

DEPTH = 100  # of each source's best items that may enter the list
AGAIN_ONLY = (
    "personal"  # of an item that a user never had it knows nothing: there it would weigh its tie-break only
)
STEPS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
OFFSETS = tuple(np.arange(-2.0, 12.5, 0.5).tolist())


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

    def found(self, depth: int) -> int:
        """How many of the wanted items are among the `depth` best of some source."""
        listed = np.zeros_like(self.wanted)
        for values in self.values:
            best = metrics.top_k(values, depth)
            rows, places = np.nonzero(best >= 0)
            listed[rows, best[rows, places]] = True
        return int((listed & self.wanted).sum())


@dataclass(frozen=True)
class Boards:
    """What is chosen from: items new to each user, items they had, and all. The last two are None where nobody buys again."""

    new: Board
    again: Board | None = None
    every: Board | None = None

    @classmethod
    def of(
        cls,
        normalised: Scores,
        owned: sparse.csr_array,
        truth: sparse.csr_array,
        repeat: bool,
        depth: int = DEPTH,
    ) -> Boards:
        """normalised: by source, (n_users, n_items). `truth`: the same shape, bought after what the sources were fitted on."""
        had, wanted = owned.toarray() > 0, truth.toarray() > 0
        about_new = {name: scores for name, scores in normalised.items() if name != AGAIN_ONLY}
        new = Board.of(about_new, had, wanted, ~had, depth)
        if not repeat:
            return cls(new)
        again = Board.of(normalised, had, wanted, had, depth)
        return cls(new, again, Board.of(normalised, had, wanted, np.ones_like(had), depth))

    @classmethod
    def joined(cls, parts: Sequence[Boards]) -> Boards:
        def join(boards: list[Board | None]) -> Board | None:
            there = [board for board in boards if board is not None]
            return Board.joined(there) if there else None

        return cls(
            Board.joined([part.new for part in parts]),
            join([part.again for part in parts]),
            join([part.every for part in parts]),
        )

    def only(self, names: Iterable[str]) -> Boards:
        left = tuple(names)
        return Boards(
            self.new.only(left), self.again and self.again.only(left), self.every and self.every.only(left)
        )

    def weights(self, k: int) -> Weights:
        """Weights that maximise mean NDCG@k, by coordinate ascent in three small searches. Deterministic.

        First `new` over the items a user did not have, without AGAIN_ONLY, then `again` over those they had, then the scale
        between the two and the offset over all items.
        """
        new = _ascend(self.new, k)
        if (
            self.again is None or self.every is None
        ):  # what a user had is not shown: there is nothing to weigh
            return Weights({}, new, 0.0)
        again, board = _ascend(self.again, k), self.every
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

    def value(self, weights: Weights, k: int) -> float:
        """NDCG@k over items new to the user, and where something is bought again that over all items added."""
        found = self.new.ndcg(self.new.mix(weights.new), k)
        if self.every is not None:
            had = self.every.mix(weights.again) + np.float32(weights.offset)
            found += self.every.ndcg(np.where(self.every.had, had, self.every.mix(weights.new)), k)
        return found

    def found(self, depth: int) -> float:
        """Share of what was bought that a ranker would be shown: all that a user had, and each source's `depth` best new items."""
        had = int((self.every.wanted & self.every.had).sum()) if self.every is not None else 0
        total = int((self.every or self.new).n_relevant.sum())
        return (had + self.new.found(depth)) / max(total, 1)


def choose_weights(
    normalised: Scores,
    owned: sparse.csr_array,
    truth: sparse.csr_array,
    k: int = 20,
    repeat: bool = True,
) -> Weights:
    """`Boards.weights` of users whose scores are all at hand."""
    return Boards.of(normalised, owned, truth, repeat).weights(k)


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
