"""Items and users as they were told since the release: in the next answer, in other processes, after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pandas as pd
import pytest

from aisle.settings import Settings
from engine.recommender import Recommender
from engine.state import UserState
from serving import segments
from serving.laying import laid_over
from serving.live import Loaded, load
from serving.overlay import Overlay
from serving.shelf import Shelf, Shelved
from serving.told import Told
from tests.serving.conftest import CUT, Kept, Release, asking, running, stage

Kind = Callable[..., None]


def wait_for(check: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def told(overlay: Overlay, at: int, item: str, **fields: str) -> None:
    overlay.take("items", [{"at": at, "item_id": item, "title": f"TITLE {item}", **fields}])


@pytest.fixture
def loaded(aisle_home: Path) -> Loaded:
    pointer = stage("1")
    return Loaded(pointer, load(pointer))


@pytest.fixture
def overlay() -> Iterator[Overlay]:
    found = Overlay()
    yield found
    found.stop()


def answer(recommender: Recommender, k: int = 45) -> list[str]:
    state = UserState("u", None, ["i001"], ["purchase"], [int(CUT.timestamp()) - 9])
    return [each.item_id for each in recommender.recommend(state, k, CUT)]


def test_without_changes_it_is_the_release_itself(loaded: Loaded, overlay: Overlay) -> None:
    assert overlay.recommender(loaded) is loaded.recommender
    told(overlay, 1, "i001", title="TITLE <b>1</b> & CO")  # as the release has it
    assert overlay.recommender(loaded) is loaded.recommender


def test_price_title_and_deletion_are_laid_over_without_a_refit(loaded: Loaded, overlay: Overlay) -> None:
    version = overlay.version
    told(overlay, 1, "i001", title="Lamp", price="3.50", categories='["Home", "Lights"]')
    told(overlay, 2, "i002", deleted="true")
    assert overlay.version == version + 2
    found = overlay.recommender(loaded)
    assert found.item("i001") == {"title": "Lamp", "price": 3.5, "categories": ["Home", "Lights"]}
    with pytest.raises(KeyError):
        found.item("i002")
    assert "i002" not in answer(found)
    assert "i002" in answer(loaded.recommender)  # the release itself is what it was
    assert found.sources is loaded.recommender.sources
    assert found.catalogue.index is loaded.recommender.catalogue.index
    assert overlay.recommender(loaded) is found
    told(overlay, 3, "i002", deleted="false")
    assert "i002" in answer(overlay.recommender(loaded))


def test_it_is_what_growing_the_catalogue_gives(loaded: Loaded) -> None:
    """The quick way for known items and the engine's own way agree."""
    changes = {"i003": Told(), "i004": Told()}
    changes["i003"].fold({"at": 1, "price": "99.5", "title": "Other"}, ("price", "title"))
    changes["i004"].fold({"at": 1, "deleted": "true"}, ("deleted",))
    quick = laid_over(loaded.recommender, changes, Shelf())
    known = loaded.recommender.catalogue.frame.set_index("item_id", drop=False).loc[["i003", "i004"]]
    rows = known.reset_index(drop=True).assign(
        price=[99.5, known["price"].iloc[1]], title=["Other", known["title"].iloc[1]], deleted=[False, True]
    )
    slow = loaded.recommender.with_items(rows)
    assert answer(quick) == answer(slow)
    assert quick.catalogue.gone == slow.catalogue.gone
    shown = ["title", "price"]
    pd.testing.assert_frame_equal(
        quick.catalogue.frame[shown], slow.catalogue.frame[shown], check_dtype=False
    )


def test_the_last_word_counts_whatever_the_order(loaded: Loaded, overlay: Overlay) -> None:
    told(overlay, 5, "i001", price="5.00")
    told(overlay, 3, "i001", price="3.00", stock="7")
    assert overlay.recommender(loaded).item("i001")["price"] == 5.0
    assert overlay.stock("i001") == 7


