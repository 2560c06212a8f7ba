"""Fits the ranker. Its examples for labels after a cut use sources fitted before that cut only (docs/adr/0006).

The ranker learnt on the window before validation is set against the blend on validation's users; the shop gets whichever
serves them better, and a ranker that won is learnt anew from both windows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from engine import metrics
from engine.ranker import Ranker
from engine.ranking import names_of
from engine.recommender import Recommender
from engine.state import from_frame
from engine.tuning import truth_matrix

# OpenMP's threads spin while they wait: on a core that others want too, that made training three times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

K = 10
TREES = 150
# Shallow trees and few features a tree: the next window differs from the last, and what is learnt has to carry over.
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 30,
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 300,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
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
        cls, fitted: Recommender, histories: pd.DataFrame, truth: pd.DataFrame, max_users: int, seed: int
    ) -> Examples:
        """`fitted`, `histories`: as of the cut; truth: user_id, item_id bought after it. A seeded sample of its buyers."""
        cut = fitted.recipe.cut
        if cut is None:
            raise ValueError("examples need a recommender that was fitted at a cut")
        states = from_frame(_buyers(histories, truth, max_users, seed))
        newest = max((max(state.event_times, default=0) for state in states), default=0)
        if newest >= cut.timestamp():
            raise ValueError(
                f"a history knows an event at {newest} (epoch s), and the cut is {cut.isoformat()}"
            )
        events = fitted.events(states, cut)
        found = fitted.candidates(events, fitted.normalised_scores(events))
        wanted = truth_matrix(truth, states, fitted.catalogue)
        label = (np.asarray(wanted[found.user, found.item]).ravel() > 0).astype(np.int8)
        some = (
            np.bincount(found.user, weights=label, minlength=len(states)) > 0
        )  # without a hit: nothing to order
        kept = some[found.user]
        groups = np.bincount(found.user[kept], minlength=len(states))
        return cls(found.features[kept], label[kept], groups[groups > 0], tuple(fitted.sources))


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
    """ranker: None where the blend serves validation's users as well. figures: what both reached there."""

    ranker: Ranker | None
    figures: dict[str, float]


def choose(
    before: tuple[Recommender, pd.DataFrame, pd.DataFrame],
    validation: tuple[Recommender, pd.DataFrame, pd.DataFrame],
    max_users: int,
    seed: int,
) -> Choice:
    """`before`, `validation`: a recommender fitted at a cut, the histories as of it and what was bought after it."""
    first = Examples.of(*before, max_users, seed)
    ranker = learn([first], seed)
    if ranker is None:
        return Choice(None, {})
    blend, ranked = (_ndcg(each, *validation[1:], max_users, seed) for each in _both(validation[0], ranker))
    figures = {f"validation/blend/ndcg@{K}": blend, f"validation/ranker/ndcg@{K}": ranked}
    if ranked <= blend:
        return Choice(None, figures)
    return Choice(learn([first, Examples.of(*validation, max_users, seed)], seed), figures)


def _both(fitted: Recommender, ranker: Ranker) -> tuple[Recommender, Recommender]:
    return fitted.with_ranker(None), fitted.with_ranker(ranker)


def _ndcg(
    fitted: Recommender, histories: pd.DataFrame, truth: pd.DataFrame, max_users: int, seed: int
) -> float:
    """Mean NDCG@K over a seeded sample of the buyers, the whole catalogue ranked."""
    states = from_frame(_buyers(histories, truth, max_users, seed))
    wanted = sparse.csr_array(truth_matrix(truth, states, fitted.catalogue))
    counts = np.diff(wanted.indptr)
    there = np.flatnonzero(counts)
    listed = np.vstack([metrics.top_k(scores, K) for scores in fitted.chunks(states, fitted.recipe.cut)])
    hits = metrics.hits_of(listed[there], wanted[there])
    return float(metrics.ndcg(hits, counts[there], K).mean())
