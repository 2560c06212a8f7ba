"""One judge for all: lists of item rows against what was really bought, the whole catalogue ranked.

Column `all` asks for everything; `new` takes what a user already has out of the truth (and lists leave it out). Judged are
users with a history; who has nothing left to find is dropped. Recall is hits over all that was to be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.goal import had
from engine import intervals, metrics
from engine.windows import Window

DEPTH = 20


@dataclass(frozen=True)
class Question:
    """A window as arrays: what a peer learns from, whom it is asked about, and the answers.

    item_ids: sorted, column i of everything is item_ids[i]. user_ids: all with a history. user, item (int32) and
    age (days): one entry a purchase. asked: rows of user_ids. truth, owned: (asked, items) of 0 | 1.
    """

    item_ids: np.ndarray
    user_ids: np.ndarray
    user: np.ndarray
    item: np.ndarray
    age: np.ndarray
    asked: np.ndarray
    truth: sparse.csr_array
    owned: sparse.csr_array
    window: Window = field(repr=False, compare=False)

    @classmethod
    def of(cls, window: Window, most: int | None = None, seed: int = 7) -> Question:
        """most: a seeded sample of so many users is asked about (choosing on validation); None for all (judging)."""
        shown = window.items[~window.items["deleted"].astype(bool)]
        item_ids = np.array(sorted(shown["item_id"].astype(str)), dtype=object)
        columns, users = pd.Index(item_ids), window.histories["user_id"].to_numpy(dtype=object)
        rows = pd.Index(users)
        events = _events(window, columns)
        item_of, user_of = (
            columns.get_indexer(window.truth["item_id"]),
            rows.get_indexer(window.truth["user_id"]),
        )
        found = (item_of >= 0) & (user_of >= 0)
        asked = np.unique(user_of[found])
        if most and most < len(asked):
            asked = np.sort(np.random.default_rng(seed).choice(asked, most, replace=False))
        shape = (len(users), len(item_ids))
        truth = _pairs(user_of[found], item_of[found], shape)[asked]
        owned = _pairs(events["user"], events["item"], shape)[asked]
        return cls(item_ids, users, **events, asked=asked, truth=truth, owned=owned, window=window)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.user_ids), len(self.item_ids)

    def matrix(self, half_life_days: float | None = None, binary: bool = False) -> sparse.csr_matrix:
        """(users, items) float32: log1p of how often, or 1."""
        values = np.ones(len(self.user)) if half_life_days is None else 0.5 ** (self.age / half_life_days)
        found = sparse.coo_matrix(
            (values.astype(np.float32), (self.user, self.item)), shape=self.shape
        ).tocsr()
        found.data = np.ones_like(found.data) if binary else np.log1p(found.data)
        return found

    def wanted(self, column: str) -> sparse.csr_array:
        if column == "all":
            return self.truth
        left = sparse.csr_array(self.truth - self.truth.multiply(self.owned))
        left.eliminate_zeros()
        return left


def _events(window: Window, columns: pd.Index) -> dict[str, np.ndarray]:
    """Purchases, or what stands for them in the shop at hand, of items in the catalogue."""
    histories = window.histories
    lengths = histories["item_ids"].str.len().to_numpy()
    user = np.repeat(np.arange(len(histories), dtype=np.int32), lengths)
    flat = {name: histories[name].explode().to_numpy() for name in ("item_ids", "event_types", "event_times")}
    item = columns.get_indexer(flat["item_ids"]).astype(np.int32)
    keep = (item >= 0) & np.isin(flat["event_types"].astype(str), had(window.goal))
    age = (window.at.timestamp() - flat["event_times"].astype(float)) / 86_400
    return {"user": user[keep], "item": item[keep], "age": age[keep]}


def _pairs(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    found = sparse.csr_array((np.ones(len(user), np.float32), (user, item)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


def judge(question: Question, column: str, lists: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """user_id and a column per metric ("ndcg@10", "recall@20"). lists: (asked, DEPTH) item columns, -1 after an end."""
    if len(lists) != len(question.asked):
        raise ValueError(f"{len(lists)} lists for {len(question.asked)} users")
    wanted = question.wanted(column)
    counts = np.diff(wanted.indptr)
    some = np.flatnonzero(counts)
    hits = metrics.hits_of(lists[some], sparse.csr_array(wanted[some]))
    values = {}
    for name in names:
        kind, k = name.split("@")
        values[name] = {"ndcg": metrics.ndcg, "recall": metrics.recall}[kind](hits, counts[some], int(k))
    return pd.DataFrame({"user_id": question.user_ids[question.asked[some]], **values})


def summary(
    question: Question, lists: Mapping[str, np.ndarray], names: tuple[str, ...], samples: int = 1000
) -> list[dict[str, object]]:
    """column, metric, mean, low, high, n of every metric, and each column's coverage@20 as its share of the catalogue."""
    rows: list[dict[str, object]] = []
    for column, listed in lists.items():
        found = judge(question, column, listed, names)
        for name in names:
            interval = intervals.of_mean(found[name].to_numpy(), samples)
            rows.append({"column": column, "metric": name, **interval.as_dict()})
        share = metrics.coverage(listed, len(question.item_ids), DEPTH)
        rows.append({"column": column, "metric": "coverage@20", "mean": share, "n": len(listed)})
    return rows