def test_a_new_item_is_recommended_once_it_is_placed(loaded: Loaded, overlay: Overlay) -> None:
    overlay.start()
    assert overlay.recommender(loaded) is loaded.recommender
    told(overlay, 1, "new1", title="TITLE <b>1</b> & CO", categories='["c1"]', price="2.00", stock="4")
    assert overlay.title("new1", loaded) == "TITLE <b>1</b> & CO"
    wait_for(lambda: "new1" in overlay.recommender(loaded).catalogue.index)
    found = overlay.recommender(loaded)
    assert found.item("new1")["price"] == 2.0
    assert "new1" in [each.item_id for each in found.similar("i001", 45)]
    told(overlay, 2, "new1", title="TITLE <b>1</b> & CO", price="2.50")
    assert overlay.recommender(loaded).item("new1")["price"] == 2.5
    told(overlay, 3, "new1", title="TITLE <b>1</b> & CO", deleted="true")
    assert "new1" not in answer(overlay.recommender(loaded))
    assert overlay.title("new1", loaded) is None


def test_each_release_has_its_own(loaded: Loaded, overlay: Overlay) -> None:
    other = Loaded(stage("2", seed=8), load(stage("2", seed=8)))
    told(overlay, 1, "i001", price="3.50")
    for each in (loaded, other, loaded):
        assert overlay.recommender(each).item("i001")["price"] == 3.5
        assert overlay.recommender(each).sources is each.recommender.sources


def shelf_with(**items: Shelved) -> Shelf:
    found = Shelf()
    found._held, found.version = items, 1
    found.deleted = frozenset(item for item, each in items.items() if each.deleted)
    return found


def test_silver_knows_stock_and_deletions_that_the_release_does_not(loaded: Loaded) -> None:
    shelf = shelf_with(i001=Shelved("One", 5, False, 100), i002=Shelved("Two", 0, True, 100))
    overlay = Overlay(shelf)
    assert (overlay.stock("i001"), overlay.stock("i003")) == (5, None)
    assert (overlay.title("i001", loaded), overlay.title("i002", loaded)) == ("One", None)
    assert "i002" not in answer(overlay.recommender(loaded))
    told(overlay, 50, "i001", stock="9")  # older than what silver says
    assert overlay.stock("i001") == 5
    told(overlay, 150, "i002", deleted="false", stock="1")
    assert "i002" in answer(overlay.recommender(loaded))
    told(overlay, 160, "i007", price="3.25")
    assert "i002" in answer(overlay.recommender(loaded))
    version = overlay.version
    shelf.version, shelf.deleted = 2, frozenset({"i002", "i008"})
    shelf._held["i008"] = Shelved("Eight", 0, True, 100)
    assert overlay.version > version
    found = overlay.recommender(loaded)
    assert {"i002", "i007"} <= set(answer(found))
    assert "i008" not in answer(found)
    assert found.item("i007")["price"] == 3.25
    assert overlay.stock("i002") == 1


def test_what_silver_and_the_release_say_is_let_go(loaded: Loaded) -> None:
    shelf = shelf_with(i001=Shelved("One", 5, False, 100))
    overlay = Overlay(shelf)
    told(overlay, 100, "i001", title="TITLE <b>1</b> & CO")
    told(overlay, 90, "i002", title="Other")
    overlay.recommender(loaded)
    overlay._forget()
    assert set(overlay.items) == {"i002"}


def test_users_are_forgotten_after_a_week_but_not_a_refusal(loaded: Loaded, overlay: Overlay) -> None:
    overlay.take(
        "users",
        [{"at": 1, "user_id": "a", "country": "Spain"}, {"at": 1, "user_id": "b", "consent": "false"}],
    )
    now = int(datetime.now(UTC).timestamp() * 1e6)
    overlay.take("users", [{"at": now, "user_id": "c", "country": "Spain"}])
    overlay.recommender(loaded)
    overlay._forget()
    assert set(overlay.users) == {"b", "c"}


@pytest.fixture
def served(settings: Settings, stage_release: Release) -> Iterator[httpx.Client]:
    stage_release("1")
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, 90)
        yield client


def ids(client: httpx.Client, **params: object) -> list[str]:
    found = client.get("/v1/recommendations", params={"k": 45, **(params or {"user_id": "u001"})})
    assert found.status_code == 200, found.text
    return [item["item_id"] for item in found.json()["items"]]


