"""What is kept of answers, in bounded memory: lists that are used again, and those whose further pages may be asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from engine.state import UserState
from serving.asking import Ask

ASKED = 2000  # different questions without a user whose number is counted


class Lru[Value]:
    """The newest `most` values, each for at most `seconds`. May be used from many threads."""

    def __init__(self, most: int, seconds: float):
        self.most, self.seconds = most, seconds
        self._held: OrderedDict[Any, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Value | None:
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            if time.monotonic() - held[0] >= self.seconds:
                del self._held[key]
                return None
            self._held.move_to_end(key)
            return held[1]

    def put(self, key: Any, value: Value) -> None:
        if not self.most or not self.seconds:
            return
        with self._lock:
            self._held[key] = (time.monotonic(), value)
            self._held.move_to_end(key)
            while len(self._held) > self.most:
                self._held.popitem(last=False)

    def __len__(self) -> int:
        return len(self._held)


class Named(Collection[str]):
    """Ids of `rows` (n,) of a catalogue, each looked up when it is asked for: of the hundreds that an answer keeps most never are, and
    a list of them would touch every one, in memory that nothing else of the request reads."""

    __slots__ = "_all", "_rows"

    def __init__(self, all_ids: Sequence[str], rows: np.ndarray):
        self._all, self._rows = all_ids, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return map(self._all.__getitem__, self._rows.tolist())

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)


@dataclass(frozen=True)
class Pool:
    """What is left of an ordering when the answer is out: enough to make further pages of. By id, because releases change.

    ids, scores: best first; the first `own` are the rung's own. now: the moment of the answer.
    """

    rung: str
    ids: Collection[str]
    scores: np.ndarray
    own: int
    state: UserState
    now: datetime
    degraded: tuple[str, ...] = ()


def fingerprint(state: UserState) -> str:
    """Of country and events; the same in every process. Worked out once a state, since several parts of an answer go by it."""
    held = state.__dict__.get("_fingerprint")
    if held is None:
        held = state.__dict__["_fingerprint"] = _fingerprint(state)
    return held


def _fingerprint(state: UserState) -> str:
    text = "\x1f".join(
        (*state.item_ids, *state.event_types, *map(str, state.event_times), state.country or "")
    )
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def key_of(ask: Ask, state: UserState, release: tuple, rules: int, degraded: tuple[str, ...]) -> tuple:
    """What an answer depends on. Who has no events gets what every stranger in their country gets."""
    some = len(state.item_ids) > 0
    who = ask.user_id if some else None
    if (
        ask.session_id is not None
        or ask.request_id is not None
        or who != ask.user_id
        or ask.country != state.country
    ):
        ask = replace(ask, session_id=None, request_id=None, user_id=who, country=state.country)
    return release, rules, fingerprint(state) if some else "", ask, degraded


def etag_of(key: tuple) -> str:
    """A weak entity tag: the same in every process, and another one for every other answer."""
    return f'W/"{hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()}"'


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names an entity tag; weakly, as RFC 9110 compares it there.

    >>> matches('W/"a", "b"', '"b"'), matches("*", '"b"'), matches(None, '"b"')
    (True, True, False)
    """
    if header is None:
        return False
    wanted = etag.removeprefix("W/")
    return header.strip() == "*" or wanted in (each.strip().removeprefix("W/") for each in header.split(","))


class Asked:
    """How often which question without a user was asked, of the most frequent ones: the pages worth preparing."""

    def __init__(self, most: int = ASKED):
        self.most, self._counts = most, Counter[Ask]()
        self._lock = threading.Lock()

    def count(self, ask: Ask) -> None:
        with self._lock:
            self._counts[ask] += 1
            if len(self._counts) > self.most:
                self._counts = Counter(dict(self._counts.most_common(self.most // 2)))

    def most_common(self, count: int) -> list[Ask]:
        with self._lock:
            return [ask for ask, _ in self._counts.most_common(count)]
