"""Whose the lists in Redis are, so that they go with the person: for each user and session that lists were made for, a sorted set of
the lists' keys by when each ends. It ends with the last of them.

The set's name is a digest of the id. Who else was given the same list, a session with the same history, has it made anew.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from aisle.erasures import Erased

AGAIN_SECONDS = 10.0  # after an erasure, for what a worker was at when it came, and stored since
RETRY_SECONDS = 1.0  # where Redis did not do it


def owner(kind: str, name: str) -> str:
    """The key of the set. kind: "user" or "session"."""
    text = f"{kind}\x1f{name}".encode("utf-8", "surrogatepass")
    return f"aisle:lists-of:{hashlib.blake2b(text, digest_size=16).hexdigest()}"


def store(client: Any, key: str, content: bytes, owners: Iterable[str], seconds: int) -> None:
    """A list for `seconds`, and that it is its owners'."""
    now = time.time()
    steps = client.pipeline(transaction=False)
    for each in owners:  # before the list: one that is nobody's would stay
        steps.zadd(each, {key: now + seconds})
        steps.zremrangebyscore(each, "-inf", now)
        steps.expire(each, seconds)
    steps.set(key, content, ex=seconds)
    steps.execute()


def drop(client: Any, owners: Iterable[str]) -> int:
    """All lists of these; how many there were."""
    found = 0
    for each in owners:
        keys = client.zrange(each, 0, -1)
        if keys:
            found += client.unlink(*keys)
            client.zrem(each, *keys)  # what was added since stays known
    return found


class Due(NamedTuple):
    """at: when the lists of `owners` are to go. until: when they have ended by themselves. Both time.monotonic()."""

    at: float
    until: float
    owners: tuple[str, ...]


class Forgetting:
    """Who was erased, until their lists are gone. May be used from many threads.

    seconds: for which a list is kept.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._due: list[Due] = []
        self._lock = threading.Lock()

    def take(self, rows: Iterable[dict[str, Any]]) -> None:
        """The journal's rows of erasures."""
        now = time.monotonic()
        until = now + self.seconds + AGAIN_SECONDS
        people = [Erased.of(row) for row in rows]
        sets = [
            (owner("user", each.user_id), *(owner("session", name) for name in each.sessions))
            for each in people
        ]
        with self._lock:
            self._due += [Due(at, until, each) for each in sets for at in (now, now + AGAIN_SECONDS)]

    def patience(self) -> float | None:
        """Seconds until somebody is due; None where nobody is."""
        with self._lock:
            return max(min(each.at for each in self._due) - time.monotonic(), 0.0) if self._due else None

    def due(self) -> list[Due]:
        """Those whose lists are to go now; who cannot do it tells so with `later`."""
        now = time.monotonic()
        with self._lock:
            found = [each for each in self._due if each.at <= now]
            self._due = [each for each in self._due if each.at > now]
        return [each for each in found if each.until > now]

    def later(self, due: Iterable[Due]) -> None:
        again = time.monotonic() + RETRY_SECONDS
        with self._lock:
            self._due += [each._replace(at=again) for each in due]
