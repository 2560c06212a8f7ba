"""Each rung, and what happens when it breaks, is slow or has nothing to say. Never an empty list, always counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from aisle import settings as settings_module
from aisle.errors import NotThere
from engine.recommender import Recipe, Recommender
from engine.rules import Chosen, Pin, PriceRange, Rules
from engine.state import UserState
from serving.app import create_app
from serving.asking import Ask
from serving.ladder import climb
from serving.rulebook import RuleBook
from serving.view import View
from tests.serving import conftest
from tests.serving.conftest import CUT, Kept, asking, shop, stage

NOW = int(CUT.timestamp())
KNOWN = UserState("u", "Germany", ["i001", "i002"], ["purchase"] * 2, [NOW - 86_400] * 2)
STRANGER = UserState("", "Germany")


@pytest.fixture(scope="module")
def model() -> Recommender:
    items, histories = shop()
    return Recommender.fit(items, histories, CUT, Recipe())


def broken(model: Recommender, *names: str) -> Recommender:
    """The model with sources that raise."""

    class Broken:
        def __getattr__(self, name: str):
            raise RuntimeError("broken")

    found = Recommender(model.recipe, model.catalogue, dict(model.sources), model.trends)
    found.sources.update({name: Broken() for name in names})
    return found


def listed(model: Recommender, ask: Ask, state: UserState, book: RuleBook = RuleBook(), known: bool = True):
    """(rung, ids, degraded) of the first page."""
    found = climb(View.of(model), ask, state, book, known=known)
    told = found.told(found.rows(1, ask.k))
    assert all(np.isfinite(each.score) and each.reason["source"] for each in told)
    return found.rung, [each.item_id for each in told], found.degraded


def test_the_rungs_in_their_order(model: Recommender) -> None:
    assert listed(model, Ask(), KNOWN)[0] == "personalised"
    assert listed(model, Ask(), KNOWN, known=False)[0] == "session"
    assert listed(model, Ask(), STRANGER)[0] == "segment"
    assert listed(model, Ask(), UserState(""))[0] == "popular"


class Raises:
    def __init__(self, countries: Sequence[str]):
        self.countries = countries

    def of_country(self, country: str | None) -> np.ndarray:
        raise RuntimeError("broken")

    def named(self, country: str | None, item: int) -> str | None:
        raise RuntimeError("broken")


def test_one_item_that_may_be_shown_is_shown_by_every_rung(model: Recommender) -> None:
    one = Rules(exclude=tuple(f"i{row:03d}" for row in range(40) if row != 17))
    asks = [Ask(kind=kind, rules=one) for kind in ("recommendations", "popular", "trending")]
    asks += [Ask(kind=kind, item_id="i002", rules=one) for kind in ("similar", "together", "recommendations")]
    for ask in asks:
        for state in (KNOWN, STRANGER, UserState("")):
            assert listed(model, ask, state)[1] == ["i017"], ask
    pinned = RuleBook(all=Rules(pins=(Pin(item_id="i017", position=900),)))
    assert listed(model, asks[0], KNOWN, pinned)[1] == ["i017"]


def test_what_is_hidden_stays_hidden_on_every_rung(model: Recommender) -> None:
    state = UserState("u", "Germany", ["i001"], ["hide"], [NOW - 60])
    for kind in ("recommendations", "popular", "trending"):
        assert "i001" not in listed(model, Ask(kind=kind, k=40), state)[1]


def test_hurried_answers_ask_no_source(model: Recommender) -> None:
    names = [name for name in model.sources if name != "popularity"]
    view = View.of(broken(model, *names))
    for ask in (Ask(), Ask(item_id="i001"), Ask(kind="trending")):
        found = climb(view, ask, KNOWN, hurried=True)
        assert (found.rung, found.degraded) == ("segment", ("deadline",))
        assert len(found.rows(1, 10)) == 10


def test_trending_is_what_is_bought_more_than_before(model: Recommender) -> None:
    trends = model.trends
    week, month = trends.recent[0].copy(), trends.recent[2].copy()
    week[:], month[:] = 1, 8
    week[5], month[5] = 6, 7
    recent = trends.recent.copy()
    recent[0], recent[2] = week, month
    risen = Recommender(
        model.recipe, model.catalogue, model.sources, type(trends)(recent, trends.buyers, trends.again)
    )
    rung, items, _ = listed(risen, Ask(kind="trending"), UserState(""))
    assert (rung, items[0]) == ("trending", "i005")


def test_unknown_things_are_told(model: Recommender) -> None:
    for ask in (Ask("similar", item_id="x"), Ask("together", basket=("x", "y")), Ask(category="x")):
        with pytest.raises(NotThere):
            climb(View.of(model), ask, STRANGER)


def test_a_category_page_of_one_price(model: Recommender) -> None:
    book = RuleBook(
        categories={"c1": Rules(price=PriceRange(max=10)), "c2": Rules(categories=Chosen(exclude=("c2",)))}
    )
    view = View.of(model)
    _, items, _ = listed(model, Ask(category="c1", k=40), KNOWN, book)
    rows = [view.assortment.catalogue.index[item] for item in items]
    assert {row % 4 for row in rows} == {1}
    assert max(view.prices[row] for row in rows) <= 10
    assert listed(model, Ask(category="c2"), KNOWN, book)[1] == [], (
        "a rule that forbids its own page is obeyed"
    )


# -- through the API: slow and broken stores, a slow engine


class Slow(Kept):
    """A store that answers after `seconds`, or raises."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.fault = 0.0, False

    def read(self, service: str, users: Sequence[str]) -> list[UserState]:
        if self.fault and users != ["warm up: no such user"]:
            raise ConnectionError("gone")
        time.sleep(self.seconds)
        return super().read(service, users)


