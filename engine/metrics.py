"""Ranking metrics, one value per user, over the full ranking of the catalogue (never sampled).

Every metric reads `hits` (n_users, depth) bool: whether the item at each place of a user's list is relevant.
A list shorter than the depth has False where it ends. Users without a relevant item have no value: drop them
first.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

WIDEST = 64  # items of a block, see `bounds`


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """(n, k) columns of the k largest scores, best first; ties by column, so that a list can be repeated.

    Items whose score is not finite are never listed; a short list is padded with -1.
    """
    k = min(k, scores.shape[1])
    clean = np.where(np.isfinite(scores), scores, -np.inf)
    listed = np.full((len(clean), k), -1, np.int64)
    if not k:
        return listed
    for user, (row, least) in enumerate(zip(clean, bounds(clean, k), strict=True)):
        best = best_first(row, least, k)[:k]
        listed[user, : len(best)] = best
    return listed


def bounds(rows: np.ndarray, most: int) -> np.ndarray:
    """(n,) values that the `most` largest of each row do not lie below, and few others lie above. rows: without NaN.

    The `most`-th largest of the maxima of blocks: a pass over the row and a partition of what is left of it, where a
    partition of the whole row takes ten times as long.
    """
    n = rows.shape[1]
    width = min(n // (4 * most), WIDEST)
    if width < 2:
        return -np.partition(-rows, most - 1, axis=1)[:, most - 1]
    blocks = n // width
    found = np.empty(len(rows), rows.dtype)
    for place, row in enumerate(rows):
        maxima = row[: blocks * width].reshape(width, blocks).max(axis=0)
        found[place] = np.partition(maxima, blocks - most)[blocks - most]
    return found


def best_first(row: np.ndarray, least: float, most: int) -> np.ndarray:
    """Columns of the `most` largest finite values at least, best first, ties by column. least: as `bounds` has it."""
    among = np.flatnonzero(row > least)
    if (
        len(among) < most and least > -np.inf
    ):  # the rest ties, often with half the catalogue: as many as are wanted
        among = np.concatenate([among, np.flatnonzero(row == least)[:most]])
    return among[np.argsort(-row[among], kind="stable")]


def hits_of(listed: np.ndarray, truth: sparse.csr_array) -> np.ndarray:
    """(n, k) bool: whether each listed item is in the user's row of `truth` (n, n_items)."""
    if not listed.size:
        return np.zeros(listed.shape, bool)
    users = np.broadcast_to(np.arange(len(listed))[:, None], listed.shape)
    found = np.asarray(truth[users.ravel(), np.maximum(listed, 0).ravel()]).reshape(listed.shape)
    return (found != 0) & (listed >= 0)


def ndcg(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Discounted gain of k places over that of the best possible list. Järvelin and Kekäläinen (2002)."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gain = hits[:, :k] @ discount[: hits.shape[1]]
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(n_relevant, k)]
    return gain / ideal


def recall(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of a user's relevant items that the first k places hold."""
    return hits[:, :k].sum(axis=1) / n_relevant


def mrr(hits: np.ndarray, k: int) -> np.ndarray:
    """One over the place of the first hit; 0 where the first k places hold none."""
    first = hits[:, :k].argmax(axis=1)
    return hits[:, :k].any(axis=1) / (first + 1.0)


def hit(hits: np.ndarray, k: int) -> np.ndarray:
    """Whether the first k places hold a relevant item."""
    return hits[:, :k].any(axis=1).astype(float)


def coverage(listed: np.ndarray, n_items: int, k: int) -> float:
    """Share of the catalogue that the first k places of all lists together show."""
    return len(np.setdiff1d(listed[:, :k], [-1])) / n_items


def novelty(listed: np.ndarray, n_buyers: np.ndarray, n_users: int, k: int) -> np.ndarray:
    """Mean self-information of the first k places in bits: -log2(share of users who bought the item).

    Vargas and Castells (2011). An item that nobody bought counts as bought by one.
    """
    bits = -np.log2(np.maximum(n_buyers, 1) / max(n_users, 1))
    shown = listed[:, :k] >= 0
    return (bits[np.maximum(listed[:, :k], 0)] * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
