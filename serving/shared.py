"""Lists in Redis, beside those of the process: what one worker worked out, the others need not.

A list's key names the release, the rules' text, all that was told of items since, and who asks; so a change of any of them is
another key, and what is not asked for any more ends by its time. No history is stored. Only an erasure deletes: the lists of the
person and their sessions, see serving.owned.

A Redis that is down or slow costs a request `serving.cache_timeout_seconds` once; then nobody asks it for REST_SECONDS, and
answers go on from the process alone. Both are counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic_core import from_json, to_json

from aisle.settings import Settings
from engine.state import UserState
from serving import owned
from serving.asking import Ask
from serving.cached import Pool
from serving.exposures import Shown
from serving.making import Made
from serving.rulebook import Version
from serving.shedding import parked
from serving.telemetry import stage
from serving.view import View

log = logging.getLogger("aisle.shared")
FORMAT = 1  # of what is stored; another one is another key
REST_SECONDS = 5.0  # after a fault, before Redis is asked again
WRITE_TIMES = 10  # serving.cache_timeout_seconds that a write may take, which nobody waits for
WAITING = 500  # lists that may wait to be stored; one more is dropped and counted
MOST_BYTES = 1_000_000  # of a stored list that is read


class Figures:
    """aisle_shared_lists{outcome}: hit, miss, error (Redis failed or was slow), resting (not asked after an error), stored,
    dropped (too many waited), strange (what was stored is no list), erased (of a person who asked to be forgotten)."""

    def __init__(self, registry: CollectorRegistry):
        self.lists = Counter(
            "aisle_shared_lists",
            "Looks into the shared cache of lists, and writes",
            ["outcome"],
            registry=registry,
        )
        self.up = Gauge(
            "aisle_shared_cache_up", "1 while Redis answers", multiprocess_mode="livemin", registry=registry
        )

    def count(self, outcome: str) -> None:
        self.lists.labels(outcome).inc()


class Circuit:
    """Open after a fault: `closed` is false for REST_SECONDS, then true for one caller at a time until Redis answers."""

    def __init__(self, where: str, figures: Figures):
        self.where, self.figures = where, figures
        self._until: float | None = None  # None: all is well
        self._lock = threading.Lock()
        figures.up.set(1)

    def closed(self) -> bool:
        if self._until is None:
            return True
        with self._lock:
            if self._until is None:
                return True
            if time.monotonic() < self._until:
                return False
            self._until = (
                time.monotonic() + REST_SECONDS
            )  # this caller tries; the others wait for what it finds
            return True

    def answered(self) -> None:
        if self._until is not None:
            with self._lock:
                self._until = None
            self.figures.up.set(1)
            log.info("the shared cache at %s answers again", self.where)

    def failed(self, error: Exception) -> None:
        with self._lock:
            first, self._until = self._until is None, time.monotonic() + REST_SECONDS
        self.figures.up.set(0)
        self.figures.count("error")
        if first:
            log.warning(
                "the shared cache at %s does not answer (%s); lists are kept in the process alone",
                self.where,
                type(error).__name__,
            )


@dataclass(frozen=True)
class Name:
    """Of a list in Redis: its key, and the sets of those whose it is."""

    key: str
    owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A list on its way to Redis."""

    name: Name
    made: Made


