"""A slice of the real shop as the gate's tests need it: histories before a cut, purchases after it, rankings and their
metrics. Every figure comes of a ranking that was computed; none is written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.lake import project_root
from engine import metrics

CUT = pd.Timestamp("2011-10-12")
UNTIL = pd.Timestamp("2011-11-09")
N_USERS, N_ITEMS = 900, 1200


@dataclass(frozen=True)
class Shop:
    """counts, truth: (users, items) csr, orders before the cut and purchases in the 28 days after it."""

    counts: sparse.csr_array
    truth: sparse.csr_array
    users: np.ndarray

    @property
    def popularity(self) -> np.ndarray:
        return np.asarray((self.counts > 0).sum(axis=0), dtype=float)


def load() -> Shop:
    """The users who buy after the cut, and the items bought most before it."""
    columns = ["customer_id", "stock_code", "invoice_ts", "quantity"]
    rows = pd.read_parquet(project_root() / "data" / "online_retail.parquet", columns=columns).dropna()
    rows = rows[rows["quantity"].gt(0) & rows["invoice_ts"].lt(UNTIL)]
    before, after = rows[rows["invoice_ts"].lt(CUT)], rows[rows["invoice_ts"].ge(CUT)]
    items = before.groupby("stock_code")["customer_id"].nunique().nlargest(N_ITEMS).index
    after = after[after["stock_code"].isin(items)]
    users = np.sort(after["customer_id"].unique())[:N_USERS]
    matrices = [_matrix(part, users, items) for part in (before, after)]
    held = np.asarray(matrices[1].sum(axis=1)).ravel() > 0
    return Shop(matrices[0][held], matrices[1][held], users[held].astype(str))


def _matrix(rows: pd.DataFrame, users: np.ndarray, items: pd.Index) -> sparse.csr_array:
    distinct = rows[["customer_id", "stock_code", "invoice_ts"]].drop_duplicates()
    row, column = pd.Index(users).get_indexer(distinct["customer_id"]), items.get_indexer(distinct["stock_code"])
    known = (row >= 0) & (column >= 0)
    shape = (len(users), len(items))
    return sparse.csr_array((np.ones(known.sum()), (row[known], column[known])), shape=shape)


def personal(shop: Shop, counts: sparse.csr_array | None = None) -> np.ndarray:
    """What a user bought most often; ties by popularity."""
    own = (shop.counts if counts is None else counts).toarray()
    return own + shop.popularity / (1 + shop.popularity.max())


def item_item(shop: Shop, counts: sparse.csr_array | None = None) -> np.ndarray:
    """Cosine of items over users, summed over a user's items."""
    seen = (shop.counts > 0).astype(float)
    norm = np.sqrt(np.maximum(shop.popularity, 1))
    similar = np.asarray((seen.T @ seen).todense()) / np.outer(norm, norm)
    np.fill_diagonal(similar, 0.0)
    return ((shop.counts if counts is None else counts) > 0).astype(float) @ similar


def blend(shop: Shop, weight: float = 0.3, counts: sparse.csr_array | None = None) -> np.ndarray:
    """Personal frequency with item-item neighbours: a stand-in for the recommender's own blend."""
    near = item_item(shop, counts)
    return personal(shop, counts) + weight * near / np.maximum(near.max(axis=1, keepdims=True), 1e-9)


def rows(shop: Shop, version: str, scores: np.ndarray) -> pd.DataFrame:
    """Rows of ops.evaluations of one version: both columns, all slices, metrics per user, coverage of all lists."""
    frames = []
    for column in ("all", "new"):
        known = shop.counts > 0
        truth = shop.truth if column == "all" else sparse.csr_array(shop.truth - shop.truth.multiply(known))
        truth.eliminate_zeros()
        masked = scores if column == "all" else np.where(known.toarray(), -np.inf, scores)
        listed = metrics.top_k(masked, 20)
        for slice_, (users, items) in _slices(shop).items():
            inside = sparse.csr_array(truth @ sparse.diags_array(items.astype(float)))
            frames.append(_measured(shop, listed, inside, users, column, slice_))
        share = metrics.coverage(listed, shop.counts.shape[1], 10)
        frames.append(pd.DataFrame([(column, "all", "", "coverage@10", share)], columns=COLUMNS))
    found = pd.concat(frames, ignore_index=True)
    return found.assign(evaluation_id="run", version=version, window="test")


COLUMNS = ["column", "slice", "user_id", "metric", "value"]


def _slices(shop: Shop) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """slice -> (users, items) that belong to it."""
    n = np.asarray(shop.counts.sum(axis=1)).ravel()
    everyone, everything = np.ones(len(n), bool), np.ones(shop.counts.shape[1], bool)
    rank = np.argsort(np.argsort(-shop.popularity))
    return {
        "all": (everyone, everything),
        "new_users": (n == 0, everything),
        "light_users": ((n > 0) & (n <= np.median(n)), everything),
        "heavy_users": (n > np.median(n), everything),
        "tail_items": (everyone, rank >= 0.5 * len(rank)),
    }


def _measured(shop, listed, truth, users, column, slice_) -> pd.DataFrame:
    relevant = np.asarray((truth > 0).sum(axis=1)).ravel()
    kept = users & (relevant > 0)
    hits, n = metrics.hits_of(listed[kept], truth[kept]), relevant[kept]
    values = {
        "ndcg@10": metrics.ndcg(hits, n, 10),
        "recall@20": metrics.recall(hits, n, 20),
        "mrr@10": metrics.mrr(hits, 10),
    }
    parts = [pd.DataFrame({"user_id": shop.users[kept], "metric": name, "value": value}) for name, value in values.items()]
    return pd.concat(parts).assign(column=column, slice=slice_)


def baselines(shop: Shop) -> pd.DataFrame:
    everyone = np.tile(shop.popularity, (len(shop.users), 1))
    parts = {"popularity": everyone, "personal_frequency": personal(shop), "item_item": item_item(shop)}
    return pd.concat([rows(shop, name, scores) for name, scores in parts.items()], ignore_index=True)
