"""Answers that are made and not taken: what they may hold of memory, all together.

An answer of megabytes goes out as fast as its caller reads it, and until the last byte is with the system all of it is held.
`serving.limits.send_seconds` gives up who reads nothing; this bounds how much may wait until then.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from prometheus_client import Counter
from uvicorn.server import ServerState

from serving import heap

SETTLE_SECONDS = (
    5.0  # after answers were given up, or much was taken, until their memory goes back to the system
)
GIVEN_UP = Counter(
    "aisle_untaken_answers",
    "Connections that were closed because an answer was not taken, by why",
    ["why"],
    registry=None,  # of the process; every app's figures have it
)
SLOW, FULL = GIVEN_UP.labels("slow"), GIVEN_UP.labels("full")
log = logging.getLogger("aisle.api")


class Unsent:
    """The connections of one server whose answers wait for their callers, longest first. For its event loop.

    most: bytes of all of them, above which those that have waited longest are closed.
    """

    def __init__(self, most: int):
        self.most, self.total = most, 0
        self._held: dict[asyncio.Transport, int] = {}
        self._much = False  # waited since memory was given back
        self._settling: asyncio.TimerHandle | None = None

    def waits(self, transport: asyncio.Transport, made: int = 0) -> None:
        """made: bytes of what was sent; all of it stays until the caller has the last one, whatever the system took."""
        self.taken(transport)
        self._held[transport] = size = max(made, transport.get_write_buffer_size())
        self.total += size
        self._much = self._much or self.total > heap.KEPT
        while self.total > self.most:
            self.give_up(next(iter(self._held)), FULL)

    def taken(self, transport: asyncio.Transport) -> None:
        """To the last byte; or the connection is gone. Harmless where nothing waited."""
        self.total -= self._held.pop(transport, 0)
        if self._much and self.total < heap.KEPT // 2:
            self._much = False
            self._settle_soon()

    def give_up(self, transport: asyncio.Transport, why: Counter = SLOW) -> None:
        self.taken(transport)
        transport.abort()
        why.inc()
        self._settle_soon()

    def _settle_soon(self) -> None:
        """Once for all that were given up meanwhile: what they held lies free between small objects, and would stay."""
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        self._settling = None
        asyncio.get_running_loop().run_in_executor(None, heap.trim)


_of: WeakKeyDictionary[ServerState, Unsent] = WeakKeyDictionary()


def of(server: ServerState, most: int) -> Unsent:
    """The one of a server, whose protocols share nothing else."""
    found = _of.get(server)
    if found is None:
        found = _of[server] = Unsent(most)
    return found
