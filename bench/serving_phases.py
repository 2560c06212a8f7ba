"""What the serving bench does to a running API: loads at peak, at one connection and at a fixed rate, events, swaps; and their times."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.load import Heard, closed, gets, opened, posts
from bench.serving_processes import Process, at_home, point

K = 20
CALLERS = 4  # of the closed loops at the peak: enough that none of the cores idles
CHANGED_SECONDS = 5.0  # an answer that has not changed by then counts as this
Bodies = Callable[[int], object]


def ruled(users: Sequence[str], excluded: Sequence[str], most: float) -> Bodies:
    """Questions of the full path: every one another user's, under rules, and none twice, so that no list is kept of it."""

    def body(number: int) -> object:
        return {
            "user_id": users[number % len(users)],
            "k": K,
            "rules": {
                "in_stock": True,
                "price": {"min": 0.1, "max": most + number * 1e-6},
                "exclude": list(excluded),
                "already": {"event_types": ["return"], "days": 30},
                "boosts": [{"value": excluded[0], "times": 1.1}],
            },
        }

    return body


@dataclass
class Questions:
    """Where the questions of the rounds come from: each round goes on where the one before stopped."""

    bodies: Bodies
    asked: int = 0

    def stream(self, key: str, tag: str = "") -> Iterator[bytes]:
        def next_body(_: int) -> object:
            self.asked += 1
            return self.bodies(self.asked)

        return posts("/v1/recommendations", next_body, key, tag)


@dataclass
class Round:
    """One round's figures. Rates in answers a second, times in ms."""

    values: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, dict[int, int]] = field(default_factory=dict)

    def peak(self, name: str, heard: Heard) -> None:
        self.values[name] = heard.goodput
        self.statuses[name] = dict(heard.statuses)


def middle(rounds: Sequence[Round], name: str) -> float:
    """The median of a figure over the rounds that have it; NaN where none has."""
    found = [each.values[name] for each in rounds if name in each.values]
    return float(np.median(found)) if found else float("nan")


def one_round(
    api: Process,
    key: str,
    questions: Questions,
    floor: Process | None,
    peer: Process | None,
    users: Sequence[str],
    seconds: float,
    number: int,
) -> Round:
    """Floor, API, peer, one connection, half the peak's rate and the kept list, one after the other."""
    found = Round()

    def plain(path: str) -> Iterator[bytes]:
        start = number * 7919
        return gets(lambda each: f"{path}?user_id={users[(start + each) % len(users)]}", "none")

    if floor:
        found.peak("floor", asyncio.run(closed(floor.port, plain("/"), CALLERS, seconds)))
    found.peak("peak", asyncio.run(closed(api.port, questions.stream(key), CALLERS, seconds)))
    if peer:
        found.peak("peer", asyncio.run(closed(peer.port, plain("/recommendations"), CALLERS, seconds)))
    single = asyncio.run(closed(api.port, questions.stream(key), 1, seconds))
    found.values["one p50"] = single.percentile(50)
    found.values["one p99"] = single.percentile(99)
    half = asyncio.run(opened(api.port, questions.stream(key), 0.5 * found.values["peak"], 2 * seconds))
    found.values |= {"half p50": half.percentile(50), "half p99": half.percentile(99)}
    found.statuses["half"] = dict(half.statuses)
    tag = f"kept-{number}-"
    kept = posts("/v1/popular", lambda _: {"k": K}, key, tag)
    outside = asyncio.run(closed(api.port, kept, 1, seconds / 2))
    found.values["kept p50 outside"] = outside.percentile(50)
    time.sleep(0.2)  # the log is written by then
    found.values["kept p50"] = _median_of_log(api.log, tag)
    return found


def _median_of_log(log: Path, tag: str) -> float:
    """Median ms of the log's lines whose request id begins with `tag`: time within the server. NaN without one."""
    told = [
        json.loads(line)["ms"]
        for line in log.read_text(errors="replace").splitlines()
        if f'"request_id": "{tag}' in line and '"ms"' in line
    ]
    return float(np.median(told)) if told else float("nan")


class Caller:
    """One keep-alive connection that reads answers, for what has to look into them."""

    def __init__(self, port: int, key: str):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def post(self, path: str, body: object) -> tuple[int, dict]:
        self.connection.request("POST", path, json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else {}

    def close(self) -> None:
        self.connection.close()


def changes(api: Process, key: str, users: Sequence[str], items: Sequence[str], tag: str) -> list[float]:
    """Seconds from sending an event until an answer shows it, for each user: a shopper hides the first item of their list, which
    must be gone; a visitor without a history views an item, and must be answered by their session."""
    caller, found = Caller(api.port, key), []
    for number, user in enumerate(users):
        known = number % 2 == 0
        who = {"user_id": user} if known else {"session_id": f"{tag}-{number}"}
        _, before = caller.post("/v1/recommendations", {**who, "k": K})
        item = before["items"][0]["item_id"] if known else items[number % len(items)]
        event = {
            "event_id": f"{tag}-{number}",
            "event_type": "hide" if known else "view",
            "item_id": item,
            **who,
        }
        started = time.perf_counter()
        status, told = caller.post("/v1/events", event)
        if status >= 300:
            raise SystemExit(f"bench: an event was refused: {status} {told}")
        while (took := time.perf_counter() - started) < CHANGED_SECONDS:
            _, answer = caller.post("/v1/recommendations", {**who, "k": K})
            took = time.perf_counter() - started
            shown = {each["item_id"] for each in answer["items"]}
            if item not in shown if known else answer["rung"] == "session":
                break
        found.append(took)
    caller.close()
    return found


@dataclass(frozen=True)
class Swapped:
    """errors: answers other than 200. quiet, during: p99 in ms, before the pointer moved and from then on until `SETTLED`
    seconds after the new version answered. seconds: from the pointer's move until it answered."""

    errors: int
    quiet: float
    during: float
    seconds: float


SETTLED = 1.0
QUIET = 6.0  # seconds of a swap's load before the pointer moves


def swap(
    api: Process, key: str, home: Path, to: str, questions: Questions, rate: float, seconds: float
) -> Swapped:
    """Moves the release pointer under a load of `rate` questions a second, which goes on for `seconds` after it."""
    moved: list[float] = []

    async def watched() -> Heard:
        load = asyncio.create_task(opened(api.port, questions.stream(key), rate, QUIET + seconds))
        started = time.perf_counter()
        await asyncio.sleep(QUIET)
        with at_home(home):
            point(to)
        moved.append(time.perf_counter() - started)
        while await asyncio.to_thread(_version, api.port) != to:
            if time.perf_counter() - started > QUIET + 3 * seconds + 30:
                raise SystemExit(f"bench: version {to} was not swapped in")
            await asyncio.sleep(0.1)
        moved.append(time.perf_counter() - started)
        return await load

    heard = asyncio.run(watched())
    errors = sum(count for status, count in heard.statuses.items() if status != 200)
    begun, ended = moved
    return Swapped(
        errors,
        heard.percentile(99, since=1.0, until=begun),
        heard.percentile(99, since=begun, until=ended + SETTLED),
        ended - begun,
    )


def _version(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/readyz")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found["version"]
