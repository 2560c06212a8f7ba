"""The event loop is everybody's: a search that takes too long and a page that another one works out hold nobody up."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from aisle import settings as settings_module
from aisle.errors import Overloaded
from aisle.settings import Settings
from engine.recommender import Recipe, Recommender
from engine.state import UserState
from serving import search_service, turning
from serving.asking import Ask
from serving.figures import Figures
from serving.making import work
from serving.overlay import Overlay
from serving.rulebook import EMPTY
from serving.search_answers import Matched, search
from serving.search_asking import Searched
from serving.search_service import Searching
from serving.search_view import Indexed, SearchView, Texts
from serving.turning import Turned
from serving.view import View
from tests.serving import search_shop
from tests.serving.conftest import CUT, shop

SEARCH = settings_module.load().search
STANDING = (0, True)


@pytest.fixture
def searching(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Searching:
    monkeypatch.setattr(search_service, "HURRIED_SECONDS", 0.3)
    answers = settings.answers.model_copy(update={"deadline_seconds": 0.1})
    service = SimpleNamespace(overlay=Overlay(), figures=Figures(lambda: {}))
    return Searching(settings.model_copy(update={"answers": answers}), service)


async def in_time(searching: Searching, run) -> tuple[object, float]:
    """What came, and the longest time for which the loop stood still."""
    gaps = [0.0]

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    beating = asyncio.create_task(beat())
    try:
        return await searching._in_time(run, time.perf_counter()), max(gaps)
    finally:
        beating.cancel()


def test_a_search_over_its_time_is_answered_by_another_thread(searching: Searching) -> None:
    done = threading.Event()

    def run(hurried: bool = False) -> str:
        if not hurried:
            done.wait(10)
            return "late"
        time.sleep(0.15)
        return threading.current_thread().name

    found, gap = asyncio.run(in_time(searching, run))
    done.set()
    assert str(found).startswith("search-hurried")
    assert gap < 0.1, "the loop waited"
    assert asyncio.run(in_time(searching, lambda hurried: "quick"))[0] == "quick"
    searching.stop()


def test_where_even_that_takes_too_long_it_says_so(searching: Searching) -> None:
    done = threading.Event()
    started = time.perf_counter()
    with pytest.raises(Overloaded) as told:
        asyncio.run(in_time(searching, lambda hurried: done.wait(10)))
    assert time.perf_counter() - started < 5
    assert told.value.retry_after == 1
    done.set()
    searching.stop()


def test_a_second_try_does_not_match_the_text_again() -> None:
    recommender = search_shop.recommender()
    view = View.of(recommender, "1", "d", 1)
    indexed = Indexed.of(Texts.of(recommender.catalogue, []), SEARCH)
    asked: list[str] = []

    class Counted:
        ids = indexed.index.ids

        def search(self, query: str, typing: bool = False):
            asked.append(query)
            return indexed.index.search(query, typing)

    found = SearchView.of(view, 1, [], Indexed(indexed.texts, Counted(), indexed.rows))
    matched, question = Matched(), Searched(Ask(k=5), "red bag")
    first = search(found, question, UserState(""), EMPTY.book, SEARCH, 100, matched=matched)
    again = search(found, question, UserState(""), EMPTY.book, SEARCH, 100, matched=matched, hurried=True)
    assert asked == ["red bag"]
    assert first.body["total"] == again.body["total"] > 0
    another = SearchView.of(view, 2, [], Indexed(indexed.texts, Counted(), indexed.rows))
    search(another, question, UserState(""), EMPTY.book, SEARCH, 100, matched=matched)
    assert asked == ["red bag"] * 2, "another view has its own rows"


@pytest.fixture(scope="module")
def turned() -> tuple[View, Turned, UserState]:
    items, histories = shop()
    view = View.of(Recommender.fit(items, histories, CUT, Recipe()))
    now = int(CUT.timestamp())
    state = UserState("u", "Germany", ["i001", "i002"], ["purchase"] * 2, [now - 86_400] * 2)
    found = Turned(10, 600)
    for name in ("free", "held"):
        found.keep(name, Ask(user_id="u", k=4), work(view, Ask(user_id="u", k=4), state, EMPTY), STANDING)
    return view, found, state


def page(turned, request_id: str, number: int, hurried: bool = False) -> list[str]:
    view, found, state = turned
    ask = Ask(user_id="u", k=4, page=number, request_id=request_id)
    return [each["item_id"] for each in found.page(view, EMPTY, None, ask, state, STANDING, hurried).items]


def test_pages_turned_by_many_at_once_are_the_same_for_all_and_repeat_nothing(turned) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [2, 4, 3, 2, 5, 4, 3, 5] * 3
        found = list(pool.map(lambda number: (number, page(turned, "free", number)), asked))
    of_page = dict(found)
    assert all(ids == of_page[number] for number, ids in found)
    shown = [item for ids in of_page.values() for item in ids]
    assert len(shown) == len(set(shown)) == 16


def test_a_page_that_somebody_works_out_holds_no_other_up(turned, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, done, plain = threading.Event(), threading.Event(), turning.climb

    def slow(*args, hurried: bool, **more):
        if not hurried:
            begun.set()
            assert done.wait(10)
        return plain(*args, hurried=hurried, **more)

    monkeypatch.setattr(turning, "climb", slow)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(page, turned, "held", 2)
        assert begun.wait(10)
        found = page(turned, "held", 2, hurried=True)
        assert not working.done()
        done.set()
        assert working.result(10) == found
