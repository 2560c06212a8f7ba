"""`make bench-serving`: what the API does on this machine's loopback, beside a floor and a straightforward peer, in one run.

Two shops: the shipped Online Retail as it is learnt, and a simulated expansion of it to 100,000 items and 200,000 users (see
bench.expansion); both are prepared once and kept (bench.serving_shop). The load generator shares the machine's cores with what it
measures, so compare figures of one run only. Loads are interleaved in five rounds and a figure is the median of them; at a fixed
rate, time counts from when a request was due, so that a slow server cannot slow the question.

- full path: a user's own history, features read, candidates, ranker, rules, reasons, log; k = 20, every question another one
- floor (bench.serving_floor): feature read, candidates and ranker alone; peer (bench.serving_peer): FastAPI, Feast SDK, Keras
- also: a kept list, an event until the answer shows it, swap and rollback under load, memory, start; feature reads beside Feast's
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.lake import project_root
from bench import expansion, serving_phases, serving_processes, serving_shop
from bench.load import closed
from bench.report import Figure, publish
from bench.serving_phases import CALLERS, Questions, Round, Swapped, middle, ruled

ROUNDS, SECONDS = 5, 4.0
EVENTS = 40  # users of a shop whose answers must change
SETTLED = 20.0  # seconds after the last swap, until the release before has left memory
USERS = 20_000  # of a shop that are asked for
LABELS = {"online_retail": "", "expanded": f" ({expansion.LABEL})"}


def measure(name: str, prepared: Path, quick: bool) -> dict[str, object]:
    """Everything about one shop, as plain values."""
    rounds, seconds = (3, 1.5) if quick else (ROUNDS, SECONDS)
    users = pd.read_parquet(prepared / "users.parquet")["user_id"]
    asked = users.sample(min(USERS, len(users)), random_state=7).tolist()
    items = pd.read_parquet(prepared / "bundle" / "items.parquet", columns=["item_id", "price", "n_buyers"])
    best = items.sort_values("n_buyers", ascending=False)["item_id"].tolist()
    questions = Questions(ruled(asked, best[:5], float(items["price"].quantile(0.95))))
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=serving_shop.folder(name).parent))
        home = serving_processes.run_home(prepared, Path(scratch) / "home")
        starts, ready_bytes = starts_of(home, 1 if quick else 3)
        _say(f"{name}: ready in {np.median(starts):.1f} s, {ready_bytes / 2**20:.0f} MiB")
        api = serving_processes.start_api(home)
        stack.callback(api.stop)
        floor = serving_processes.start_floor(home)
        stack.callback(floor.stop)
        peer = peer_of(home)
        if peer:
            stack.callback(peer.stop)
        key = serving_processes.server_key(home)
        asyncio.run(closed(api.port, questions.stream(key), CALLERS, seconds))  # warm
        found: list[Round] = []
        for number in range(rounds):
            found.append(serving_phases.one_round(api, key, questions, floor, peer, asked, seconds, number))
            _say(
                f"{name}: round {number + 1} of {rounds}: "
                + ", ".join(f"{each} {value:.4g}" for each, value in found[-1].values.items())
            )
        floor.stop()
        if peer:
            peer.stop()
        changed = serving_phases.changes(api, key, asked[: EVENTS // (2 if quick else 1)], best[5:], "event")
        _say(f"{name}: an event shows after {np.percentile(changed, 95) * 1000:.1f} ms at p95")
        rate, after = 0.5 * middle(found, "peak"), max(8.0, 3 * float(np.median(starts)))
        swaps = [
            serving_phases.swap(api, key, home, to, questions, rate, after)
            for to in (("2", "1") if quick else ("2", "1", "2", "1", "2", "1"))
        ]
        twice_bytes = api.rss_bytes()
        time.sleep(SETTLED)
        loaded_bytes = api.rss_bytes()
        hits = kept_hits(api, key)
        api.stop()
        reads = read_by("bench.serving_reads", prepared / "users.parquet", home)
        index = read_by("bench.serving_index", prepared, home) if name == "expanded" else None
        if name == "expanded" and index is None:
            _say("the index is skipped: no source of the bundle multiplies vectors")
    return {
        "starts": starts,
        "ready_bytes": ready_bytes,
        "twice_bytes": twice_bytes,
        "loaded_bytes": loaded_bytes,
        "rounds": [each.values for each in found],
        "statuses": [each.statuses for each in found],
        "changed": changed,
        "swaps": [vars(each) for each in swaps],
        "reads": reads,
        "index": index,
        "lists found kept": hits,
        "shop": json.loads((prepared / "prepared.json").read_text()),
    }


def peer_of(home: Path) -> serving_processes.Process | None:
    """The straightforward peer; None, with a line, where it does not come up: the rest is measured all the same."""
    try:
        return serving_processes.start_peer(home)
    except SystemExit as error:
        _say(f"the peer is skipped: {str(error).splitlines()[-1]}")
        return None


def starts_of(home: Path, times: int) -> tuple[list[float], int]:
    """Seconds from starting `aisle serve` until /readyz says ready, and the memory it has then."""
    seconds, memory = [], []
    for _ in range(times):
        api = serving_processes.start_api(home)
        seconds.append(api.seconds)
        memory.append(api.rss_bytes())
        api.stop()
    return seconds, int(np.median(memory))


def kept_hits(api: serving_processes.Process, key: str) -> dict[str, float]:
    """How often lists were found kept, and not: the full path's must not be."""
    import urllib.request

    asked = urllib.request.Request(f"http://127.0.0.1:{api.port}/metrics", headers={"X-API-Key": key})
    with urllib.request.urlopen(asked) as answer:
        lines = answer.read().decode().splitlines()
    wanted = 'aisle_cache_lookups_total{cache="lists",outcome="'
    return {
        line.removeprefix(wanted).split('"')[0]: float(line.split()[-1])
        for line in lines
        if line.startswith(wanted)
    }


