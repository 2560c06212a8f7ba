"""Fits the ranker. Its examples for labels after a cut use sources fitted before that cut only (docs/adr/0006).

On validation's users the ranker that was learnt on the window before is set against the blend that was chosen there: neither has
seen them. The shop gets whichever serves them better, and a ranker that won is learnt anew from both windows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from engine.evaluation import HeldOut, evaluate
from engine.ranker import Ranker
from engine.ranking import names_of
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from engine.tuning import truth_matrix

# OpenMP's threads spin while they wait: on a core that others want too, that made training three times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

METRIC = "ndcg@10"
TREES = 150
# Shallow trees and few features a tree: the next window differs from the last, and what is learnt has to carry over.
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 30,
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 300,
    "lambda_l2": 100.0,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
# A recommender, the histories as of a moment, what was bought after it, and that moment.
Window = tuple[Recommender, pd.DataFrame, pd.DataFrame, datetime]
CELLS = 20_000_000  # scores of a source that are held at once: 80 MB
# Examples of people as they were after a few events, so that the ranker knows what to make of somebody new (docs/adr/0006).
SHORT_SHARE, SHORT_MOST = 0.25, 5  # of the buyers; events
LEAST_ROWS = 1_000  # candidates with labels: fewer teach trees nothing, and LightGBM wants 300 in a leaf


@dataclass(frozen=True)
class Examples:
    """features (n, f) float32, label (n,) 0 | 1: bought in the window; groups (users,) candidates of each, in order."""

    features: np.ndarray
    label: np.ndarray
    groups: np.ndarray
    sources: tuple[str, ...]

    @classmethod
    def of(
        cls,
        fitted: Recommender,
        histories: pd.DataFrame,
        truth: pd.DataFrame,
        at: datetime,
        max_users: int,
        seed: int,
    ) -> Examples:
        """histories: as of `at`; truth: user_id, item_id bought after it. A seeded sample of its buyers.

        SHORT_SHARE of them are there twice: once more with their newest events alone. Raises ValueError where the sources or a
        history know what came after `at`.
        """
        cut = _cut(fitted)
        if cut > at:
            raise ValueError(
                f"the sources were fitted to what was known at {cut.isoformat()}, and these examples are of {at.isoformat()}: "
                "they would have seen what they are asked for"
            )
        states = from_frame(_buyers(histories, truth, max_users, seed))
        newest = max((max(state.event_times, default=0) for state in states), default=0)
        if newest >= at.timestamp():
            raise ValueError(
                f"a history knows an event at {newest} (epoch s), and the cut is {at.isoformat()}"
            )
        size = max(1, CELLS // len(fitted.catalogue))
        parts = [
            cls._of_some(fitted, some[start : start + size], truth, at)
            for some in (states, _shortened(states, seed))
            for start in range(0, len(some), size)
        ]
        features, label, groups = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(features, label, groups, tuple(fitted.sources))

    @staticmethod
    def _of_some(
        fitted: Recommender, states: list[UserState], truth: pd.DataFrame, at: datetime
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """features, label and groups of some users; those without a hit are left out: there is nothing to order."""
        events = fitted.events(states, at)
        found = fitted.candidates(events, fitted.normalised_scores(events))
        wanted = truth_matrix(
            truth[truth["user_id"].isin({state.user_id for state in states})], states, fitted.catalogue
        )
        label = (np.asarray(wanted[found.user, found.item]).ravel() > 0).astype(np.int8)
        some = np.bincount(found.user, weights=label, minlength=len(states)) > 0
        kept = some[found.user]
        groups = np.bincount(found.user[kept], minlength=len(states))
        return found.features[kept], label[kept], groups[groups > 0]


def _shortened(states: Sequence[UserState], seed: int) -> list[UserState]:
    """A seeded SHORT_SHARE of the users, each with their newest 1 to SHORT_MOST events."""
    random = np.random.default_rng(seed)
    chosen = random.random(len(states)) < SHORT_SHARE
    kept = random.integers(1, SHORT_MOST + 1, len(states))
    return [state.newest(int(n)) for state, yes, n in zip(states, chosen, kept, strict=True) if yes]


def _buyers(histories: pd.DataFrame, truth: pd.DataFrame, max_users: int, seed: int) -> pd.DataFrame:
    known = histories[histories["user_id"].isin(set(truth["user_id"]))].sort_values("user_id")
    return known.sample(min(max_users, len(known)), random_state=seed).sort_index()


def learn(examples: Sequence[Examples], seed: int) -> Ranker | None:
    """One ranker from the windows' examples; None where there are too few. The same examples and seed give the same one."""
    import lightgbm

    features = np.vstack([each.features for each in examples])
    if len(features) < LEAST_ROWS:
        return None
    data = lightgbm.Dataset(
        features,
        np.concatenate([each.label for each in examples]),
        group=np.concatenate([each.groups for each in examples]),
        feature_name=list(names_of(examples[0].sources)),
    )
    model = lightgbm.train({**PARAMETERS, "seed": seed}, data, TREES)
    return Ranker(model.model_to_string())


@dataclass(frozen=True)
class Choice:
    """ranker: None where the blend serves validation's users as well. figures: what both reached there.

    judged: the ranker that validation judged, learnt on the window before; None where it was not taken.
    """

    ranker: Ranker | None
    figures: dict[str, float]
    judged: Ranker | None = None


def choose(
    before: Sequence[Window], validation: Window, max_users: int, seed: int, learn_users: int | None = None
) -> Choice:
    """max_users: who judge; learn_users: whom the ranker learns from, the same where None. Each recommender has the blend that was chosen on its own window. before: oldest first, all of them over by validation."""
    taught = learn_users or max_users
    first = [Examples.of(*each, taught, seed) for each in before]
    ranker = learn(first, seed)
    if ranker is None:
        return Choice(None, {})
    rivals = {
        "blend": validation[0].with_weights(before[-1][0].recipe.weights),
        "ranker": validation[0].with_ranker(ranker),
    }
    found = {name: _ndcg(rival, *validation[1:], max_users, seed) for name, rival in rivals.items()}
    figures = {
        f"validation/{name}/{column}/{METRIC}": value
        for name, columns in found.items()
        for column, value in columns.items()
    }
    # Both columns count alike: a ranker that only repeats is as little use as one that only surprises.
    gains = [found["ranker"][column] / max(found["blend"][column], 1e-9) - 1 for column in found["blend"]]
    if not gains or np.mean(gains) <= 0:
        return Choice(None, figures)
    return Choice(learn([*first, Examples.of(*validation, taught, seed)], seed), figures, ranker)


def _ndcg(
    fitted: Recommender,
    histories: pd.DataFrame,
    truth: pd.DataFrame,
    at: datetime,
    max_users: int,
    seed: int,
) -> dict[str, float]:
    """Mean METRIC by column ("all", "new") over a seeded sample of the buyers, the whole catalogue ranked."""
    buyers = _buyers(histories, truth, max_users, seed)
    wanted = truth[truth["user_id"].isin(set(buyers["user_id"]))]
    held = HeldOut.of(fitted, buyers, wanted, at)
    rows = evaluate(held, held.lists(fitted))
    rows = rows[rows["slice"].eq("all") & rows["metric"].eq(METRIC)]
    return {str(column): float(value) for column, value in rows.groupby("column")["value"].mean().items()}


def _cut(fitted: Recommender) -> datetime:
    if fitted.recipe.cut is None:
        raise ValueError("the recommender was not fitted at a cut")
    return fitted.recipe.cut
