"""What one user's list costs by stage, in µs of processor time: the dense batch path beside the path of a request, on the shipped
shop and on a simulated expansion of it, and the index beside the exact scan.

`python -m bench.hot_path [--items 100000 --users 200000] [--bundle FOLDER]`. Processor time, because a bench of this kind runs beside
other work; both paths are timed in turns. Lists of both paths are compared, and have to be the same where no source is behind an
index. --bundle times a release as it is, on histories of the shipped shop.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from aisle import settings as settings_module
from aisle.lake import project_root
from bench import expansion, online_retail
from bench.report import Figure, publish
from engine import one_user
from engine.index import Index
from engine.one_user import OneUser
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.factors import Factors
from engine.state import UserState, from_frame
from training.ranking import Examples, learn

SOURCES = ("popularity", "personal", "item_item", "linear", "next_bought", "content", "factors")
ASKED, WARM, K, DAYS = 300, 20, 20, 28


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m bench.hot_path --items 20000"
    )
    parser.add_argument(
        "--items", type=int, default=0, help="of an expansion that is timed as well; 0 for none"
    )
    parser.add_argument("--users", type=int, default=50_000, help="of the expansion")
    parser.add_argument("--bundle", type=Path, help="a release's bundle, instead of a fit")
    parser.add_argument(
        "--factors", type=Path, help="npz of U (users, d) and V (items, d): the index alone, beside others"
    )
    asked = parser.parse_args()
    if asked.factors:
        held = np.load(asked.factors)
        users, items = (np.ascontiguousarray(held[name], np.float32) for name in "UV")
        users = users[np.abs(users).sum(axis=1) > 0]
        users = users[np.random.default_rng(7).permutation(len(users))[:ASKED]]
        label = f"{asked.factors.stem}, {len(items):,} items"
        more = {f"{label}: {name}": each for name, each in alternatives(items, users).items()}
        publish("hot_path_index", index_figures(items, users, label) | more)
        return
    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    cut = online_retail.END - timedelta(days=DAYS)
    window = online_retail.window(lines, cut, DAYS)
    figures: dict[str, Figure] = {}
    if asked.bundle:
        model = Recommender.load(asked.bundle)
    else:
        recipe = Recipe.of(settings_module.load())
        recipe = recipe.model_copy(
            update={"sources": {name: recipe.sources.get(name, {}) for name in SOURCES}}
        )
        model = Recommender.fit(window.items, window.histories, cut, recipe)
        model = model.with_ranker(
            learn([Examples.of(model, window.histories, window.truth, cut, 1500, 7)], 7)
        )
    figures |= timed(model, from_frame(window.histories), "shipped")
    if asked.items:
        size = expansion.Size(asked.items, asked.users)
        more = expansion.expand(lines, size)
        items = expansion.items_of(more, lines, cut, size)
        histories = online_retail.histories_of(more[more["time"] < cut], 500)
        large = Recommender.fit(items, histories, cut, model.recipe, ranker=model.ranker)
        figures |= timed(large, from_frame(histories), expansion.LABEL)
    publish("hot_path", figures)


def timed(model: Recommender, states: Sequence[UserState], label: str) -> dict[str, Figure]:
    """µs a list by stage and path, whether the lists are the same, and the index where there is one."""
    users = [states[row] for row in np.random.default_rng(7).choice(len(states), ASKED + WARM, replace=False)]
    now, label = model.recipe.cut, f"{label}, {len(model.catalogue):,} items"
    assert now is not None
    model.warm()
    for state in users[:WARM]:
        _dense(model, state, now), model.rank(state, now)
    spent: dict[str, list[float]] = defaultdict(list)

    def took(name: str, run: Callable[..., Any], *given: Any) -> Any:
        started = time.process_time_ns()
        found = run(*given)
        spent[name].append((time.process_time_ns() - started) / 1000)
        return found

    same = 0
    for state in users[WARM:]:
        dense = took("dense path", _dense, model, state, now)
        ranked = took("path of a request", model.rank, state, now)
        listed = took("list of 20", model.top, ranked.scores[None], K)[0]
        took("reasons of 20", model.told, ranked, listed[listed >= 0], False)
        same += np.array_equal(listed, model.top(dense[None], K)[0])
        events = took("of it: events", _events, model, state, now)
        sheet = took("of it: sources' scores", one_user.sheet_of, model, events)
        if sheet is not None and ranked.scored.candidates is not None:
            owned = events.owned().indices
            took("of it: candidates", one_user.best_rows, sheet.rows, owned, True)
            took("of it: blend", one_user.blended, sheet, model.recipe.weights, owned)
            took("of it: ranker", model.quick, ranked.scored.candidates)
    found = {f"{label}: {name}": Figure(float(np.mean(each)), "µs", "<=") for name, each in spent.items()}
    ratio = np.mean(spent["dense path"]) / np.mean(spent["path of a request"])
    found[f"{label}: dense path over path of a request"] = Figure(float(ratio), "times")
    exact = None if model.indexed else 0.99
    found[f"{label}: same list of 20 on both paths"] = Figure(same / ASKED, "share", ">=", exact)
    factors = model.sources.get(Factors.name)
    if isinstance(factors, Factors):
        queries = factors.users(model.events(users, now).tastes(factors.half_life_days))
        found |= index_figures(factors.items, queries[np.abs(queries).sum(axis=1) > 0], label)
    return found


def _events(model: Recommender, state: UserState, now: datetime) -> OneUser:
    return OneUser.over(model.events([state], now))


def _dense(model: Recommender, state: UserState, now: datetime) -> np.ndarray:
    events = model.events([state], now)
    return model._settled(events, model._scored(events).scores)[0]


def index_figures(vectors: np.ndarray, queries: np.ndarray, label: str) -> dict[str, Figure]:
    """The index over learnt item vectors beside the scan that a source makes, and beside FAISS' flat index."""
    import faiss

    n, started = len(vectors), time.process_time()
    index = Index.of(vectors)
    built, flat = time.process_time() - started, faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(vectors))
    rng = np.random.default_rng(7)
    narrow, left = rng.random(n) < 0.01, rng.random(n) >= 0.2
    came = rng.random(n) < 0.2
    moved = Index.of(vectors[~came]).with_items(vectors[came])
    kept = np.concatenate([left[~came], left[came]])

    def us(run: Callable[[np.ndarray], Any]) -> float:
        times = []
        for _ in range(3):
            started = time.process_time()
            for query in queries:
                run(query)
            times.append((time.process_time() - started) / len(queries) * 1e6)
        return float(np.median(times))

    def scan(query: np.ndarray) -> np.ndarray:
        products = vectors @ query
        return np.argpartition(products, n - 10)[n - 10 :]

    exact, fast = us(scan), us(lambda query: index.search(query, 10))
    found = {
        "index: build": Figure(built, "s", "<="),
        "index: exact scan": Figure(exact, "µs", "<="),
        "index: FAISS flat": Figure(us(lambda query: flat.search(query[None], 10)), "µs", "<="),
        "index: search": Figure(fast, "µs", "<="),
        "index: search for a hundred": Figure(us(lambda query: index.search(query, 100)), "µs", "<="),
        "index: times faster than the exact scan": Figure(exact / fast, "times", ">=", 20),
        "index: recall@10": Figure(recall(index, vectors, queries), "share", ">=", 0.99),
        "index: recall@10, 1 % of the items allowed": Figure(recall(index, vectors, queries, narrow), "share", ">=", 0.99),
        "index: recall@10, a fifth gone and a fifth new": Figure(
            recall(moved, moved.vectors, queries, kept), "share", ">=", 0.99
        ),
    }  # fmt: skip
    return {f"{label}: {name}": each for name, each in found.items()}


