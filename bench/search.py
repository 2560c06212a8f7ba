"""`make bench-search`: what search finds, how fast, in how much memory; and what preference adds to it.

- Quality: a seeded query of every real title of the shop, as people would get it wrong (bench.search_queries). recall@10 of the item
  that it was made of (or one of the same words), beside exact words, SQL LIKE, SQLite's trigrams and Tantivy raw.
- Short queries: one and two words of a title, with one edit each; precision@10, since many items have them.
- Preference: the last 28 days' purchases; who bought an item asks for it by one or two words of its title, as many items have. Mean
  reciprocal rank of what they bought, by the weight of preference. The weight of conf/aisle.toml was chosen on the 28 days before.
- Speed and size: building and asking over the real titles and over 100,000 made-up ones, in a process of its own. Times are of the
  processor and not of the clock, so that what else runs on the machine does not count.

Writes bench/results/search.json.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import re
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import psutil

from aisle import settings as settings_module
from aisle.lake import project_root
from bench import online_retail, search_titles
from bench.report import Figure, publish
from bench.search_peers import PEERS, K
from bench.search_queries import LONG, WRONG, edited, made
from engine.recipe import USUAL, Recipe
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from serving.asking import Ask
from serving.rulebook import RuleBook
from serving.search_answers import search
from serving.search_asking import Searched
from serving.search_view import Indexed, SearchView, Texts
from serving.view import View

SEED = 7
LARGE = 100_000
DAYS = timedelta(days=28)
WEIGHTS = (0.0, 0.1, 0.25, 0.4, 0.6, 0.8, 1.0)
ASKED = {
    "one edit": 0.95,
    "two edits, one word": 0.9,
    "two edits, two words": 0.9,
}  # recall@10 that is asked for
SHOWN = (
    "as written",
    "swapped words",
    "half of the words",
    "other number",
    "last word begun",
    "two words in one",
)


def quality(most: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    """recall@10 by kind of query and engine."""
    rows = search_titles.real()
    titles = [title for _, title, _ in rows]
    words = [re.findall(r"\w+", title.lower()) for title in titles]
    same: dict[tuple[str, ...], set[int]] = {}
    for number, some in enumerate(words):
        same.setdefault(tuple(some), set()).add(number)
    engines = {name: peer([item for item, _, _ in rows], titles) for name, peer in PEERS.items()}
    table: dict[str, Any] = {}
    figures: dict[str, Figure] = {}
    for how in WRONG:
        asked = made(words, how, SEED, most)
        table[how] = {"queries": len(asked)}
        for name, engine in engines.items():
            hits = sum(
                bool(same[tuple(words[number])] & {*engine.find(query)[:K]}) for number, query in asked
            )
            table[how][name] = hits / len(asked)
            if name in ("aisle", "exact words"):
                figures[f"recall@10 {how}: {name}"] = Figure(
                    hits / len(asked), "", target=ASKED.get(how) if name == "aisle" else None
                )
        print(f"{how}: " + ", ".join(f"{name} {value:.3f}" for name, value in table[how].items()), flush=True)
    return figures, table


def short(most: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Precision@10 of one and two words of a title, as many items have them: of what is found first, the share that has the words
    as they were meant.
    """
    rows = search_titles.real()
    titles = [title for _, title, _ in rows]
    words = [{*re.findall(r"\w+", title.lower())} for title in titles]
    engines = {name: peer([item for item, _, _ in rows], titles) for name, peer in PEERS.items()}
    table: dict[str, Any] = {}
    for count, edits in ((1, 0), (1, 1), (2, 0), (2, 1)):
        draw = random.Random(f"{SEED} {count} {edits}")
        how = f"{count} word{'s' * (count > 1)}, {'one edit each' if edits else 'as written'}"
        sums, asked = dict.fromkeys(engines, 0.0), 0
        for some in draw.choices(
            [[w for w in each if w.isalpha() and len(w) >= LONG] for each in words], k=most
        ):
            if len(some) < count:
                continue
            meant = draw.sample(sorted(some), count)
            wanted = {number for number, each in enumerate(words) if {*meant} <= each}
            query, asked = " ".join(edited(word, draw) if edits else word for word in meant), asked + 1
            for name, engine in engines.items():
                sums[name] += len(wanted & {*engine.find(query)[:K]}) / min(len(wanted), K)
        table[how] = {"queries": asked, **{name: total / asked for name, total in sums.items()}}
        print(f"{how}: " + ", ".join(f"{name} {value:.3f}" for name, value in table[how].items()), flush=True)
    return {
        f"precision@10 {how}: {name}": Figure(table[how][name], "")
        for how in table
        for name in ("aisle", "Tantivy", "SQLite FTS5 trigram", "exact words")
    }, table


