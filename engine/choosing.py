"""Chooses a blend's weights: coordinate ascent on the items that some source ranks high, for validation's buyers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from engine.blend import Scores, Weights
from engine.board import Board

DEPTH = 100  # of each source's best items that may enter the list
AGAIN_ONLY = (
    "personal"  # of an item that a user never had it knows nothing: there it would weigh its tie-break only
)
STEPS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
OFFSETS = tuple(np.arange(-2.0, 12.5, 0.5).tolist())
Weighed = dict[str, float]


@dataclass(frozen=True)
class Boards:
    """What is chosen from: items new to each user, items they had, and all. The last two are None where nothing that they had is shown."""

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
        bought: sparse.csr_array | None = None,
    ) -> Boards:
        """normalised: by source, (n_users, n_items). `truth`: the same shape, bought after what the sources were fitted on.

        bought: of what they had, what is not shown without `repeat`; None for all of it.
        """
        had, wanted = owned.toarray() > 0, truth.toarray() > 0
        about_new = {name: scores for name, scores in normalised.items() if name != AGAIN_ONLY}
        new = Board.of(about_new, had, wanted, ~had, depth)
        if not repeat and bought is None:
            return cls(new)
        shown = np.ones_like(had)
        if not repeat and bought is not None:
            shown[bought.nonzero()] = False
        again = Board.of(normalised, had, wanted, had & shown, depth)
        return cls(new, again, Board.of(normalised, had, wanted, shown, depth))

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
        if self.again is None or self.every is None:
            # What they bought is not shown, and nobody looked without buying: who does from now on likes it as what is new.
            return Weights(new, new, 0.0)
        again = _ascend(self.again, k)
        scale, offset = _lift(self.every, again, new, k)
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


def _lift(board: Board, again: Weighed, new: Weighed, k: int) -> tuple[float, float]:
    """Scale and offset of what users had, over what is new to them: the best of SCALES and OFFSETS.

    Neither changes the order within one of the two, so that only their `k` best are merged.
    """
    halves = [np.where(board.had, -np.inf, board.mix(new)), np.where(board.had, board.mix(again), -np.inf)]
    places = [np.argsort(-half, axis=1, kind="stable")[:, :k] for half in halves]
    fresh, known = (np.take_along_axis(*each, axis=1) for each in zip(halves, places, strict=True))
    short = board.at(np.hstack(places), np.isfinite(np.hstack([fresh, known])))
    tried = {
        (scale, offset): short.ndcg(np.hstack([fresh, scale * known + offset]), k)
        for scale in SCALES
        for offset in OFFSETS
    }
    return max(tried, key=tried.__getitem__)


def _ascend(board: Board, k: int, rounds: int = 4) -> dict[str, float]:
    """From the best single source on, tries each weight of each source in turn until nothing helps."""
    alone = {name: board.ndcg(board.mix({name: 1.0}), k) for name in board.names}
    first = max(alone, key=alone.__getitem__)
    weights, best = {name: float(name == first) for name in board.names}, alone[first]
    seen: set[tuple[float, ...]] = set()  # a later round comes by the same places until something changes
    for _ in range(rounds):
        before = best
        for name, values in zip(board.names, board.values, strict=True):
            others = board.mix({**weights, name: 0.0})
            for step in STEPS:
                trial = {**weights, name: step}
                if (key := tuple(trial.values())) in seen or not any(key):
                    continue
                seen.add(key)
                value = board.ndcg(others + np.float32(step) * values if step else others, k)
                if value > best + 1e-5:
                    weights, best = trial, value
        if best <= before + 1e-4:
            break
    return weights
