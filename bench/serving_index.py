"""`python -m bench.serving_index PREPARED OUT`: candidates by the engine's index beside exact search, on learned vectors.

The vectors are those of a source of the shop's own bundle, the queries its users' own. Exact is one matrix-vector product and a
partial sort. The bench runs both on one thread, as a request does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from aisle import settings as settings_module
from engine.index import Index
from engine.recommender import Recommender
from engine.vector_sources import query_of, vectors_of
from serving.features import OnlineStore

K, QUERIES, ROUNDS, SEED = 10, 200, 5, 7
FILTERED, CHANGED = 0.01, 0.2  # of the items: those that a filter keeps; those that go, and as many that come

Search = Callable[[np.ndarray], np.ndarray]


def learned(prepared: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(n_items, d) of a source of the bundle that multiplies vectors, and (about QUERIES, d) of the shop's own users, float32; None
    where it has no such source."""
    recommender = Recommender.load(prepared / "bundle")
    sources = {name: vectors_of(source) for name, source in recommender.sources.items()}
    name = next((each for each, vectors in sources.items() if vectors is not None), None)
    if name is None:
        return None
    users = pd.read_parquet(prepared / "users.parquet")["user_id"].sample(QUERIES, random_state=SEED).tolist()
    states = OnlineStore(settings_module.load()).read(recommender.recipe.feature_service, users)
    now = recommender.recipe.cut
    assert now is not None
    queries = [query_of(recommender.sources[name], recommender.events([state], now)) for state in states]
    asked = np.array(queries, np.float32)
    # Of a user without a taste every product is 0, and any ten items are the best.
    return np.ascontiguousarray(sources[name], np.float32), asked[np.abs(asked).sum(axis=1) > 0]


def exact(vectors: np.ndarray, allowed: np.ndarray | None = None) -> Search:
    """The K rows with the largest products, best first."""
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)

    def search(query: np.ndarray) -> np.ndarray:
        products = vectors @ query if allowed is None else vectors[rows] @ query
        return best(rows, products)

    return search


def by_index(index: Index, allowed: np.ndarray | None = None) -> Search:
    return lambda query: best(*index.search(query, K, allowed))


def best(rows: np.ndarray, products: np.ndarray) -> np.ndarray:
    """K of the rows by their products, best first.

    >>> best(np.array([5, 6, 7]), np.array([0.1, 0.3, 0.2])).tolist()
    [6, 7, 5]
    """
    if len(rows) > K:
        found = np.argpartition(-products, K - 1)[:K]
        rows, products = rows[found], products[found]
    return rows[np.argsort(-products, kind="stable")]


def compare(one: Search, other: Search, queries: np.ndarray) -> tuple[float, float, float]:
    """µs of a search by one and by the other, medians of the rounds' medians; recall@K of `one` beside `other`."""
    took: dict[int, list[float]] = {0: [], 1: []}
    found: dict[int, list[np.ndarray]] = {}
    for _ in range(ROUNDS):
        for number, search in enumerate((one, other)):
            times, found[number] = [], []
            for query in queries:
                started = time.perf_counter()
                found[number].append(search(query))
                times.append(time.perf_counter() - started)
            took[number].append(float(np.median(times)) * 1e6)
    hits = [len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found[0], found[1], strict=True)]
    return float(np.median(took[0])), float(np.median(took[1])), float(np.mean(hits))


def measure(vectors: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    random = np.random.default_rng(SEED)
    started = time.perf_counter()
    index = Index.of(vectors)
    built = time.perf_counter() - started
    plain = compare(by_index(index), exact(vectors), queries)
    keeps = random.random(len(vectors)) < FILTERED
    filtered = compare(by_index(index, keeps), exact(vectors, keeps), queries)
    order = random.permutation(len(vectors))
    count = int(CHANGED * len(vectors))
    changed_index = Index.of(vectors[order[count:]]).with_items(vectors[order[:count]])
    changed_vectors = vectors[np.concatenate([order[count:], order[:count]])]
    stay = np.ones(len(vectors), bool)
    stay[random.permutation(len(vectors) - count)[:count]] = False
    changed = compare(by_index(changed_index, stay), exact(changed_vectors, stay), queries)
    return {
        "items": len(vectors),
        "build seconds": built,
        "index µs": plain[0],
        "exact µs": plain[1],
        "recall": plain[2],
        "filtered index µs": filtered[0],
        "filtered exact µs": filtered[1],
        "filtered recall": filtered[2],
        "changed recall": changed[2],
    }


def main() -> None:
    prepared, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = learned(prepared)
    out.write_text(json.dumps(measure(*found) if found else None))


if __name__ == "__main__":
    main()
