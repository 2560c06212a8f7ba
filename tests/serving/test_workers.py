"""Workers of an event loop: what work returns or raises, by a deadline, whoever else waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from serving.workers import Pace, Workers

Begin = Callable[..., Workers]
place: ContextVar[str] = ContextVar("place", default="nowhere")


@pytest.fixture
def begin() -> Iterator[Begin]:
    made: list[Workers] = []

    def found(count: int, quick: float = 0.0) -> Workers:
        made.append(Workers(count, "test", quick))
        return made[-1]

    yield found
    for each in made:
        each.stop()


def ran(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_work_is_done_in_a_thread_in_the_context_of_who_asks(begin: Begin) -> None:
    async def asks() -> tuple[str, str]:
        place.set("here")
        return await workers.within(5, lambda: (place.get(), threading.current_thread().name))

    workers = begin(1)
    assert ran(asks()) == ("here", "test_0")


def test_what_it_raises_is_raised(begin: Begin) -> None:
    def fails() -> None:
        raise KeyError("why")

    workers = begin(1)
    with pytest.raises(KeyError, match="why"):
        ran(workers.within(5, fails))
    assert ran(workers.within(5, lambda: "next")) == "next"


def test_whoever_waits_too_long_is_told_and_later_work_is_done(begin: Begin) -> None:
    async def asks() -> tuple[float, list[str]]:
        started = time.perf_counter()
        with pytest.raises(TimeoutError):
            await workers.within(0.1, lambda: held.wait(10))
        took = time.perf_counter() - started
        with pytest.raises(TimeoutError):  # behind the one that nobody waits for any more
            await workers.within(0.1, lambda: done.append("given up before it began"))
        held.set()
        await workers.within(5, lambda: done.append("later"))
        return took, done

    held, done = threading.Event(), list[str]()
    workers = begin(1)
    took, found = ran(asks())
    assert 0.1 <= took < 2
    assert found == ["later"]


def test_a_deadline_that_is_over_leaves_no_time_to_begin(begin: Begin) -> None:
    async def asks() -> None:
        working = asyncio.create_task(workers.within(5, lambda: held.wait(10)))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await workers.within(-1.0, lambda: done.append("late"))
        held.set()
        await working
        await workers.within(5, lambda: None)

    held, done = threading.Event(), list[str]()
    workers = begin(1)
    ran(asks())
    assert done == []


def test_who_goes_away_is_not_worked_for(begin: Begin) -> None:
    async def asks() -> None:
        working = asyncio.create_task(workers.within(5, lambda: held.wait(10)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(workers.within(5, lambda: done.append("for nobody")))
        await asyncio.sleep(0.05)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        held.set()
        await working
        await workers.within(5, lambda: None)

    held, done = threading.Event(), list[str]()
    workers = begin(1)
    ran(asks())
    assert done == []


@pytest.mark.parametrize("count", [1, 3])
def test_many_at_once_are_all_answered_by_so_many_threads_in_their_order(begin: Begin, count: int) -> None:
    async def asks() -> list[int]:
        return await asyncio.gather(*(workers.within(10, lambda n=n: work(n)) for n in range(300)))

    def work(number: int) -> int:
        begun.append(number)
        threads.add(threading.current_thread().name)
        time.sleep(0.0005)
        return number

    begun, threads = list[int](), set[str]()
    workers = begin(count)
    for _ in range(2):
        begun.clear()
        assert ran(asks()) == list(range(300))
        assert (begun if count == 1 else sorted(begun)) == list(range(300)), "first come, first served"
    assert len(threads) == count


def test_threads_end_when_they_are_told(begin: Begin) -> None:
    async def asks() -> None:
        working = asyncio.create_task(workers.within(5, lambda: held.wait(10)))
        waiting = asyncio.create_task(workers.within(0.3, lambda: done.append("after the end")))
        await asyncio.sleep(0.05)
        workers.stop()
        held.set()
        assert await working
        with pytest.raises(TimeoutError):
            await waiting
        with pytest.raises(TimeoutError):
            await workers.within(0.05, lambda: done.append("after the end"))

    held, done = threading.Event(), list[str]()
    workers = begin(1)
    ran(asks())
    assert done == []
    for thread in threading.enumerate():
        if thread.name.startswith("test_"):
            thread.join(5)
            assert not thread.is_alive()


def where() -> str:
    return threading.current_thread().name


def test_quick_work_is_done_by_the_loop_until_it_is_slow_again(begin: Begin) -> None:
    async def asks() -> tuple[str, str, str]:
        first = await workers.within(5, where)
        for _ in range(100):
            await workers.within(5, lambda: None)
        quick = await workers.within(5, where)
        await workers.within(5, lambda: time.sleep(0.6))
        return first, quick, await workers.within(5, where)

    workers = begin(1, 0.02)
    first, quick, after = ran(asks())
    assert (first, after) == ("test_0", "test_0")
    assert quick == threading.main_thread().name


def test_on_the_loop_as_in_a_thread(begin: Begin) -> None:
    async def asks() -> None:
        workers.pace().on_loop = True
        place.set("here")
        assert await workers.within(5, lambda: (place.get(), where())) == (
            "here",
            threading.main_thread().name,
        )
        with pytest.raises(KeyError, match="why"):
            await workers.within(5, lambda: {}["why"])
        gone = asyncio.create_task(workers.within(5, lambda: done.append("for nobody")))
        await asyncio.sleep(0)
        gone.cancel()
        workers.stop()
        with pytest.raises(TimeoutError):
            await workers.within(0.05, lambda: done.append("after the end"))

    done = list[str]()
    workers = begin(1, 1.0)
    ran(asks())
    assert done == []


def test_others_come_to_their_door_before_work_is_done_on_the_loop(begin: Begin) -> None:
    async def asks() -> None:
        workers.pace().on_loop = True
        await asyncio.gather(workers.within(5, lambda: seen.append("work")), comes())

    async def comes() -> None:
        seen.append("another")

    seen = list[str]()
    workers = begin(1, 1.0)
    ran(asks())
    assert seen == ["another", "work"]


def test_a_pace_of_nothing_is_never_quick() -> None:
    never, quick = Pace(0.0), Pace(0.01)
    for _ in range(100):
        never.note(0.0)
        quick.note(0.008)
    assert (never.on_loop, quick.on_loop) == (False, True)
    for _ in range(100):
        quick.note(0.012)
    assert quick.on_loop, "a little more is no reason to change"
    quick.note(1.0)
    assert not quick.on_loop


def test_the_loop_does_one_piece_a_turn_and_none_after_its_deadline(begin: Begin) -> None:
    async def asks() -> list[Any]:
        workers.pace().on_loop = True
        ticking = asyncio.create_task(ticks())
        found = await asyncio.gather(
            *(workers.within(0.2, lambda: time.sleep(0.02)) for _ in range(40)), return_exceptions=True
        )
        ticking.cancel()
        return found

    async def ticks() -> None:
        while True:
            moments.append(time.perf_counter())
            await asyncio.sleep(0)

    moments = list[float]()
    workers = begin(1, 1.0)
    found = ran(asks())
    late = sum(isinstance(each, TimeoutError) for each in found)
    assert 20 <= late < 40
    assert len(moments) > 40 - late, "others come in between"


def test_a_sort_of_work_is_judged_by_itself_and_refusals_say_nothing(begin: Begin) -> None:
    async def asks() -> tuple[str, str, str]:
        for _ in range(100):
            await workers.within(5, lambda: None, "short")
            with pytest.raises(KeyError):
                await workers.within(5, lambda: {}["why"], "refused")
        return (
            await workers.within(5, where, "short"),
            await workers.within(5, where, "short", here=False),
            await workers.within(5, where, "refused"),
        )

    workers = begin(1, 0.02)
    assert ran(asks()) == (threading.main_thread().name, "test_0", "test_0")


def test_no_future_takes_a_stop_iteration(begin: Begin) -> None:
    workers = begin(1)
    with pytest.raises(RuntimeError, match="StopIteration"):
        ran(workers.within(5, lambda: next(iter(()))))