def read_by(module: str, what: Path, home: Path) -> dict[str, float]:
    """What a module of ours measures in a process of its own."""
    out = home / f"{module}.json"
    env = {**os.environ, "AISLE_HOME": str(home), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, str(what), str(out)],
        env=env,
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"bench: {module} failed:\n{done.stderr[-3000:]}")
    return json.loads(out.read_text())


def figures(shop: str, found: dict) -> dict[str, Figure]:
    """A shop's figures with their targets, from what `measure` found."""
    rounds = [Round(values) for values in found["rounds"]]
    peak, floor, peer = (middle(rounds, name) for name in ("peak", "floor", "peer"))
    swaps = [Swapped(**each) for each in found["swaps"]]
    reads = found["reads"]
    made = {
        "full path, peak": Figure(peak, "answers/s"),
        "floor, peak": Figure(floor, "answers/s"),
        "full path over floor": Figure(ratio(rounds, "peak", "floor"), "ratio", ">=", 0.5),
        "peer, peak": Figure(peer, "answers/s"),
        "full path over peer": Figure(ratio(rounds, "peak", "peer"), "ratio", ">=", 5.0),
        "one connection, p50": Figure(middle(rounds, "one p50"), "ms", "<=", 3.0),
        "half the peak's rate, p50": Figure(middle(rounds, "half p50"), "ms", "<="),
        "half the peak's rate, p99": Figure(middle(rounds, "half p99"), "ms", "<=", 20.0),
        "kept list in the server, p50": Figure(middle(rounds, "kept p50"), "ms", "<=", 1.0),
        "kept list outside, p50": Figure(middle(rounds, "kept p50 outside"), "ms", "<="),
        "event to changed answer, p95": Figure(
            float(np.percentile(found["changed"], 95)) * 1000, "ms", "<=", 100.0
        ),
        "swap and rollback, errors": Figure(sum(each.errors for each in swaps), "answers", "<=", 0),
        "swap and rollback, p99 over quiet": Figure(
            float(np.median([each.during / each.quiet for each in swaps])), "ratio", "<=", 1.5
        ),
        "swap, until it answers": Figure(float(np.median([each.seconds for each in swaps])), "s", "<="),
        "start to ready": Figure(float(np.median(found["starts"])), "s", "<=", 5.0),
        "memory when ready": Figure(found["ready_bytes"] / 2**30, "GiB", "<=", 2.0),
        "memory after the load": Figure(found["loaded_bytes"] / 2**30, "GiB", "<=", 2.0),
        "memory right after a swap": Figure(found["twice_bytes"] / 2**30, "GiB", "<="),
        "feature read, one user": Figure(reads["ours 1"], "µs", "<="),
        "feature read, one user, over Feast's": Figure(reads["sdk 1"] / reads["ours 1"], "ratio", ">=", 6.0),
        "feature read, 64 users": Figure(reads["ours 64"], "µs", "<="),
        "feature read, 64 users, over Feast's": Figure(
            reads["sdk 64"] / reads["ours 64"], "ratio", ">=", 6.0
        ),
        "strange answers": Figure(strange(found["statuses"]), "answers", "<=", 0),
    }
    if index := found.get("index"):
        made |= of_index(index)
    return {f"{shop}{LABELS[shop]}: {label}": figure for label, figure in made.items()}


