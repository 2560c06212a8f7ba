"""Users a second of exact top lists from the same factors: `implicit`'s `recommend`, and ways of ours, one thread each and two.

`python -m bench.batch_scoring [--factors FILE.npz]`: k = 20, what a user already has is left out. By default the factors are
implicit's ALS on the shipped shop; a file holds U (users, d), V (items, d) and the CSR indptr, indices of what users have. Every
way's lists have to be the exact ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from aisle.lake import project_root
from bench import online_retail
from bench.report import Figure, publish

K, BLOCK, ROWS, ASKED = 20, 256, 2_048, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=Path)
    asked = parser.parse_args()
    if asked.factors:
        held = np.load(asked.factors)
        users, items = held["U"], held["V"]
        shape = (len(users), len(items))
        owned = sparse.csr_matrix(
            (np.ones(len(held["indices"]), np.float32), held["indices"], held["indptr"]), shape
        )
    else:
        users, items, owned = shipped()
    chosen = np.sort(np.random.default_rng(7).permutation(len(users))[:ASKED])
    users = np.ascontiguousarray(users[chosen], np.float32)
    items, owned = np.ascontiguousarray(items, np.float32), owned[chosen]
    figures: dict[str, Figure] = {}
    for threads in (1, 2):
        figures |= measured(users, items, owned, threads)
    publish(f"batch_scoring_{asked.factors.stem}" if asked.factors else "batch_scoring", figures)


def shipped() -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    from implicit.cpu.als import AlternatingLeastSquares

    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    window = online_retail.window(lines, online_retail.END - timedelta(days=28), 28)
    index = {item: row for row, item in enumerate(window.items["item_id"])}
    known = [[index[item] for item in set(each) if item in index] for each in window.histories["item_ids"]]
    ends = np.concatenate([[0], np.cumsum([len(each) for each in known])])
    places = np.concatenate([np.sort(each) for each in known]).astype(np.int32)
    owned = sparse.csr_matrix((np.ones(len(places), np.float32), places, ends), (len(known), len(index)))
    model = AlternatingLeastSquares(64, num_threads=1, random_state=7)
    model.fit(owned, show_progress=False)
    return model.user_factors, model.item_factors, owned


def measured(users, items, owned, threads: int) -> dict[str, Figure]:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(items.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = users, items
    ways: dict[str, Callable[[], np.ndarray]] = {
        "implicit": lambda: model.recommend(np.arange(len(users)), owned, N=K, filter_already_liked_items=True)[0],
        "partition of whole rows": lambda: whole(users, items, owned),
        "threshold from block maxima": lambda: by_threshold(users, items, owned),
        "longest items first, Cauchy-Schwarz": lambda: by_norm(users, items, owned),
    }  # fmt: skip
    wanted = np.sort(whole_scores(users, items, ways["implicit"]()), axis=1)
    found: dict[str, Figure] = {}
    rates = {}
    with threadpool_limits(threads):
        for name, way in ways.items():
            listed, times = way(), []
            np.testing.assert_allclose(
                np.sort(whole_scores(users, items, listed), axis=1), wanted, rtol=1e-3, atol=1e-4
            )
            for _ in range(3):
                started = time.perf_counter(), time.process_time()
                way()
                spent = time.process_time() - started[1] if threads == 1 else time.perf_counter() - started[0]
                times.append(spent)
            rates[name] = len(users) / float(np.median(times))
    unit = "users per processor second" if threads == 1 else "users per second"
    label = f"{len(items):,} items of {items.shape[1]}, {threads} thread{'s' * (threads > 1)}"
    for name, rate in rates.items():
        found[f"{label}: {name}"] = Figure(rate, unit)
    best = max(rate for name, rate in rates.items() if name != "implicit")
    found[f"{label}: best of ours over implicit"] = Figure(best / rates["implicit"], "times", ">=", 3)
    return found


def whole_scores(users: np.ndarray, items: np.ndarray, listed: np.ndarray) -> np.ndarray:
    return np.einsum("ud,ukd->uk", users, items[listed])


def whole(users, items, owned) -> np.ndarray:
    """A product of a block of users with all items, and a partition of each row."""
    parts = []
    for start in range(0, len(users), BLOCK):
        scores = users[start : start + BLOCK] @ items.T
        _leave_out(scores, owned, start)
        parts.append(_ordered(scores, np.argpartition(-scores, K - 1, axis=1)[:, :K]))
    return np.vstack(parts)


def by_threshold(users, items, owned) -> np.ndarray:
    """As `whole`; the k-th largest of blocks' maxima bounds what has to be looked at, a pass instead of a partition."""
    listed = np.empty((len(users), K), np.int64)
    width = max(2, min(64, len(items) // (8 * K)))
    blocks = len(items) // width
    for start in range(0, len(users), BLOCK):
        scores = users[start : start + BLOCK] @ items.T
        _leave_out(scores, owned, start)
        maxima = scores[:, : blocks * width].reshape(len(scores), width, blocks).max(axis=1)
        least = np.partition(maxima, blocks - K, axis=1)[:, blocks - K]
        for row, (each, bound) in enumerate(zip(scores, least, strict=True), start):
            among = np.flatnonzero(each >= bound)
            listed[row] = among[np.argsort(-each[among])[:K]]
    return listed


def by_norm(users, items, owned) -> np.ndarray:
    """Items by length, longest first, some at a time: who has k that no later item can beat, for |u| |v| bounds it, is done."""
    norm = np.linalg.norm(items, axis=1)
    order = np.argsort(-norm)
    items, norm, lengths = items[order], norm[order], np.linalg.norm(users, axis=1)
    owned = owned[:, order]
    listed = np.empty((len(users), K), np.int64)
    for start in range(0, len(users), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(users)))
        best = np.full((len(rows), K), -np.inf, np.float32)
        place = np.zeros((len(rows), K), np.int64)
        left = np.arange(len(rows))
        for first in range(0, len(items), ROWS):
            left = left[lengths[rows[left]] * norm[first] > best[left].min(axis=1)]
            if not len(left):
                break
            scores = users[rows[left]] @ items[first : first + ROWS].T
            mine = owned[rows[left], first : first + ROWS].tocoo()
            scores[mine.row, mine.col] = -np.inf
            both = np.hstack([best[left], scores])
            where = np.hstack(
                [place[left], np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)]
            )
            kept = np.argpartition(-both, K - 1, axis=1)[:, :K]
            best[left] = np.take_along_axis(both, kept, axis=1)
            place[left] = np.take_along_axis(where, kept, axis=1)
        listed[rows] = order[np.take_along_axis(place, np.argsort(-best, axis=1), axis=1)]
    return listed


def _leave_out(scores: np.ndarray, owned: sparse.csr_matrix, start: int) -> None:
    mine = slice(owned.indptr[start], owned.indptr[start + len(scores)])
    lengths = np.diff(owned.indptr[start : start + len(scores) + 1])
    scores[np.repeat(np.arange(len(scores)), lengths), owned.indices[mine]] = -np.inf


def _ordered(scores: np.ndarray, best: np.ndarray) -> np.ndarray:
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)


if __name__ == "__main__":
    main()
