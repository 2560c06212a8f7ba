"""Ranking metrics, one value per user, over the full ranking of the catalogue (never sampled).

Every metric reads `hits` (n_users, depth) bool: whether the item at each place of a user's list is relevant.
A list shorter than the depth has False where it ends. Users without a relevant item have no value: drop them
first.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """(n, k) columns of the k largest scores, best first; ties by column, so that a list can be repeated.

    Items whose score is not finite are never listed; a short list is padded with -1.
    """
    k = min(k, scores.shape[1])
    clean = np.where(np.isfinite(scores), scores, -np.inf)
    kth = -np.partition(-clean, k - 1, axis=1)[:, k - 1 : k] if k else clean[:, :0]
    listed = np.full((len(clean), k), -1, np.int64)
    for user, (row, least) in enumerate(zip(clean, kth, strict=True)):
        among = np.flatnonzero((row >= least) & (row > -np.inf))
        best = among[np.argsort(-row[among], kind="stable")][:k]
        listed[user, : len(best)] = best
    return listed


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
