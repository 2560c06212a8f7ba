"""`make bench-cold_start`: items that nobody bought yet, and people who have done one, three or five things.

- Cold items: a random tenth of the items (five seeds) is hidden from every window, from choosing, learning and fitting; then
  they come in by `Recommender.with_items`. recall@20 of them among the whole catalogue, beside the same items' when nothing was
  hidden. What is asked for is new to its user in both cases. Who learns from purchases alone reaches 0.
- New users: a fifth of the users is left out of everything; their newest 1, 3 and 5 events before the test are then told.

With the sources of conf/aisle.toml: fourteen fits of a sequence model would take hours.
Writes bench/results/cold_start.json, where the other sets' figures stay. `--validation` asks new users' figures of the window before the test, as often as something is
chosen by them, of several seeds' users together (one seed's are too few to tell 5 % from chance), and writes nothing. Each fit is a process of its own and is kept, so that a killed run goes on.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aisle.lake import project_root
from bench import cache, protocols
from bench.engine_run import fitted, lists_of, without_sequence
from bench.judging import Question, judge
from bench.protocols import Protocol
from bench.report import Figure, publish, show, with_earlier
from engine.windows import Window

SETS = ("online_retail", "beauty")
HIDDEN, SEEDS = 0.1, 5
LEFT_OUT, REVEALED = 0.2, (1, 3, 5)
WARM_SHARE = 0.3
TIMES_POPULARITY = {1: 1.5, 3: 2.0, 5: 3.0}
RECALL = "recall@20"
CODE = (
    "cold_start",
    "engine_run",
    "judging",
    "online_retail",
    "protocols",
)  # of the bench, that its figures depend on
LISTS = ("item_ids", "event_types", "event_times", "quantities")


def without_items(window: Window, hidden: set[str]) -> Window:
    """As if they had never been in the shop."""
    histories = pd.DataFrame(
        [
            _kept(row, [item not in hidden for item in row["item_ids"]])
            for _, row in window.histories.iterrows()
        ]
    )
    histories = histories[histories["item_ids"].map(len) > 0].reset_index(drop=True)
    items = window.items[~window.items["item_id"].isin(hidden)].reset_index(drop=True)
    truth = window.truth[~window.truth["item_id"].isin(hidden)].reset_index(drop=True)
    return replace(window, items=items, histories=histories, truth=truth)


def _kept(row: pd.Series, keep: list[bool]) -> dict[str, Any]:
    found = {name: [each for each, stays in zip(row[name], keep, strict=True) if stays] for name in LISTS}
    return {**row.to_dict(), **found}


def without_users(window: Window, left_out: set[str]) -> Window:
    """As if they had never come. What the items' own counts owe to them stays: a shop has visitors that it does not know."""
    histories = window.histories[~window.histories["user_id"].isin(left_out)].reset_index(drop=True)
    truth = window.truth[~window.truth["user_id"].isin(left_out)].reset_index(drop=True)
    return replace(window, histories=histories, truth=truth)


def everywhere(protocol: Protocol, change) -> Protocol:
    return replace(
        protocol,
        earlier=tuple(change(each) for each in protocol.earlier),
        validation=change(protocol.validation),
        test=change(protocol.test),
    )


def hidden_items(protocol: Protocol, seed: int) -> set[str]:
    ids = np.array(sorted(protocol.test.items["item_id"].astype(str)))
    return set(np.random.default_rng(seed).choice(ids, round(len(ids) * HIDDEN), replace=False))


def left_out_users(protocol: Protocol, seed: int) -> set[str]:
    ids = np.array(sorted(protocol.test.histories["user_id"].astype(str)))
    return set(np.random.default_rng(seed).choice(ids, round(len(ids) * LEFT_OUT), replace=False))


def asked_for(window: Window, items: set[str]) -> Window:
    """The window with only these items in its truth."""
    return replace(window, truth=window.truth[window.truth["item_id"].isin(items)].reset_index(drop=True))