def shop(items: pd.DataFrame, histories: pd.DataFrame, at: Any, sources: Sequence[str] = USUAL) -> SearchView:
    settings = settings_module.load().search
    recommender = Recommender.fit(
        items, histories, at, Recipe(feature_service="bench", sources={name: {} for name in sources})
    )
    view = View.of(recommender, "1", "bench", 0)
    return SearchView.of(view, 0, (), Indexed.of(Texts.of(recommender.catalogue), settings))


def preference(most: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Mean reciprocal rank, over queries, of what was bought, by number of words, window and weight."""
    lines = online_retail.load_lines(search_titles.DATA)
    table: dict[str, Any] = {}
    for name, at in (("validation", online_retail.END - 2 * DAYS), ("test", online_retail.END - DAYS)):
        window = online_retail.window(lines, at, DAYS.days)
        view = shop(window.items, window.histories, at)
        states = {state.user_id: state for state in from_frame(window.histories)}
        index = view.view.recommender.catalogue.index
        bought = window.truth[window.truth["item_id"].isin(index) & window.truth["user_id"].isin(states)]
        bought = bought.sample(min(most, len(bought)), random_state=SEED)
        for count in (1, 2):
            table[f"{name}, {count} word{'s' * (count > 1)}"] = _ranks(view, bought, states, count)
    weight = settings_module.load().search.preference
    figures = {}
    for count in ("1 word", "2 words"):
        found = table[f"test, {count}"]["mrr"]
        label = f"MRR of what was bought, {count} of its title"
        figures[f"{label}: text alone"] = Figure(found["0.0"], "")
        figures[f"{label}: with preference {weight:g}"] = Figure(found[str(weight)], "", target=found["0.0"])
    return figures, table


def _ranks(
    view: SearchView, bought: pd.DataFrame, states: dict[str, UserState], count: int
) -> dict[str, Any]:
    settings, draw = settings_module.load().search, np.random.default_rng(SEED)
    index = view.view.recommender.catalogue.index
    ranks: dict[str, list[float]] = {}
    for user, item in bought.itertuples(index=False):
        words = [word for word in re.findall(r"\w+", view.indexed.texts.titles[index[item]]) if len(word) > 2]
        if len(words) < count:
            continue
        query = " ".join(draw.choice(words, count, replace=False))
        for weight in sorted({*WEIGHTS, settings.preference}):
            asked = Searched(Ask("search", k=100, user_id=user), query)
            weighed = settings.model_copy(update={"preference": weight})
            found = search(view, asked, states[user], RuleBook(), weighed, 100)
            place = found.order.index(item) + 1 if item in found.order else None
            ranks.setdefault(str(weight), []).append(1 / place if place else 0.0)
    told = {weight: float(np.mean(some)) for weight, some in ranks.items()}
    print(
        f"{count} word(s): " + ", ".join(f"w={weight} {value:.3f}" for weight, value in told.items()),
        flush=True,
    )
    return {"queries": len(next(iter(ranks.values()))), "mrr": told}


# -- speed and size, each in a process of its own


def measure(name: str, size: int, queries: int) -> dict[str, float]:
    """build_s, memory_mib, p50_ms, p99_ms of one engine over `size` titles, misspelt in every way."""
    rows = search_titles.real() if size == len(search_titles.real()) else search_titles.made_up(size)
    ids, titles = [item for item, _, _ in rows], [title for _, title, _ in rows]
    words = [re.findall(r"\w+", title.lower()) for title in titles]
    asked = [query for how in WRONG for _, query in made(words, how, SEED, queries)]
    before, started = _memory(), time.process_time()
    engine = PEERS[name](ids, titles)
    built, after = time.process_time() - started, _memory()
    told = {"build_s": built, "memory_mib": (after - before) / 2**20, **_times(engine.find, asked)}
    if hasattr(engine, "all"):
        common = [
            word
            for word, _ in Counter(word for some in words for word in some if word.isalpha()).most_common(
                queries
            )
        ]
        told |= {f"all_{key}": value for key, value in _times(engine.all, common).items()}
    return told


def measure_whole(size: int, queries: int) -> dict[str, float]:
    """A whole answer: the text, a known shopper's places, rules, facets, twenty items with what they were found by."""
    rows = search_titles.real() if size == len(search_titles.real()) else search_titles.made_up(size)
    lines = online_retail.load_lines(search_titles.DATA)
    draw = np.random.default_rng(SEED)
    items = pd.DataFrame(rows, columns=["item_id", "title", "price"])
    buyers = np.sort(draw.zipf(1.6, len(items)) % 5000)[::-1]
    items = items.assign(
        n_buyers=buyers, n_buyers_30d=buyers // 9, n_orders_30d=buyers // 9, days_since_first=90.0
    )
    items = items.assign(
        categories=[["all", f"c{n % 300}"] for n in range(len(items))],
        brand=[f"b{n % 90}" for n in range(len(items))],
    )
    known = items["item_id"].to_numpy()
    window = online_retail.window(lines, online_retail.END, 1)
    if size != len(search_titles.real()):  # the same shoppers, over items of the larger catalogue
        window.histories["item_ids"] = [
            [known[zlib.crc32(item.encode()) % len(known)] for item in some]
            for some in window.histories["item_ids"]
        ]
    quick = ("popularity", "personal", "item_item")  # what the places cost is for bench.serving to say
    view = shop(items.assign(deleted=False), window.histories, online_retail.END, quick)
    words = [re.findall(r"\w+", title.lower()) for _, title, _ in rows]
    asked = [query for how in WRONG for _, query in made(words, how, SEED, queries)]
    settings, users = settings_module.load().search, from_frame(window.histories)[:50]
    found: dict[str, float] = {}
    for name, states in (("stranger", [UserState("")]), ("known", users)):

        def ask(query: str, states: Sequence[UserState] = states) -> object:
            state = states[len(query) % len(states)]
            question = Searched(Ask("search", k=20, user_id=state.user_id or None), query)
            return search(view, question, state, RuleBook(), settings, 500)

        for state in states:  # their places are kept for half a minute, as in the API
            search(
                view,
                Searched(Ask("search", user_id=state.user_id or None), ""),
                state,
                RuleBook(),
                settings,
                500,
            )
        found |= {f"{name}_{key}": value for key, value in _times(ask, asked).items()}
    return found


def _times(ask: Any, asked: Sequence[str]) -> dict[str, float]:
    took = []
    for query in asked:
        started = time.thread_time()
        ask(query)
        took.append((time.thread_time() - started) * 1000)
    return {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}


def _memory() -> int:
    gc.collect()
    with suppress(AttributeError, OSError):  # what was freed goes back to the system, where its library can
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def apart(*what: str) -> dict[str, float]:
    """What `measure` finds in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.search", "--measure", *what],
        capture_output=True, text=True, check=True, cwd=project_root(),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def speed(queries: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    figures: dict[str, Figure] = {}
    table: dict[str, Any] = {}
    for size in (len(search_titles.real()), LARGE):
        for name in PEERS:
            told = table[f"{name}, {size} items"] = apart(name, str(size), str(queries))
            print(f"{name}, {size} items: {told}", flush=True)
            label = f"{name}, {size:,} items"
            figures[f"{label}: build"] = Figure(told["build_s"], "s", "<=")
            if size == LARGE:  # a small index fits into what the process had freed before
                figures[f"{label}: memory"] = Figure(told["memory_mib"], "MiB", "<=")
            figures[f"{label}: p50"] = Figure(told["p50_ms"], "ms", "<=")
            figures[f"{label}: p99"] = Figure(told["p99_ms"], "ms", "<=")
            if "all_p50_ms" in told:
                figures[f"{label}: all hits of a common word, p50"] = Figure(told["all_p50_ms"], "ms", "<=")
        told = table[f"whole answer, {size} items"] = apart("whole", str(size), str(queries))
        print(f"whole answer, {size} items: {told}", flush=True)
        for key, value in told.items():
            figures[f"whole answer, {size:,} items: {key.removesuffix('_ms').replace('_', ' ')}"] = Figure(
                value, "ms", "<="
            )
    return figures, table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.search --quick",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer queries: a minute of one core instead of five"
    )
    parser.add_argument("--measure", nargs=3, metavar=("ENGINE", "ITEMS", "QUERIES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, size, queries = given.measure[0], int(given.measure[1]), int(given.measure[2])
        print(json.dumps(measure_whole(size, queries) if name == "whole" else measure(name, size, queries)))
        return
    most, bought, queries = (200, 100, 10) if given.quick else (1000, 600, 50)
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    for part, run in (
        ("quality", lambda: quality(most)),
        ("short", lambda: short(most)),
        ("preference", lambda: preference(bought)),
        ("speed", lambda: speed(queries)),
    ):
        found, details[part] = run()
        figures |= found
    publish("search", figures, details, given.quick)


if __name__ == "__main__":
    main()