def alternatives(vectors: np.ndarray, queries: np.ndarray) -> dict[str, Figure]:
    """µs and recall@10 of what else could find the candidates."""
    import faiss

    width, wanted = vectors.shape[1], [set(np.argsort(-(vectors @ query))[:10]) for query in queries]
    cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, 256, faiss.METRIC_INNER_PRODUCT)
    cells.train(vectors)
    cells.nprobe = 64
    walked = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
    walked.hnsw.efConstruction, walked.hnsw.efSearch = 100, 256
    for each in (cells, walked):
        each.add(vectors)
    codes = faiss.IndexPQFastScan(width, width // 2, 4, faiss.METRIC_INNER_PRODUCT)
    codes.train(vectors)
    codes.add(vectors)

    def coded(rescored: int) -> Callable[[np.ndarray], np.ndarray]:
        def best(query: np.ndarray) -> np.ndarray:
            rows = codes.search(query[None], rescored)[1][0]
            return rows[np.argsort(-(vectors[rows] @ query))[:10]]

        return best

    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "FAISS IVF, 256 cells, 64 looked at": lambda query: cells.search(query[None], 10)[1][0],
        "FAISS HNSW, M 32, ef 256": lambda query: walked.search(query[None], 10)[1][0],
        **{f"FAISS codes of 4 bits, {many} rescored": coded(many) for many in (120, 220, 420)},
    }
    figures = {}
    for name, way in ways.items():
        started = time.process_time()
        found = [way(query) for query in queries]
        figures[f"{name}: search"] = Figure((time.process_time() - started) / len(queries) * 1e6, "µs", "<=")
        hits = [len(these & set(those.tolist())) for these, those in zip(wanted, found, strict=True)]
        figures[f"{name}: recall@10"] = Figure(float(np.mean(hits)) / 10, "share")
    return figures


def recall(
    index: Index, vectors: np.ndarray, queries: np.ndarray, allowed: np.ndarray | None = None
) -> float:
    """Of the exact ten best, the share that is found among the ten best."""
    hits = 0
    for query in queries:
        products = vectors @ query
        if allowed is not None:
            products[~allowed] = -np.inf
        rows, found = index.search(query, 10, allowed)
        hits += len(set(np.argsort(-products)[:10]) & set(rows[np.argsort(-found)[:10]]))
    return hits / 10 / len(queries)


if __name__ == "__main__":
    main()
