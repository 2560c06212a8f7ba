"""Held-out quality of a recommender, per user: full ranking, two columns, slices (docs: how quality is
judged).

Column `all` ranks every item against everything bought after the cut. Column `new` asks for something new:
items that a user already bought are taken out of the list and out of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.settings import Final
from engine import metrics, slices
from engine.blend import Weights
from engine.interactions import Catalogue
from engine.recommender import Recommender
from engine.sources.popularity import Popularity
from engine.state import UserState, from_frame
from engine.tuning import truth_matrix

DEPTH = 20
PER_USER = ("ndcg@10", "recall@20", "mrr@10", "ndcg@20")
LIST_WIDE = ("coverage@10", "novelty@10")
COLUMNS = ("all", "new")


@dataclass(frozen=True)
class HeldOut:
    """What was bought in a window, beside what was known at its start.

    states: the window's buyers, sorted by id, without a history where they are new. truth, owned: (n_users,
    n_items), bought in the window and before it.
    """

    now: datetime
    states: list[UserState]
    truth: sparse.csr_array
    owned: sparse.csr_array
    catalogue: Catalogue
    n_known_users: int

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        histories: pd.DataFrame,
        truth: pd.DataFrame,
        now: datetime,
        countries: Mapping[str, str] | None = None,
    ) -> HeldOut:
        """truth: user_id, item_id; countries: of users without a history. Unknown items cannot be hit."""
        buyers = sorted(set(truth["user_id"].astype(str)))
        known = {state.user_id: state for state in from_frame(histories[histories["user_id"].isin(buyers)])}
        countries = countries or {}
        states = [known.get(user) or UserState(user, countries.get(user)) for user in buyers]
        wanted = truth_matrix(truth, states, recommender.catalogue)
        owned = recommender.events(states, now).bought()
        return cls(now, states, wanted, owned, recommender.catalogue, len(histories))

    def lists(self, recommender: Recommender) -> dict[str, np.ndarray]:
        """(n_users, DEPTH) item rows by column. The recommender must have the same catalogue."""
        found: dict[str, list[np.ndarray]] = {column: [] for column in COLUMNS}
        start = 0
        for scores in recommender.chunks(self.states, self.now):
            found["all"].append(recommender.top(scores, DEPTH))
            scores[self.owned[start : start + len(scores)].nonzero()] = -np.inf
            found["new"].append(recommender.top(scores, DEPTH))
            start += len(scores)
        return {column: np.vstack(parts) for column, parts in found.items()}


def evaluate(held: HeldOut, lists: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """column, slice, user_id, metric, value; user_id is '' for list-wide metrics. No truth, no row."""
    of_users = slices.of_users(np.array([len(state.item_ids) for state in held.states]))
    of_items = slices.of_items(held.catalogue)
    parts = []
    for column in COLUMNS:
        truth = held.truth if column == "all" else _without(held.truth, held.owned)
        for name, users in of_users.items():
            parts.append(_rows(held, lists[column], truth, users, column, name))
        for name, items in of_items.items():
            only = sparse.csr_array(truth.multiply(items[None, :]))
            parts.append(_rows(held, lists[column], only, of_users[slices.ALL], column, name))
        parts.append(_list_wide(held, lists[column][of_users[slices.ALL]], column))
    return pd.concat(parts, ignore_index=True)


def baseline(recommender: Recommender, source: str) -> Recommender:
    """One source alone and no last stage, with the same fallback to what is popular for users without a history."""
    only = recommender.without(set(recommender.sources) - {source, Popularity.name})
    return only.with_weights(Weights(again={source: 1.0}, new={source: 1.0})).with_final(Final())


def _without(truth: sparse.csr_array, owned: sparse.csr_array) -> sparse.csr_array:
    left = sparse.csr_array(truth - truth.multiply(owned))
    left.eliminate_zeros()
    return left


def _rows(
    held: HeldOut, listed: np.ndarray, truth: sparse.csr_array, users: np.ndarray, column: str, name: str
) -> pd.DataFrame:
    n_relevant = np.asarray(truth.sum(axis=1)).astype(int)
    chosen = np.flatnonzero(users & (n_relevant > 0))
    hits, wanted = metrics.hits_of(listed[chosen], truth[chosen]), n_relevant[chosen]
    values = {
        "ndcg@10": metrics.ndcg(hits, wanted, 10),
        "recall@20": metrics.recall(hits, wanted, 20),
        "mrr@10": metrics.mrr(hits, 10),
        "ndcg@20": metrics.ndcg(hits, wanted, 20),
    }
    ids = [held.states[user].user_id for user in chosen]
    wide = pd.DataFrame({"user_id": ids, **values}).melt("user_id", var_name="metric", value_name="value")
    return wide.assign(column=column, slice=name)[["column", "slice", "user_id", "metric", "value"]]


def _list_wide(held: HeldOut, listed: np.ndarray, column: str) -> pd.DataFrame:
    novelty = metrics.novelty(listed, held.catalogue.numbers("n_buyers"), held.n_known_users, 10)
    values = [
        metrics.coverage(listed, len(held.catalogue), 10),
        float(novelty.mean()) if len(novelty) else float("nan"),
    ]
    return pd.DataFrame(
        {"column": column, "slice": slices.ALL, "user_id": "", "metric": list(LIST_WIDE), "value": values}
    )