def revealed(window: Window, users: set[str], events: int) -> Window:
    """Only these users, with their newest `events` events."""
    histories = window.histories[window.histories["user_id"].isin(users)].reset_index(drop=True)
    short = histories.assign(
        **{name: histories[name].map(lambda each: list(each)[:events]) for name in LISTS}
    )
    return replace(
        window,
        histories=short,
        truth=window.truth[window.truth["user_id"].isin(users)].reset_index(drop=True),
    )


def value(model, window: Window, column: str, metric: str) -> float:
    """Over all who asked for something that can be found."""
    question = Question.of(window)
    return float(judge(question, column, lists_of(model, question, column), (metric,))[metric].mean())


def warm(protocol: Protocol) -> list[dict[str, Any]]:
    """What the engine reaches for each seed's items where nothing is hidden."""
    model, _ = fitted(protocol, without_sequence())
    return [
        {
            "seed": seed,
            "warm": value(model, asked_for(protocol.test, hidden_items(protocol, seed)), "new", RECALL),
        }
        for seed in range(1, SEEDS + 1)
    ]


def as_told(items: pd.DataFrame, hidden: set[str]) -> pd.DataFrame:
    """The catalogue as a shop tells it of what nobody bought yet: without counts and without a first day on sale."""
    unknown = items["item_id"].isin(hidden)
    learnt = [column for column in items if column.startswith("n_") or column == "days_since_first"]
    return items.assign(**{column: items[column].mask(unknown) for column in learnt})


def cold(protocol: Protocol, seed: int) -> list[dict[str, Any]]:
    hidden = hidden_items(protocol, seed)
    told = everywhere(protocol, lambda window: without_items(window, hidden))
    model = fitted(told, without_sequence())[0].with_items(as_told(protocol.test.items, hidden))
    # Judged on all users and items; the histories are those that the model knows.
    window = asked_for(replace(protocol.test, histories=told.test.histories), hidden)
    owned = _owned(protocol.test)
    fresh = [pair not in owned for pair in zip(window.truth["user_id"], window.truth["item_id"], strict=True)]
    window = replace(window, truth=window.truth[fresh].reset_index(drop=True))
    return [{"seed": seed, "items": len(hidden), "cold": value(model, window, "new", RECALL)}]


def _owned(window: Window) -> set[tuple[str, str]]:
    pairs = window.histories[["user_id", "item_ids"]].explode("item_ids")
    return set(zip(pairs["user_id"], pairs["item_ids"], strict=True))


def new_users(protocol: Protocol, seed: int) -> list[dict[str, Any]]:
    from engine.evaluation import baseline

    users = left_out_users(protocol, seed)
    told = everywhere(protocol, lambda window: without_users(window, users))
    model, _ = fitted(told, without_sequence())
    popular = baseline(model, "popularity")
    return [
        {
            "revealed": n,
            "column": column,
            "metric": metric,
            "engine": value(model, window, column, metric),
            "popularity": value(popular, window, column, metric),
        }
        for n in REVEALED
        for window in [revealed(protocol.test, users, n)]
        for column in protocol.columns
        for metric in (protocol.metrics[0], RECALL)
    ]


PARTS = {"warm": warm, "cold": cold, "new_users": new_users}


def a_window_earlier(protocol: Protocol) -> Protocol:
    """The same questions of the validation window: what is chosen by its answers has not seen the test."""
    *earlier, validation = protocol.earlier
    return replace(protocol, earlier=tuple(earlier), validation=validation, test=protocol.validation)


