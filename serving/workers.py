"""Threads that work for an event loop: a result by a deadline, with as little between them as there can be.

One future and one timer, and of the threads that have nothing to do one is woken. `run_in_executor` under `asyncio.wait_for` does
the same with two futures, a condition and a queue on which every idle thread wakes the next one, each of which wants the interpreter.

Work that is over in a few milliseconds is done by the loop itself, one piece a turn: a thread would hold the interpreter for as long,
and to wake it, and to find nothing of the request in its core's cache, costs on top of that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, NamedTuple


class Job(NamedTuple):
    """context: of who asked, so that the stages of their request are told in its log line. until: the loop's time of the deadline."""

    run: Callable[[], Any]
    context: Context
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]
    until: float

    def do(self) -> None:
        """In a thread. Nothing, where nobody waits for it any more."""
        if not self.result.done():
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self.loop.call_soon_threadsafe(_settle, self.result, *self._done())

    def do_here(self) -> None:
        """As `do`, on the loop, where the deadline's timer may be late."""
        if not self.result.done():
            late = self.loop.time() > self.until
            _settle(self.result, *((None, TimeoutError()) if late else self._done()))

    def _done(self) -> tuple[Any, BaseException | None]:
        """What came of it, and what it raised."""
        try:
            return self.context.run(self.run), None
        except StopIteration as why:  # which no future takes
            return None, RuntimeError(repr(why))
        except BaseException as why:  # whoever waits is told, whatever it is
            return None, why


class Pace:
    """Whether work is so short that the loop does it itself. quick: seconds that it takes on average, at most; 0 for never.

    It is not until enough was done in threads to tell, and not for a while after a piece of work that took long.
    """

    SHARE, SLOWER, MOST = (
        1 / 16,
        1.3,
        100.0,
    )  # of the mean; of `quick`, until threads do it again; of `quick`, as one piece counts

    def __init__(self, quick: float):
        self._quick = quick
        self._mean = 2 * quick
        self.on_loop = False

    def note(self, seconds: float) -> None:
        self._mean += (min(seconds, self.MOST * self._quick) - self._mean) * self.SHARE
        self.on_loop = self._mean < self._quick * (self.SLOWER if self.on_loop else 1.0)


class Workers:
    """So many threads, each of which begins when there is a first job for it. name: of the threads. quick: see `Pace`, of which each
    sort of work has one."""

    def __init__(self, count: int, name: str, quick: float = 0.0):
        self._left, self._name = count, name  # threads that have not begun
        self._quick = quick
        self._paces: dict[Hashable, Pace] = {}
        self._turns: deque[Job] = deque()  # of the loop's own
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._idle: list[_Worker] = []  # the last one to have worked comes first: it is warm
        self._stopped = False

    async def within[T](
        self, seconds: float, run: Callable[[], T], sort: Hashable = "", here: bool = True
    ) -> T:
        """What `run` returns or raises. Raises TimeoutError after `seconds`: work that has not begun by then is never begun, other
        work is done for nobody.

        sort: of work that takes about as long as this. here: whether the loop may do it.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        pace = self.pace(sort)
        job = Job(_timed(run, pace), copy_context(), loop, result, loop.time() + seconds)
        if here and pace.on_loop:
            self._take_turn(job)
        else:
            self._give(job)
        late = loop.call_later(max(seconds, 0.0), _settle, result, None, TimeoutError())
        try:
            return await result
        finally:
            late.cancel()

    def pace(self, sort: Hashable = "") -> Pace:
        return self._paces.setdefault(sort, Pace(self._quick))

    def _take_turn(self, job: Job) -> None:
        if self._turns and self._turns[0].loop is not job.loop:  # of a loop that ended
            self._turns.clear()
        if not self._stopped:
            self._turns.append(job)
            if len(self._turns) == 1:
                job.loop.call_soon(
                    self._turn
                )  # others come to their door first, and those who wait are counted

    def _turn(self) -> None:
        if self._turns:
            job = self._turns.popleft()
            if self._turns:
                job.loop.call_soon(self._turn)
            job.do_here()

    def stop(self) -> None:
        """Threads end with what they are at; what waits is not begun."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            self._turns.clear()
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.wake(None)

    def _give(self, job: Job) -> None:
        with self._lock:
            if self._stopped:
                return
            worker = self._idle.pop() if self._idle else None
            if worker is None and self._left:
                worker = _Worker(self, f"{self._name}_{self._left - 1}")
                worker.start()
                self._left -= 1
            elif worker is None:
                self._waiting.append(job)
                return
        worker.wake(job)

    def next(self, worker: _Worker) -> Job | None:
        """For a worker that is done; None: it is idle now, and is woken."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._stopped:
                worker.wake(None)
            else:
                self._idle.append(worker)
        return None


class _Worker(threading.Thread):
    def __init__(self, workers: Workers, name: str):
        super().__init__(name=name, daemon=True)
        self._workers = workers
        self._job: Job | None = None
        self._bell = threading.Lock()
        self._bell.acquire()

    def wake(self, job: Job | None) -> None:
        """With the next job, or None: to end."""
        self._job = job
        self._bell.release()

    def run(self) -> None:
        while True:
            self._bell.acquire()
            job, self._job = self._job, None
            if job is None:
                return
            while job is not None:
                job.do()
                job = self._workers.next(self)


def _timed[T](run: Callable[[], T], pace: Pace) -> Callable[[], T]:
    """Whose time is noted where it came to an end: who refuses a question at once says nothing of the others."""

    def timed() -> T:
        started = time.perf_counter()
        found = run()
        pace.note(time.perf_counter() - started)
        return found

    return timed


def _settle(result: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
    """On the loop: the first word counts, be it the work's, the deadline's, or that nobody waits any more."""
    if result.done():
        return
    if error is None:
        result.set_result(found)
    else:
        result.set_exception(error)
