"""A load generator for the API on this machine: HTTP/1.1 over asyncio, closed and open loop, with bounded time and count.

A closed loop has so many callers, each of whom asks again when answered; an open loop asks at its own rate whatever comes back,
and counts a request's time from when it was due, so that a slow server cannot slow the question.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

MOST_SECONDS = 60.0
MOST_OPEN = 2000  # requests of an open loop under way; one more is counted as lost


@dataclass
class Heard:
    """What a run heard. at: seconds from its start; times are of answers with 200, in seconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    at: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        return len(self.times) / self.seconds

    def percentile(self, q: float, since: float = 0.0, until: float = 1e9) -> float:
        """Of the times of answers that came in [since, until), in milliseconds; NaN where none did."""
        chosen = [took for at, took in zip(self.at, self.times, strict=True) if since <= at < until]
        return float(np.percentile(chosen, q) * 1000) if chosen else float("nan")


class Connection:
    """One keep-alive connection to 127.0.0.1; opened when it is needed, and anew after it broke."""

    def __init__(self, port: int):
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, float | None]:
        """(status, seconds of Retry-After); status 0 where the connection broke."""
        try:
            if (
                self._reader is not None and self._reader.at_eof()
            ):  # kept open until the server had enough of it
                self.close()
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
            assert self._reader is not None
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
            await self._reader.readexactly(int(fields.get(b"content-length", b"0")))
            if fields.get(b"connection") == b"close":
                self.close()
            again = fields.get(b"retry-after")
            return int(lines[0].split(b" ")[1]), float(again) if again else None
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return 0, None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def note(heard: Heard, started: float, due: float, status: int, again: float | None) -> None:
    heard.statuses[status] += 1
    if status == 200:
        now = time.perf_counter()
        heard.at.append(now - started)
        heard.times.append(now - due)
    elif status in (429, 503) and again is None:
        heard.without_retry_after += 1


async def closed(port: int, requests: Iterator[bytes], callers: int, seconds: float) -> Heard:
    """Callers who ask again at once when answered, and who wait as Retry-After says, a little more or less than asked."""
    heard, started = Heard(min(seconds, MOST_SECONDS)), time.perf_counter()
    end = started + heard.seconds

    async def caller() -> None:
        connection = Connection(port)
        while (due := time.perf_counter()) < end:
            status, again = await connection.ask(next(requests))
            note(heard, started, due, status, again)
            if again is not None:
                left = end - time.perf_counter()
                await asyncio.sleep(min(again * random.uniform(1.0, 1.2), max(left, 0)))
        connection.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return heard


async def opened(port: int, requests: Iterator[bytes], rate: float, seconds: float) -> Heard:
    """Requests at random moments (Poisson), `rate` a second on average. A lost one is counted as status -1."""
    heard, started = Heard(min(seconds, MOST_SECONDS)), time.perf_counter()
    free: list[Connection] = []
    under_way: set[asyncio.Task[None]] = set()
    due = started

    async def one(due: float) -> None:
        connection = free.pop() if free else Connection(port)
        status, again = await connection.ask(next(requests))
        note(heard, started, due, status, again)
        free.append(connection)

    while (due := due + random.expovariate(rate)) < started + heard.seconds:
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if len(under_way) >= MOST_OPEN:
            heard.statuses[-1] += 1
            continue
        task = asyncio.create_task(one(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    for each in free:
        each.close()
    return heard


def gets(paths: Callable[[int], str], key: str) -> Iterator[bytes]:
    """GET requests without end, of numbered paths."""
    for number in itertools.count():
        yield f"GET {paths(number)} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n".encode()


def posts(path: str, bodies: Callable[[int], object], key: str, tag: str = "") -> Iterator[bytes]:
    """POST requests without end, of numbered JSON bodies. tag: begins each request's id."""
    for number in itertools.count():
        body = json.dumps(bodies(number)).encode()
        named = f"X-Request-ID: {tag}{number}\r\n" if tag else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n{named}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body
