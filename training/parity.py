"""Guards between a gated model and its refit: the same recipe on newer days may differ, but not be another model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from aisle.settings import Gate
from engine.recommender import Recommender
from engine.state import UserState

COVERAGE_KEPT = 0.5  # of the gated model's coverage: less is a collapse onto a few items


@dataclass(frozen=True)
class Parity:
    """overlap: mean share of a user's list that both models have; coverage: items in all lists together."""

    overlap: float
    gated_coverage: int
    refit_coverage: int
    faults: list[str]

    def as_dict(self) -> dict[str, float | int | list[str]]:
        figures = {"overlap": round(self.overlap, 4), "gated_coverage": self.gated_coverage}
        return {**figures, "refit_coverage": self.refit_coverage, "faults": self.faults}


def check(
    gated: Recommender,
    refit: Recommender,
    states: Sequence[UserState],
    now: datetime,
    deleted: Collection[str],
    gate: Gate,
) -> Parity:
    """Both models' top gate.k for the same users at `now`. `deleted`: items that the refit may lack."""
    faults = refit.faults()
    if gated.recipe.feature_service != refit.recipe.feature_service:
        faults.append(
            f"feature service {refit.recipe.feature_service}, the gated model has {gated.recipe.feature_service}"
        )
    lost = sorted(set(gated.catalogue.item_ids) - set(refit.catalogue.item_ids) - set(deleted))
    if lost:
        faults.append(
            f"{len(lost)} items of the gated model are gone, though not deleted: {', '.join(lost[:5])}"
        )
    old, new = (_lists(each, states, gate.k, now) for each in (gated, refit))
    empty = sum(not each for each in new)
    if empty:
        faults.append(f"{empty} of {len(states)} lists are empty")
    overlap = (
        float(np.mean([len(a & b) / max(len(a), 1) for a, b in zip(old, new, strict=True)]))
        if states
        else 0.0
    )
    if overlap < gate.parity_overlap:
        faults.append(
            f"lists share {overlap:.2f} of their items with the gated model's, gate.parity_overlap asks for {gate.parity_overlap}"
        )
    covered = [len(set().union(*each)) for each in (old, new)]
    if covered[1] < COVERAGE_KEPT * covered[0]:
        faults.append(f"lists show {covered[1]} items together, the gated model's {covered[0]}")
    return Parity(overlap, *covered, faults)


def _lists(model: Recommender, states: Sequence[UserState], k: int, now: datetime) -> list[set[str]]:
    return [set(row) - {""} for row in model.batch(states, k, now)[0]]