def test_changes_of_items_are_in_the_next_answer(served: httpx.Client) -> None:
    assert "i005" in ids(served)
    first = served.patch("/v1/items/i005", json={"price": 4.25, "title": "Lantern"})
    assert first.status_code == 202, first.text
    found = served.get("/v1/items/i005").json()
    assert (found["title"], found["price"]) == ("Lantern", 4.25)
    then = served.delete("/v1/items/i005")
    assert then.json()["version"] > first.json()["version"]
    assert "i005" not in ids(served)
    assert served.get("/v1/items/i005").status_code == 404
    assert served.delete("/v1/items/i005").status_code == 404
    assert served.patch("/v1/items/i005", json={"price": 1}).status_code == 404
    assert served.put("/v1/items/i005", json={"title": "Back"}).status_code == 202
    assert "i005" in ids(served)
    batch = [{"item_id": "new9", "title": "TITLE <b>9</b>", "price": 3}, {"item_id": "bad"}]
    mixed = served.post("/v1/items", json=batch)
    assert (mixed.status_code, mixed.json()["refused"][0]["index"]) == (207, 1)
    assert served.get("/v1/items/new9").json()["title"] == "TITLE <b>9</b>", "at once"
    wait_for(lambda: "new9" in ids(served))


def test_stock_counts_at_once(served: httpx.Client) -> None:
    rules = {"user_id": "u001", "k": 45, "rules": {"in_stock": True}}

    def in_stock() -> list[str]:
        answer = served.post("/v1/recommendations", json=rules)
        assert answer.status_code == 200, answer.text
        return [item["item_id"] for item in answer.json()["items"]]

    assert "i006" in in_stock()
    assert served.put("/v1/items/i006/stock", json={"stock": 0}).status_code == 202
    assert "i006" not in in_stock()
    mixed = served.post("/v1/stock", json=[{"item_id": "i006", "stock": 2}, {"item_id": "none", "stock": 1}])
    assert (mixed.status_code, mixed.json()["accepted"]) == (207, 1)
    assert "i006" in in_stock()


def test_another_process_and_a_restart_know_it_too(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    with running(settings, Kept()) as one, running(settings, Kept()) as two:  # noqa: SIM117 - their urls are needed
        with asking(one) as first, asking(two) as second:
            wait_for(
                lambda: {first.get("/readyz").status_code, second.get("/readyz").status_code} == {200}, 90
            )
            first.delete("/v1/items/i007")
            first.patch("/v1/users/walk-in", json={"country": "Germany"})
            first.post("/v1/events", json={"event_type": "purchase", "session_id": "s", "item_id": "i001"})
            started = time.monotonic()
            wait_for(lambda: "i007" not in ids(second), 5)
            wait_for(
                lambda: ids(second, session_id="s") == ids(first, session_id="s"),
                5,
            )
            assert time.monotonic() - started < 1.5
    with running(settings, Kept()) as url, asking(url) as again:
        wait_for(lambda: again.get("/readyz").status_code == 200, 90)
        assert "i007" not in ids(again)
        strangers = again.get("/v1/recommendations", params={"user_id": "walk-in"}).json()
        assert (
            strangers["items"]
            == again.get("/v1/recommendations", params={"country": "Germany"}).json()["items"]
        )
        answer = again.get("/v1/recommendations", params={"session_id": "s"}).json()
        assert answer["rung"] != "popular"


def test_many_segments_become_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import journal
    from serving.landing import Landing

    monkeypatch.setattr(journal, "FOLD_FILES", 3)
    for round_ in range(5):
        overlay = Overlay()
        log = Landing(settings, [overlay.take], folded=overlay.rows)
        log.start()
        rows = [
            {"item_id": f"i{n}", "title": f"T{n}", "stock": str(round_ + n), "deleted": "false"}
            for n in range(20)
        ]
        log.append("items", rows).result(5)
        log.append("users", [{"user_id": "u", "country": f"C{round_}"}]).result(5)
        log.stop()
    assert 1 < len(segments.segments("items")) <= 3
    overlay = Overlay()
    log = Landing(settings, [overlay.take], folded=overlay.rows)
    log.start()
    log.stop()
    assert [overlay.stock(f"i{n}") for n in range(20)] == [4 + n for n in range(20)]
    assert overlay.profile("u").country == "C4"
