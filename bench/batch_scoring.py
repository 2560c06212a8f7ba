"""Users a second of exact top lists from the same factors: `implicit`'s `recommend`, the engine's and other ways of ours.

`python -m bench.batch_scoring [--threads 1 2] [--factors FILE.npz]`: k = 20, what a user already has is left out. By default the factors
are implicit's ALS on the sets of `bench.batch_factors`; a file holds U (users, d), V (items, d) and the CSR indptr, indices of what
users have. Every way's lists have to be the exact ones. With one thread processor time, with more the clock's; ways are timed in turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from bench import batch_factors, protocols
from bench.batch_factors import Asked
from bench.report import Figure, commit, earlier, publish
from engine import metrics, vnni
from engine.top_products import TopProducts

K, BLOCK, ROWS, ASKED, SORTED, ROUNDS = 20, 256, 2_048, 2_000, 200, 5
TIMES = 3.0
RIVAL, OURS = "implicit", "engine.top_products"
Way = Callable[[], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m bench.batch_scoring --threads 1 --only online_retail"
    )
    parser.add_argument("--factors", type=Path)
    parser.add_argument("--threads", type=int, nargs="*", default=(1, 2))
    parser.add_argument(
        "--only", choices=batch_factors.SHAPES, help="one size; what this commit measured of the others stays"
    )
    asked = parser.parse_args()
    if asked.factors:
        label = asked.factors.stem
        publish(f"batch_scoring_{label}", _of_shape(label, batch_factors.read(asked.factors), asked.threads))
        return
    before = earlier("batch_scoring")
    kept = before.get("figures", {}) if asked.only and before.get("commit") == commit() else {}
    figures = {label: Figure(**each) for label, each in kept.items()}
    for name in [asked.only] if asked.only else batch_factors.SHAPES:
        _say(f"{name}: factors …")
        try:
            figures |= _of_shape(*batch_factors.shape(name), asked.threads)
        except protocols.NotHere as missing:
            _say(str(missing))
    if figures:
        publish("batch_scoring", figures)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _of_shape(name: str, held: Asked, threads: Sequence[int]) -> dict[str, Figure]:
    chosen = np.sort(np.random.default_rng(7).permutation(len(held.users))[:ASKED])
    parts = (np.ascontiguousarray(each, np.float32) for each in (held.users[chosen], held.items))
    question = Asked(*parts, held.owned[chosen])
    figures: dict[str, Figure] = {}
    for count in threads:
        _say(
            f"{name}, {len(held.items):,} items of {held.items.shape[1]}, {count} thread{'s' * (count > 1)} …"
        )
        figures |= measured(f"{name}, ", question, count)
    return figures


def measured(name: str, asked: Asked, threads: int) -> dict[str, Figure]:
    clock = time.process_time if threads == 1 else time.perf_counter
    ways, seconds = ways_of(asked, threads), {}
    exact(asked, ways[OURS]())
    wanted = np.sort(products(asked, ways[RIVAL]()), axis=1)
    with threadpool_limits(threads):
        for name_of, way in ways.items():
            np.testing.assert_allclose(
                np.sort(products(asked, way()), axis=1), wanted, rtol=1e-3, atol=1e-4, err_msg=name_of
            )
            seconds[name_of] = []
        for number in range(ROUNDS):
            _say(f"  round {number + 1} of {ROUNDS}")
            for name_of, way in ways.items():
                started = clock()
                way()
                seconds[name_of].append(clock() - started)
        started = clock()
        TopProducts.of(asked.items)
        made = clock() - started
    rates = {each: len(asked.users) / float(np.median(found)) for each, found in seconds.items()}
    unit = "users per processor second" if threads == 1 else "users per second"
    shape = f"{len(asked.items):,} items of {asked.items.shape[1]}"
    label = f"{name}{shape}, {threads} thread{'s' * (threads > 1)}"
    found = {f"{label}: {each}": Figure(rate, unit) for each, rate in rates.items()}
    found[f"{label}: {OURS}, made once"] = Figure(made, "s", "<=")
    found[f"{label}: {OURS} over {RIVAL}"] = Figure(rates[OURS] / rates[RIVAL], "times", ">=", TIMES)
    return found


def ways_of(asked: Asked, threads: int) -> dict[str, Way]:
    from implicit.cpu.als import AlternatingLeastSquares

    users, items, owned = asked
    model = AlternatingLeastSquares(items.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = users, items
    everyone, ours = np.arange(len(users)), TopProducts.of(items)
    found: dict[str, Way] = {
        RIVAL: lambda: model.recommend(everyone, owned, N=K, filter_already_liked_items=True)[0],
        OURS: lambda: ours.top(users, K, owned, threads)[0],
        "threshold from block maxima": lambda: by_threshold(users, items, owned),
        "longest items first, Cauchy-Schwarz": lambda: by_norm(users, items, owned),
    }
    if vnni.here():
        floats = TopProducts.of(items, by_bytes=False)
        found[f"{OURS} without AVX-512 VNNI"] = lambda: floats.top(users, K, owned, threads)[0]
    return found


def exact(asked: Asked, listed: np.ndarray) -> None:
    """Raises AssertionError where some users' lists are not those of a full sort in double precision, ties by row."""
    scores = asked.users[:SORTED].astype(np.float64) @ asked.items.T.astype(np.float64)
    _leave_out(scores, asked.owned, 0)
    np.testing.assert_array_equal(listed[:SORTED], np.argsort(-scores, axis=1, kind="stable")[:, :K])


def products(asked: Asked, listed: np.ndarray) -> np.ndarray:
    return np.einsum("ud,ukd->uk", asked.users, asked.items[listed])


def by_threshold(users: np.ndarray, items: np.ndarray, owned: sparse.csr_matrix) -> np.ndarray:
    """A product of a block of users with all items; the k-th largest of blocks' maxima bounds what is looked at."""
    listed = []
    for start in range(0, len(users), BLOCK):
        scores = users[start : start + BLOCK] @ items.T
        _leave_out(scores, owned, start)
        listed.append(metrics.top_k(scores, K))
    return np.vstack(listed)


def by_norm(users: np.ndarray, items: np.ndarray, owned: sparse.csr_matrix) -> np.ndarray:
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


if __name__ == "__main__":
    main()
