"""Load shedding: a few requests at work, some wait for their turn, and who would wait too long is told so at once.

What is bounded is the wait (controlled delay: Nichols and Jacobson, ACM Queue 2012; for requests: Maurer, "Fail at Scale", ACM
Queue 2015), and it is counted in turns, which is how many others are before somebody: so the bound follows what a request takes
here and now, without a number to set anew for a larger catalogue, and nobody is turned away while the process stands still for a
moment, as when a new release takes the processor. A burst may be `burst_turns` long. When more than `queue_turns` have
waited for longer than such a burst takes, it is overload: then no more than those may wait, until a while after.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aisle.errors import Overloaded
from aisle.settings import Limits

OVERLOAD_SECONDS = 5.0  # since the last one was turned away: so long it is not over yet
_place: ContextVar[Place | None] = ContextVar("place", default=None)


class Gate:
    """Places at work. Used from one event loop alone, but for `parked`.

    places: how many. shed: told why, for everyone who is turned away.
    """

    def __init__(self, limits: Limits, places: int, shed: Callable[[str], object] = lambda _: None):
        self.limits, self.places, self.shed = limits, places, shed
        self.at_work = 0
        self.turns = 0  # places that were given back so far
        self._queue: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()  # parts of long requests: after all the others
        self._calm = 0  # the turn at which so few waited last that overload would let them
        self._shed = -OVERLOAD_SECONDS  # when somebody was turned away last

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def overloaded(self) -> bool:
        """Whether more have waited for long than should, or somebody was turned away a moment ago."""
        recently = time.monotonic() - self._shed < OVERLOAD_SECONDS
        return recently or self.turns - self._calm > self.limits.burst_turns

    async def enter(self) -> Place:
        """A place; the caller gives it back with `leave`. Raises Overloaded."""
        if not self._queue and self.at_work < self.places:
            self.at_work += 1
            return Place(self)
        self._look()
        if len(self._queue) >= self.places * (
            self.limits.queue_turns if self.overloaded else self.limits.burst_turns
        ):
            self._turn_away("full")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(self.limits.max_queue_seconds):
                await place
        except TimeoutError:
            if not _given(place):
                self._turn_away("waited")
        except asyncio.CancelledError:
            if _given(place):
                self.give_back()
            raise
        finally:
            if place in self._queue:
                self._queue.remove(place)
        return Place(self)

    def _turn_away(self, why: str) -> None:
        self._shed = time.monotonic()
        self.shed(why)
        again = random.randint(1, 3)  # so that those who were turned away together do not come back together
        raise Overloaded("more requests came than can be answered in time; ask again", retry_after=again)

    def _look(self) -> None:
        if len(self._queue) <= self.places * self.limits.queue_turns:
            self._calm = self.turns

    def give_back(self) -> None:
        """A turn: whoever has waited longest gets the place, parts of long requests after all the others."""
        self.at_work -= 1
        self.turns += 1
        for queue in (self._queue, self._patient):
            while queue and self.at_work < self.places:
                place = queue.popleft()
                if not place.done():
                    self.at_work += 1
                    place.set_result(None)
        self._look()

    async def come_back(self) -> None:
        """A place when nobody else waits, but after `max_queue_seconds` in any case."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._patient.append(place)
        try:
            async with asyncio.timeout(self.limits.max_queue_seconds):
                await place
        except TimeoutError:
            if not _given(place):
                self.at_work += 1
        except asyncio.CancelledError:
            if _given(place):
                self.give_back()
            raise


def _given(place: asyncio.Future[None]) -> bool:
    return place.done() and not place.cancelled()


class Place:
    """A place at work: held, given to others for a while (`parked`), or left."""

    def __init__(self, gate: Gate):
        self.gate, self.state = gate, "held"
        self.loop = asyncio.get_running_loop()
        _place.set(self)

    def leave(self) -> None:
        """The work is done. Harmless when it was said before."""
        held, self.state = self.state, "left"
        if held == "held":
            self.gate.give_back()

    def park(self) -> None:
        if self.state == "held":
            self.state = "parked"
            self.gate.give_back()

    def resume(self) -> None:
        if self.state == "parked":
            self.state = "held"
            self.gate.at_work += 1


async def let_others_go() -> None:
    """Between two parts of a long request, such as a batch: whoever waits comes first. Raises nothing, and does not wait for nobody."""
    place = _place.get()
    if place is None or place.state != "held" or not place.gate.waiting:
        return
    place.park()
    await place.gate.come_back()
    place.state = "held"


@contextmanager
def parked() -> Iterator[None]:
    """While a request waits for another process (the online store), its place is another's. From any thread.

    When it comes back it goes on without waiting, since it is half done: for a moment there may be one more at work.
    """
    place = _place.get()
    if place is None or place.state != "held":
        yield
        return
    place.loop.call_soon_threadsafe(place.park)
    try:
        yield
    finally:
        place.loop.call_soon_threadsafe(place.resume)
