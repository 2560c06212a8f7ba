"""The gate: few at work, the others for a moment, places that never get lost."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from aisle.errors import Overloaded
from aisle.settings import Settings
from serving.shedding import Gate, let_others_go, parked


def gate(settings: Settings, shed: list[str] | None = None, places: int = 2, **limits: float) -> Gate:
    few = {
        "queue_turns": 4,
        "burst_turns": 20,
        "max_queue_seconds": 0.2,
        **limits,
    }
    own = settings.serving.limits.model_copy(update=few)
    return Gate(own, places, (shed if shed is not None else []).append)


def overloaded(places: Gate) -> Gate:
    """As it is when somebody was turned away just now."""
    places._shed = time.monotonic()
    return places


def test_a_burst_waits_and_nobody_is_turned_away(settings: Settings) -> None:
    """Twenty at once: the last waits nineteen turns, which would not be allowed under overload."""

    async def run() -> None:
        shed: list[str] = []
        places = gate(settings, shed, places=1, max_queue_seconds=60)

        async def ask() -> None:
            place = await places.enter()
            await asyncio.sleep(0.005)
            place.leave()

        await asyncio.gather(*(ask() for _ in range(20)))
        assert shed == []
        assert not places.overloaded

    asyncio.run(run())


@pytest.mark.parametrize(("callers", "sheds"), [(5, False), (40, True)])
def test_a_queue_that_stands_is_overload_until_a_while_after(
    settings: Settings, callers: int, sheds: bool
) -> None:
    """Callers who ask again at once; those who were turned away a little later. Five are no overload, however long."""

    async def run() -> None:
        shed: list[str] = []
        places = gate(settings, shed, places=1, max_queue_seconds=60)
        turns: list[int] = []

        async def ask() -> None:
            while places.turns < 300:
                came = places.turns
                try:
                    place = await places.enter()
                except Overloaded:
                    await asyncio.sleep(0.05)
                    continue
                turns.append(places.turns - came)
                await asyncio.sleep(0.002)
                place.leave()

        await asyncio.gather(*(ask() for _ in range(callers)))
        assert bool(shed) == sheds
        assert places.overloaded == sheds
        assert max(turns[len(turns) // 2 :]) <= 5
        places._shed -= 10
        assert not places.overloaded

    asyncio.run(run())


def test_a_place_goes_from_one_to_the_next(settings: Settings) -> None:
    async def run() -> None:
        places = gate(settings)
        order: list[int] = []

        async def ask(number: int) -> None:
            place = await places.enter()
            order.append(number)
            assert places.at_work <= 2
            await asyncio.sleep(0.005)
            place.leave()
            place.leave()

        await asyncio.gather(*(ask(number) for number in range(5)))
        assert order == [0, 1, 2, 3, 4]
        assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())


def test_who_would_wait_too_long_is_told_so(settings: Settings) -> None:
    """What does not fit into the queue at once, the others after max_queue_seconds, when nobody is done at all."""

    async def run() -> None:
        shed: list[str] = []
        places = overloaded(gate(settings, shed))
        held = [await places.enter() for _ in range(2)]
        started = time.monotonic()
        found = await asyncio.gather(*(places.enter() for _ in range(10)), return_exceptions=True)
        assert time.monotonic() - started > 0.15
        assert all(isinstance(each, Overloaded) for each in found)
        assert all(1 <= each.retry_after <= 3 for each in found)
        assert sorted(shed) == ["full"] * 2 + ["waited"] * 8
        for each in held:
            each.leave()
        (await places.enter()).leave()
        assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())


def test_a_stall_turns_nobody_away(settings: Settings) -> None:
    """Everything stands still, as when a new release takes the processor: no turn passes."""

    async def run() -> None:
        shed: list[str] = []
        places = gate(settings, shed, places=1, max_queue_seconds=30)
        place = await places.enter()
        waiting = [asyncio.create_task(places.enter()) for _ in range(15)]
        await asyncio.sleep(0.3)
        place.leave()
        for each in waiting:
            (await each).leave()
        assert shed == []

    asyncio.run(run())


@pytest.mark.parametrize("when", [0.0, 0.004, 0.02])
def test_a_caller_who_goes_away_takes_no_place_with_them(settings: Settings, when: float) -> None:
    async def run() -> None:
        places = gate(settings, places=1, max_queue_seconds=5)

        async def ask() -> None:
            place = await places.enter()
            try:
                await asyncio.sleep(0.004)
            finally:
                place.leave()

        for _ in range(20):
            tasks = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.sleep(when)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())


def test_who_waits_for_the_store_gives_the_place_to_others(settings: Settings) -> None:
    async def run() -> None:
        places = gate(settings, places=1)
        let_go, answered = threading.Event(), asyncio.Event()

        def slow_read() -> None:
            with parked():
                let_go.wait(60)

        async def slow() -> None:
            place = await places.enter()
            await asyncio.to_thread(slow_read)
            await asyncio.sleep(0.01)
            assert places.at_work == 1
            place.leave()
            answered.set()

        task = asyncio.create_task(slow())
        while places.turns < 1:  # until the place was given back
            await asyncio.sleep(0.005)
        assert places.at_work == 0
        (await places.enter()).leave()
        let_go.set()
        await task
        assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())


def test_a_parked_request_that_is_given_up_counts_once(settings: Settings) -> None:
    async def run() -> None:
        places = gate(settings, places=1)
        place = await places.enter()
        place.park()
        place.leave()
        place.resume()
        assert places.at_work == 0
        with parked():
            pass
        assert places.at_work == 0

    asyncio.run(run())


def test_a_long_request_lets_others_go_first(settings: Settings) -> None:
    async def run() -> None:
        places = gate(settings, places=1, max_queue_seconds=60)
        order: list[str] = []

        async def batch() -> None:
            place = await places.enter()
            for part in range(3):
                await let_others_go()
                order.append(f"part {part}")
                while part == 0 and places.waiting < 2:
                    await asyncio.sleep(0.001)
            place.leave()

        async def single(name: str) -> None:
            place = await places.enter()
            order.append(name)
            await asyncio.sleep(0.005)
            place.leave()

        long = asyncio.create_task(batch())
        while not order:
            await asyncio.sleep(0.001)
        await asyncio.gather(single("a"), single("b"))
        await long
        assert order == ["part 0", "a", "b", "part 1", "part 2"]
        assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())


def test_a_long_request_is_not_kept_for_ever(settings: Settings) -> None:
    async def run() -> None:
        places = gate(settings, places=1, max_queue_seconds=0.1)
        place = await places.enter()

        async def busy() -> None:
            """Somebody always waits."""
            while True:
                with suppress(Overloaded):
                    other = await places.enter()
                    try:
                        await asyncio.sleep(0.03)
                    finally:
                        other.leave()

        rest = [asyncio.create_task(busy()) for _ in range(2)]
        while places.waiting < 2:
            await asyncio.sleep(0.001)
        await asyncio.wait_for(let_others_go(), 60)
        place.leave()
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        assert (places.at_work, places.waiting) == (0, 0)

    asyncio.run(run())