def run(protocol: Protocol, tasks: Iterable[tuple[str, int]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each part. tasks: parts and seeds. Raises CalledProcessError where a fit fails."""
    key = _key(protocol)
    found: dict[str, list[dict[str, Any]]] = {"warm": [], "cold": [], "new_users": []}
    for part, seed in tasks:
        path = cache.folder() / protocol.name / f"cold-{cache.key(*key, part, seed)}.json"
        if not path.exists():
            print(f"{protocol.name}: {part} {seed or ''}", file=sys.stderr, flush=True)
            _child(protocol, part, seed, path)
        found[part] += cache.read(path) or []
    return found


def _key(protocol: Protocol) -> tuple[Any, ...]:
    """All that a fit's figures depend on: the data, the settings, and the code of engine and bench."""
    from engine.recipe import Recipe

    settings = without_sequence()
    data = protocols.digest(protocol.test, ("title", "categories", "brand", "price", "country"))
    code = cache.code("engine", "training", *(f"bench/{name}.py" for name in CODE))
    return data, Recipe.of(settings).model_dump(mode="json"), settings.training.model_dump(mode="json"), code


def _tasks() -> Iterator[tuple[str, int]]:
    yield "warm", 0
    yield from (("cold", seed) for seed in range(1, SEEDS + 1))
    yield "new_users", 7


def _child(protocol: Protocol, part: str, seed: int, path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "asked.pickle"
        asked.write_bytes(pickle.dumps(protocol, protocol=5))
        command = [sys.executable, "-m", "bench.cold_start", "--part", part, str(seed), str(asked), str(path)]
        subprocess.run(command, cwd=project_root(), check=True)


def figures_of(name: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Figure]:
    reached = np.mean([row["cold"] for row in found["cold"]])
    known = np.mean([row["warm"] for row in found["warm"]])
    figures = {
        f"{name}, cold items, {RECALL}": Figure(float(reached), ""),
        f"{name}, the same items warm, {RECALL}": Figure(float(known), ""),
        f"{name}, cold over warm": Figure(float(reached / known), "x", target=WARM_SHARE),
    }
    return figures | of_new_users(name, found["new_users"])


def of_new_users(name: str, rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Means over the seeds."""
    figures = {}
    asked = pd.DataFrame(rows).groupby(["revealed", "column", "metric"], sort=False, as_index=False)
    for row in asked[["engine", "popularity"]].mean().to_dict("records"):
        label = f"{name}, {row['revealed']} events told, {row['column']} {row['metric']}"
        figures[label] = Figure(row["engine"], "")
        ratio = row["engine"] / max(row["popularity"], 1e-9)
        least = TIMES_POPULARITY[row["revealed"]] if row["metric"] == RECALL else None
        figures[f"{label} over popularity"] = Figure(ratio, "x", target=least)
    return figures


def main() -> None:
    if "--part" in sys.argv:
        part, seed, asked, answer = sys.argv[2:]
        protocol = pickle.loads(Path(asked).read_bytes())  # written by `_child` a moment ago
        rows = PARTS[part](protocol, *([int(seed)] if part != "warm" else []))
        cache.write(Path(answer), rows)
        return
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.cold_start --set online_retail",
    )
    parser.add_argument("--set", default=" ".join(SETS), help=f"of {', '.join(SETS)}; default: both")
    parser.add_argument("--validation", action="store_true", help="new users, one window before the test")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="of --validation: who is left out"
    )
    arguments = parser.parse_args()
    names = arguments.set.replace(",", " ").split()
    if unknown := set(names) - set(protocols.SETS):
        parser.error(f"no such set: {', '.join(sorted(unknown))}; there are {', '.join(protocols.SETS)}")
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    for name in names:
        try:
            protocol = protocols.load(name)
        except protocols.NotHere as why:
            print(why, file=sys.stderr)
            continue
        if arguments.validation:
            found = run(a_window_earlier(protocol), [("new_users", seed) for seed in arguments.seeds])
            figures |= of_new_users(name, found["new_users"])
            continue
        details[name] = run(protocol, _tasks())
    if figures:
        show("cold_start on validation", figures)
    if details:
        whole = with_earlier("cold_start", details)
        for name, found in whole.items():
            figures |= figures_of(name, found)
        publish("cold_start", figures, {"sets": whole})


if __name__ == "__main__":
    main()
