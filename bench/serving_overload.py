"""`python -m bench.serving_overload`: what the API does when more is asked than it can answer.

A shop of 2,000 made-up items and users, learnt by the engine, each answer worked out in full (no cache). The load comes from
this machine's loopback, and the generator shares its cores, so compare figures of one run only. Targets are those of the serving
API: overload gives 200, 429 and 503 alone; goodput 0.8 of peak at ten times the callers and 0.5 at twice the rate; an
admitted p99 of at most twice that at 80 % load; normal again within 5 s.
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
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

from bench.load import Heard, closed, gets, opened
from bench.pipeline import free_port
from bench.report import Figure, publish

ROOT = Path(__file__).resolve().parent.parent
CALLERS = (2, 4, 8, 16)  # of the closed loops that look for the peak
N_ITEMS, N_USERS = 2000, 2000


def serve() -> None:
    """The API's process: a release of the shop, and its histories from memory."""
    import uvicorn

    from aisle import settings as settings_module
    from engine.state import from_frame
    from serving import release, server
    from serving.app import create_app
    from tests.serving.conftest import Kept

    settings = settings_module.load()
    items, histories = shop()
    stage(items, histories)
    store = Kept()
    store.states = {state.user_id: state for state in from_frame(histories)}
    assert release.current() is not None
    listener = server.listen("127.0.0.1", settings.ports.api)
    uvicorn.Server(server.config(settings, create_app(settings, store))).run(sockets=[listener])


def shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items that are bought in proportion to 1/rank, and users of 4 to 40 purchases."""
    from tests.serving import conftest

    rng = np.random.default_rng(11)
    items, _ = conftest.shop(n_items=N_ITEMS, n_users=1)
    items["item_id"] = [f"i{number:05d}" for number in range(N_ITEMS)]
    share = 1 / np.arange(1, N_ITEMS + 1)
    share /= share.sum()
    rows = []
    for number in range(N_USERS):
        size = int(rng.integers(4, 40))
        chosen = rng.choice(N_ITEMS, size, replace=False, p=share)
        times = int(conftest.CUT.timestamp()) - np.sort(rng.integers(1, 120, size)) * 86_400
        rows.append(
            {
                "user_id": f"u{number:05d}",
                "country": conftest.COUNTRIES[number % 3],
                "item_ids": items["item_id"].to_numpy()[chosen].tolist(),
                "event_types": ["purchase"] * size,
                "event_times": times.tolist(),
                "quantities": [1.0] * size,
                "n_orders": size,
            }
        )
    buyers = pd.Series([item for row in rows for item in row["item_ids"]]).value_counts()
    counts = buyers.reindex(items["item_id"]).fillna(0).astype("int64").to_numpy()
    items = items.assign(n_buyers=counts, n_buyers_30d=counts // 4, n_orders_30d=counts // 4)
    return items, pd.DataFrame(rows)


def stage(items: pd.DataFrame, histories: pd.DataFrame) -> None:
    from engine.recommender import Recipe, Recommender
    from serving import release
    from tests.serving.conftest import CUT

    folder = release.folder("1")
    model = Recommender.fit(items, histories, CUT, Recipe(feature_service="retrieval_v1"), None)
    model.save(folder / "bundle")
    digest = release.digest(folder / "bundle")
    release.write_json(
        folder / "smoke.json", {"verdict": "passed", "digest": digest, "as_of": CUT.isoformat()}
    )
    staged = release.staged("1")
    assert staged is not None
    release.point(staged)


def until_ready(port: int, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    sys.exit("bench: the API did not come up")


async def measure(port: int, key: str, short: float) -> dict[str, Heard]:
    """Every phase, one after another. short: factor of the phases' lengths."""
    requests = gets(lambda number: f"/v1/recommendations?k=20&user_id=u{number * 37 % N_USERS:05d}", key)
    await closed(port, requests, 4, 3)  # warm
    found: dict[str, Heard] = {}
    for callers in CALLERS:
        found[f"closed {callers}"] = await closed(port, requests, callers, 8 * short)
    best = max(CALLERS, key=lambda callers: found[f"closed {callers}"].goodput)
    peak = found["peak"] = found[f"closed {best}"]
    found["at 80 %"] = await opened(port, requests, 0.8 * peak.goodput, 30 * short)
    found["ten times the callers"] = await closed(port, requests, 10 * best, 60 * short)
    await asyncio.sleep(5)
    found["twice the rate"] = await opened(port, requests, 2 * peak.goodput, 60 * short)
    found["after it"] = await opened(port, requests, 0.8 * peak.goodput, 15)
    return found


def told(name: str, heard: Heard) -> str:
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(heard.statuses.items()))
    return (
        f"{name:<24} {heard.goodput:7.0f} /s good  p50 {heard.percentile(50):7.1f}  p95 {heard.percentile(95):7.1f}  "
        f"p99 {heard.percentile(99):7.1f} ms  {statuses}"
    )


def figures(found: dict[str, Heard]) -> dict[str, Figure]:
    peak, calm = found["peak"].goodput, found["at 80 %"].percentile(99)
    many, fast, after = found["ten times the callers"], found["twice the rate"], found["after it"]
    overload = [many, fast]
    strange = sum(
        count for each in overload for status, count in each.statuses.items() if status not in (200, 429, 503)
    )
    return {
        "peak": Figure(peak, "answers/s", ">=", None),
        "p99_at_80": Figure(calm, "ms", "<=", None),
        "strange_answers": Figure(strange, "answers", "<=", 0),
        "without_retry_after": Figure(sum(each.without_retry_after for each in overload), "answers", "<=", 0),
        "goodput_ten_times_callers": Figure(many.goodput / peak, "of peak", ">=", 0.8),
        "goodput_twice_rate": Figure(fast.goodput / peak, "of peak", ">=", 0.5),
        "admitted_p99_ten_times": Figure(many.percentile(99) / calm, "times p99 at 80 %", "<=", 2.0),
        "admitted_p99_twice_rate": Figure(fast.percentile(99) / calm, "times p99 at 80 %", "<=", 2.0),
        "p99_5s_after": Figure(after.percentile(99, since=5) / calm, "times p99 at 80 %", "<=", 1.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m bench.serving_overload --quick"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="phases a quarter as long")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="AISLE_ settings of the API"
    )
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "AISLE_HOME": home, "AISLE_PORTS__API": str(port), "AISLE_ANSWERS__CACHED": "0"}
        env |= {"AISLE_SERVING__LIMITS__KEY_RATE": "100000"}  # the load is one key's
        env |= dict(each.split("=", 1) for each in options.set)
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.serving_overload", "--serve"], env=env, cwd=ROOT
        )
        try:
            until_ready(port, server)
            keys = dict(
                line.split("=", 1)
                for line in (Path(home) / "keys" / "first.env").read_text().splitlines()[1:]
            )
            found = asyncio.run(measure(port, keys["AISLE_SERVER_KEY"], 0.25 if options.quick else 1.0))
        finally:
            server.terminate()
            server.wait(30)
    for name, heard in found.items():
        print(told(name, heard))
    measured = figures(found)
    print(json.dumps({name: round(each.value, 3) for name, each in measured.items()}, indent=1))
    if not options.set:
        publish("serving_overload_quick" if options.quick else "serving_overload", measured)


if __name__ == "__main__":
    main()
