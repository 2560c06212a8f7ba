"""Validation while a tower learns: a seeded sample of the buyers of the window after a cut, the whole catalogue ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.goal import PURCHASES
from aisle.goal import had as had_after
from aisle.settings import Training
from engine import metrics
from engine.interactions import Catalogue, Counting, Events
from engine.state import from_frame
from engine.top_products import TopProducts
from engine.tuning import truth_matrix
from training.dataset import Dataset

DEPTH = 20


@dataclass(frozen=True)
class Judge:
    """users: histories at V of the sampled buyers; item_ids: the columns of what is judged; truth, new, had: (users, items).

    had: bought before; new: bought for the first time after.
    """

    users: pd.DataFrame
    item_ids: list[str]
    truth: sparse.csr_array
    new: sparse.csr_array
    had: sparse.csr_array

    @classmethod
    def of(cls, dataset: Dataset, settings: Training, cut: str = "V") -> Judge:
        """The buyers after the cut named `cut`: "R" | "V"."""
        bought = dataset.frame({"R": "truth_ranker", "V": "truth_validation"}[cut])
        known = dataset.frame(f"histories_{cut}")
        known = known[known["user_id"].isin(set(bought["user_id"]))]
        users = known.sample(min(settings.blend_users, len(known)), random_state=settings.seed)
        users = users.sort_values("user_id").reset_index(drop=True)
        catalogue, states = Catalogue.of(dataset.frame(f"items_{cut}")), from_frame(users)
        truth = truth_matrix(bought, states, catalogue)
        at = dict(dataset.cuts.items())[cut]
        counting = Counting(bought=had_after(settings.goal or PURCHASES))
        had = Events.of(states, catalogue.index, at, settings.event_weights, counting).bought()
        new = sparse.csr_array(truth - truth.multiply(had > 0))
        new.eliminate_zeros()
        return cls(users, catalogue.item_ids, truth, new, had)

    def figures(self, users: np.ndarray, items: np.ndarray) -> Mapping[str, float]:
        """ndcg@10 and recall@20 over all items, and new_ndcg@10 and new_recall@20 over those a user did not have.

        users, items: (., d) vectors, whose products order the lists. Means over the users with something to find; 0 where a vector is
        not finite.
        """
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            return dict.fromkeys(("ndcg@10", "recall@20", "new_ndcg@10", "new_recall@20"), 0.0)
        best = TopProducts.of(items)
        new = _means(best, users, self.new, self.had)
        return {**_means(best, users, self.truth), **{f"new_{name}": value for name, value in new.items()}}


def _means(
    best: TopProducts, users: np.ndarray, truth: sparse.csr_array, without: sparse.csr_array | None = None
) -> dict[str, float]:
    counts = np.diff(truth.indptr)
    there = np.flatnonzero(counts)
    if not len(there):
        return {"ndcg@10": 0.0, "recall@20": 0.0}
    listed, _ = best.top(users[there], DEPTH, None if without is None else without[there])
    hits = metrics.hits_of(listed, truth[there])
    return {
        "ndcg@10": float(metrics.ndcg(hits, counts[there], 10).mean()),
        "recall@20": float(metrics.recall(hits, counts[there], DEPTH).mean()),
    }