@contextmanager
def api_over(
    store: Slow, monkeypatch: pytest.MonkeyPatch, **conf: str
) -> Iterator[tuple[httpx.Client, FastAPI]]:
    """The API with a release and a store of our own, and the app itself, to break it."""
    for name, value in {
        "SERVING__FEATURE_CACHE_SECONDS": "0",
        "ANSWERS__CACHED": "0",
        "ANSWERS__DEADLINE_SECONDS": "5",
        **conf,
    }.items():
        monkeypatch.setenv(f"AISLE_{name}", value)
    settings_module.load.cache_clear()
    stage("1")
    apps: list[FastAPI] = []

    def made(*args) -> FastAPI:
        apps.append(create_app(*args))
        return apps[-1]

    monkeypatch.setattr(conftest, "create_app", made)
    with conftest.running(settings_module.load(), store) as url, asking(url) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        yield client, apps[0]
    settings_module.load.cache_clear()


def degraded(app: FastAPI, reason: str) -> float:
    return app.state.service.figures.degraded.labels(reason)._value.get()


def ask(client: httpx.Client, **params) -> dict:
    answer = client.get("/v1/recommendations", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"]
    return answer.json()


def test_a_slow_or_broken_store_costs_the_history_and_not_the_answer(aisle_home, monkeypatch) -> None:
    store = Slow()
    with api_over(store, monkeypatch, ANSWERS__DEADLINE_SECONDS="0.8") as (client, app):
        assert ask(client, user_id="u001")["rung"] == "personalised"
        store.seconds = 4.0
        started = time.monotonic()
        slow = ask(client, user_id="u004", country="France")
        assert time.monotonic() - started < 3
        assert (slow["rung"], slow["degraded"]) == ("segment", ["features_slow"])
        assert degraded(app, "features_slow") == 1
        store.seconds, store.fault = 0.0, True
        time.sleep(4.2)  # until the slow read is over
        assert ask(client, user_id="u005")["degraded"] == ["features_down"]
        event = {
            "event_type": "purchase",
            "user_id": "u006",
            "item_id": "i001",
            "order_id": "o",
            "session_id": "s",
        }
        assert client.post("/v1/events", json=event).status_code == 202
        own = ask(client, user_id="u006", session_id="s")
        assert (own["rung"], own["degraded"]) == ("session", ["features_down"])


def test_a_slow_engine_is_not_waited_for(aisle_home, monkeypatch) -> None:
    with api_over(Slow(), monkeypatch, ANSWERS__DEADLINE_SECONDS="0.5") as (client, app):
        model = app.state.service.live.current.recommender
        linear, go_on = model.sources["linear"], threading.Event()

        class Stuck:
            def scores(self, events):
                go_on.wait(20)
                return linear.scores(events)

            def __getattr__(self, name):
                return getattr(linear, name)

        model.sources["linear"] = Stuck()
        for user in ("u001", "u002", "u003", "u004", "u005"):  # more than there are workers
            started = time.monotonic()
            found = ask(client, user_id=user)
            assert time.monotonic() - started < 3
            assert (found["rung"], found["degraded"]) == ("segment", ["deadline"])
        assert degraded(app, "deadline") == 5
        go_on.set()
        model.sources["linear"] = linear
        time.sleep(0.3)
        assert ask(client, user_id="u001")["rung"] == "personalised"


def test_a_broken_engine_is_counted(aisle_home, monkeypatch) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        sources = app.state.service.live.current.recommender.sources
        whole = dict(sources)
        sources["content"] = Raises(())
        found = ask(client, user_id="u001")
        assert (found["rung"], found["degraded"]) == ("segment", ["engine_failed"])
        assert degraded(app, "engine_failed") == 1
        sources.update(whole)
        assert ask(client, user_id="u001")["rung"] == "personalised"


def test_a_shopper_is_answered_with_nothing_but_the_catalogue(aisle_home, monkeypatch) -> None:
    """Whatever is broken of a release: lists of every kind, each with a reason."""
    with api_over(Slow(), monkeypatch) as (client, app):
        sources = app.state.service.live.current.recommender.sources
        countries = sources["popularity"].countries
        sources.update({name: Raises(countries) for name in sources})
        for path in ("recommendations?user_id=u001", "popular", "trending", "items/i001/similar"):
            answer = client.get(f"/v1/{path}")
            assert answer.status_code == 200, answer.text
            assert answer.json()["items"], path
            assert all(each["reason"]["text"] for each in answer.json()["items"])
            assert "popular_failed" in answer.json()["degraded"], path


def test_broken_rules_on_disk_leave_the_last_good_ones(aisle_home, monkeypatch) -> None:
    with api_over(Slow(), monkeypatch) as (client, _):
        assert client.put("/v1/rules", json={"all": {"exclude": ["i001"]}}).status_code == 200
        (aisle_home / "rules" / "history.jsonl").write_text("{}\n")
        time.sleep(0.3)
        assert "i001" not in {each["item_id"] for each in ask(client, k=40)["items"]}
        assert client.get("/v1/rules").json()["fault"]
        assert client.put("/v1/rules", json={}).status_code == 503