def of_index(found: dict[str, float]) -> dict[str, Figure]:
    return {
        "index, one search": Figure(found["index µs"], "µs", "<="),
        "index over exact": Figure(found["exact µs"] / found["index µs"], "ratio", ">=", 20.0),
        "index, recall@10": Figure(found["recall"], "recall", ">=", 0.99),
        "index, recall@10 where 1 % is allowed": Figure(found["filtered recall"], "recall", ">=", 0.99),
        "index, recall@10 after 20 % went and came": Figure(found["changed recall"], "recall", ">=", 0.99),
        "index, built in": Figure(found["build seconds"], "s", "<="),
    }


def ratio(rounds: list[Round], above: str, below: str) -> float:
    """The median of the rounds' own ratios: what was measured within seconds of each other."""
    found = [each.values[above] / each.values[below] for each in rounds if each.values.get(below)]
    return float(np.median(found)) if found else float("nan")


def strange(statuses: list[dict[str, dict]]) -> int:
    """Answers of ours other than 200 under a load that is within bounds: the peer's own faults are not ours."""
    return sum(
        count
        for each in statuses
        for load, heard in each.items()
        for status, count in heard.items()
        if load != "peer" and int(status) != 200
    )


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m bench.serving --shop online_retail --quick"
    )
    parser.add_argument(
        "-quick", "--quick", action="store_true", help="the real shop alone, short rounds: three minutes"
    )
    parser.add_argument("--shop", choices=serving_shop.NAMES, help="one of the two")
    parser.add_argument("--prepare", action="store_true", help="make what is measured, and measure nothing")
    parser.add_argument(
        "--refit", action="store_true", help="fit the sources again: after a change of the engine"
    )
    chosen = parser.parse_args()
    names = [chosen.shop] if chosen.shop else list(serving_shop.NAMES)[: 1 if chosen.quick else 2]
    parts, made = {}, {}
    for name in names:
        if chosen.refit:
            serving_shop.refit(name)
        started = time.monotonic()
        try:
            prepared = serving_shop.prepare(name)
        except subprocess.CalledProcessError as error:
            _say(f"{name}: skipped, its preparation failed with code {error.returncode}, see above")
            continue
        if chosen.prepare:
            continue
        parts[name] = measure(name, prepared, chosen.quick)
        made |= figures(name, parts[name])
        _say(f"{name}: {time.monotonic() - started:.0f} s")
    if made:
        publish("serving_quick" if chosen.quick or chosen.shop else "serving", made, parts)


if __name__ == "__main__":
    main()