class SharedLists:
    """`get` is for the event loop; `put` may be called from any thread and waits for nobody."""

    def __init__(self, settings: Settings, told: Any, registry: CollectorRegistry):
        import redis.asyncio.retry
        import redis.backoff
        import redis.retry

        self._redis: Any = redis  # here, because only who has set one should wait for its import
        self.url, self.told = settings.serving.cache, told
        self.seconds = settings.serving.cache_timeout_seconds
        self.keep_seconds = max(int(settings.answers.cache_seconds), 1)
        self.figures = Figures(registry)
        where = urlsplit(self.url)
        self.circuit = Circuit(f"{where.hostname or ''}:{where.port or ''}{where.path}", self.figures)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: queue.Queue[Kept | None] = queue.Queue(
            WAITING
        )  # None: look who was erased, or whether to stop
        self._forgetting = owned.Forgetting(self.keep_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._store, name="shared", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)  # a daemon: what waits is not worth waiting for

    def take(self, kind: str, rows: Sequence[dict[str, Any]]) -> None:
        """The journal's side: the lists of who was erased go, also those that other workers made."""
        if kind == "erasures":
            self._forgetting.take(rows)
            self._wake()

    def _wake(self) -> None:
        with suppress(queue.Full):  # then it is awake
            self._waiting.put_nowait(None)

    def key(self, key: tuple, view: View, rules: Version, ask: Ask | None = None) -> Name | None:
        """The name of a list in every process; None where it is not to be shared, because more was told since its view.

        key: see Answers. ask: the question as it was asked, where the key's leaves its session out.
        """
        told = self.told.of(view)
        if told is None:
            return None
        text = repr((FORMAT, told, rules.digest, key[0][:2], *key[2:]))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        asked: Ask = ask or key[3]
        who = (
            (("user", asked.user_id), ("session", asked.session_id)) if key[2] else ()
        )  # of no history: nobody's
        return Name(f"aisle:list:{digest}", tuple(owned.owner(kind, each) for kind, each in who if each))

    async def get(self, name: Name | None, state: UserState) -> Made | None:
        """A list that some worker made; None where there is none, or Redis does not say so in time. Raises nothing."""
        if name is None:
            return None
        if not self.circuit.closed():
            self.figures.count("resting")
            return None
        try:
            with stage("shared"), parked():  # who waits for Redis is not at work
                async with asyncio.timeout(self.seconds):
                    found = await self._reader().get(name.key)
        except Exception as error:  # whatever the client raises: the answer is worked out here
            self.circuit.failed(error)
            return None
        self.circuit.answered()
        made = unpacked(found, state) if found else None
        self.figures.count("hit" if made else "strange" if found else "miss")
        return made

    def put(self, name: Name | None, made: Made) -> None:
        if name is None or made.pool.degraded:
            return
        try:
            self._waiting.put_nowait(Kept(name, made))
        except queue.Full:
            self.figures.count("dropped")

    def _reader(self) -> Any:
        """The client of this event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._loop, self._client = loop, self._opened(self._redis.asyncio, self.seconds)
        return self._client

    def _opened(self, kind: Any, seconds: float) -> Any:
        """A client of `redis` or `redis.asyncio` without retries: a request has no time for them."""
        never = kind.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        return kind.Redis.from_url(
            self.url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=never
        )

    def _store(self) -> None:
        client = self._opened(self._redis, WRITE_TIMES * self.seconds)
        while not self._stop.is_set():
            kept = None
            with suppress(queue.Empty):
                kept = self._waiting.get(timeout=self._forgetting.patience())
            self._forget(client)
            if kept is None:
                continue
            if not self.circuit.closed():
                self.figures.count("dropped")
                continue
            try:
                owned.store(client, kept.name.key, packed(kept.made), kept.name.owners, self.keep_seconds)
            except Exception as error:  # the next one may be stored
                self.circuit.failed(error)
            else:
                self.circuit.answered()
                self.figures.count("stored")
        client.close()

    def _forget(self, client: Any) -> None:
        """Tried until it is done: a list of who was erased must not wait for its end."""
        due = self._forgetting.due()
        for place, each in enumerate(due):
            try:
                gone = owned.drop(client, each.owners)
            except Exception as error:
                self.circuit.failed(error)
                self._forgetting.later(due[place:])
                return
            self.figures.lists.labels("erased").inc(gone)


def packed(made: Made) -> bytes:
    """A line of JSON about the list, then its items as they go out. Of who asked nothing but the list is in it."""
    pool = made.pool
    head = {
        "rung": pool.rung,
        "ids": list(pool.ids),
        "scores": b64encode(np.asarray(pool.scores, "<f4").tobytes()).decode(),
        "own": pool.own,
        "now": pool.now.isoformat(),
        "more": made.more,
        "shown": [list(each) for each in made.shown],
    }
    return to_json(head) + b"\n" + made.json


def unpacked(stored: bytes, state: UserState) -> Made | None:
    """The list again, for whoever asks now: their state has the fingerprint that the key names. None where it is no list."""
    if len(stored) > MOST_BYTES:
        return None
    try:
        head, _, items = stored.partition(b"\n")
        told, listed = from_json(head), from_json(items)
        scores = np.frombuffer(b64decode(told["scores"]), "<f4")
        pool = Pool(
            str(told["rung"]),
            [str(each) for each in told["ids"]],
            scores,
            int(told["own"]),
            state,
            datetime.fromisoformat(told["now"]),
        )
        shown = tuple(Shown(*each) for each in told["shown"])
        same = [each["item_id"] for each in listed] == [each.item_id for each in shown]
        if len(scores) != len(pool.ids) or not same:
            return None
        return Made(pool, items, shown, bool(told["more"]))
    except (ValueError, KeyError, TypeError):
        return None
