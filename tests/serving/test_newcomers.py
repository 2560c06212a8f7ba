"""Items that came by a file, or were told before a release was trained, and have no event yet: silver knows them, no release does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from aisle import lake
from aisle.settings import Settings
from serving import newcomers
from serving.live import Loaded, load
from serving.newcomers import Newcomers
from serving.overlay import Overlay
from serving.shelf import Shelf
from tests.serving.conftest import CUT, Kept, Release, asking, running, stage
from tests.serving.test_overlay import answer, ids, told, wait_for

DAY = timedelta(days=1)


def write(*rows: dict[str, Any], mode: str = "append") -> None:
    """Rows of silver.items: all of them, or some more."""
    import pyarrow as pa
    from deltalake import write_deltalake

    whole = [{"updated_at": CUT, "deleted": False, **row} for row in rows]
    table = pa.Table.from_pylist(whole, schema=lake.arrow_schema("silver.items"))
    write_deltalake(lake.table_path("silver.items"), table, mode=mode)


def like(number: int, item: str, **fields: Any) -> dict[str, Any]:
    """Something that reads like the shop's item of this number."""
    return {"item_id": item, "title": f"TITLE <b>{number}</b> & CO", **fields}


@pytest.fixture
def loaded(aisle_home) -> Loaded:
    pointer = stage("1")
    return Loaded(pointer, load(pointer))


@pytest.fixture
def shelf(aisle_home) -> Shelf:
    return Shelf()


@pytest.fixture
def overlay(shelf: Shelf) -> Iterator[Overlay]:
    """Looks at silver when a test says so."""
    found = Overlay(shelf)
    shelf.start = lambda: None  # type: ignore[method-assign]
    found.start()
    yield found
    found.stop()


def shown(client: httpx.Client, **rules: Any) -> list[str]:
    """What a user who bought i001 and the like is recommended of a category."""
    asked = {"user_id": "u001", "k": 20, "rules": {"categories": {"include": ["only-new"]}, **rules}}
    found = client.post("/v1/recommendations", json=asked)
    assert found.status_code == 200, found.text
    return [each["item_id"] for each in found.json()["items"]]


def test_an_imported_item_is_recommended_before_its_first_event(
    settings: Settings, stage_release: Release
) -> None:
    stage_release("1")
    here = {"categories": ["only-new"], "price": 3}
    write(
        like(1, "fresh", brand="Acme", stock=4, **here),
        like(2, "sold-out", stock=0, **here),
        like(3, "dear", **{**here, "price": 900}),
        like(4, "inactive", deleted=True, **here),
        {"item_id": "nameless", **here},
        like(1, "i001", price=3),
    )
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, 90)
        wait_for(lambda: "fresh" in shown(client))
        assert set(shown(client)) == {"fresh", "sold-out", "dear"}
        assert set(shown(client, in_stock=True, price={"max": 5})) == {"fresh"}
        page = client.get("/v1/items/fresh").json()
        assert (page["title"], page["price"], page["categories"]) == (
            "TITLE <b>1</b> & CO",
            3.0,
            ["only-new"],
        )
        for item in ("inactive", "nameless"):
            assert client.get(f"/v1/items/{item}").status_code == 404
        similar = client.get("/v1/items/fresh/similar", params={"k": 5}).json()["items"]
        assert similar[0]["reason"]["source"] == "content"
        listed = client.get("/v1/items/i001/similar", params={"k": 45}).json()["items"]
        assert "fresh" in [each["item_id"] for each in listed]
        wait_for(lambda: "fresh" in _found(client, "title 1"))
        assert client.delete("/v1/items/fresh").status_code == 202
        assert "fresh" not in {*shown(client), *_found(client, "title 1"), *ids(client)}
        assert client.patch("/v1/items/dear", json={"price": 2}).status_code == 202
        assert set(shown(client, in_stock=True, price={"max": 5})) == {"dear"}


def _found(client: httpx.Client, query: str) -> list[str]:
    answered = client.get("/v1/search", params={"q": query, "k": 40})
    assert answered.status_code == 200, answered.text
    return [each["item_id"] for each in answered.json()["items"]]


def placed(overlay: Overlay, loaded: Loaded) -> set[str]:
    """Items of silver that lie over the release, as the overlay's thread left them."""
    held = overlay._laid.get(loaded.pointer.version)
    return set(held.base.newcomers.items) if held else set()


def look(overlay: Overlay, loaded: Loaded) -> None:
    """Reads silver and waits until what it says is placed."""
    overlay.shelf.look()
    overlay.recommender(loaded)
    wait_for(lambda: overlay._laid["1"].base.newcomers.silver == overlay.shelf.delta_version)


def test_no_more_are_placed_than_there_is_room_for(
    loaded: Loaded, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        like(1, "old", released_at=CUT - 9 * DAY),
        like(1, "sold-out", stock=0, released_at=CUT + DAY),
        like(1, "new", released_at=CUT - DAY, updated_at=CUT - DAY),
        like(1, "undated", stock=3),
        like(1, "gone", deleted=True),
    )
    shelf.look()
    known = loaded.recommender.catalogue.index
    assert shelf.unknown(known) == ["undated", "new", "old", "sold-out"]
    monkeypatch.setattr(newcomers, "LEAST", 2)
    monkeypatch.setattr(newcomers, "MOST", 2)
    with caplog.at_level(logging.WARNING, "aisle.newcomers"):
        found = Newcomers.none(loaded.recommender).of(shelf)
    assert found.items == {"undated", "new"}
    assert "2 are left out" in caplog.text


def test_they_are_placed_by_all_that_was_imported_of_them_once(
    loaded: Loaded, overlay: Overlay, shelf: Shelf
) -> None:
    row = {"brand": None, "categories": ["c1"], "price": 3, "tags": ["a"], "attributes": [("size", "M")]}
    write(like(1, "fresh", description="A lamp", **row))
    assert overlay.recommender(loaded) is loaded.recommender, "silver was not read yet"
    look(overlay, loaded)
    assert shelf.rows(["fresh"])["fresh"]["attributes"] == ["size=M"]
    first = overlay.recommender(loaded)
    assert first.item("fresh")["price"] == 3.0
    assert "fresh" in [each.item_id for each in first.similar("i001", 45)]
    write(like(1, "fresh", description="A lamp", updated_at=CUT + DAY, **row), mode="overwrite")
    look(overlay, loaded)
    assert overlay.recommender(loaded) is first, "the same again, as a shop sends it every night"
    write(like(1, "fresh", updated_at=CUT + DAY, **{**row, "price": 4}), mode="overwrite")
    look(overlay, loaded)
    assert overlay.recommender(loaded).item("fresh")["price"] == 4.0
    write(like(1, "fresh", updated_at=CUT + DAY, deleted=True), mode="overwrite")
    look(overlay, loaded)
    assert "fresh" not in overlay.recommender(loaded).catalogue.index


def test_what_was_told_lies_over_what_was_imported(loaded: Loaded, overlay: Overlay) -> None:
    write(like(1, "fresh", categories=["c1"], price=3))
    look(overlay, loaded)
    before, later = (int((CUT + days * DAY).timestamp() * 1e6) for days in (-1, 1))
    told(overlay, before, "fresh", price="1.00")
    told(overlay, later, "told", title="TITLE <b>2</b> & CO", categories='["c2"]', price="9.00")
    wait_for(lambda: "told" in overlay.recommender(loaded).catalogue.index)
    assert placed(overlay, loaded) == {"fresh"}
    assert overlay.recommender(loaded).item("fresh")["price"] == 3.0, "silver spoke last"
    write(like(2, "i002"))
    look(overlay, loaded)
    wait_for(lambda: "fresh" not in overlay.items)  # silver is newer, and it is shown
    told(overlay, later, "fresh", price="2.00")
    found = overlay.recommender(loaded)
    assert (found.item("fresh")["price"], found.item("told")["price"]) == (2.0, 9.0)
    assert found.item("fresh")["categories"] == ["c1"]
    write(like(1, "fresh", categories=["c1"], price=3, updated_at=CUT + 2 * DAY), mode="overwrite")
    look(overlay, loaded)
    wait_for(lambda: overlay.recommender(loaded).item("fresh")["price"] == 3.0)  # said again, and later
    told(overlay, int((CUT + 3 * DAY).timestamp() * 1e6), "fresh", deleted="true")
    assert "fresh" not in answer(overlay.recommender(loaded), 99)


def test_what_is_told_of_one_that_was_left_out_is_not_all_that_is_known_of_it(
    loaded: Loaded, overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "LEAST", 0)
    monkeypatch.setattr(newcomers, "MOST", 0)
    write(like(1, "left out", categories=["c1"], price=3, stock=1), like(3, "unheard"))
    look(overlay, loaded)
    assert not placed(overlay, loaded)
    told(overlay, int((CUT + DAY).timestamp() * 1e6), "left out", price="2.00")
    told(overlay, 1, "all new")
    wait_for(lambda: "left out" in overlay.recommender(loaded).catalogue.index)
    assert overlay.recommender(loaded).item("left out") == {
        "title": "TITLE left out",
        "price": 2.0,
        "categories": ["c1"],
    }


def test_what_was_told_before_a_release_was_trained_stays_when_it_is_swapped_in(
    settings: Settings, stage_release: Release
) -> None:
    """Its row is in silver by then, it has no event, and the fit did not take it."""
    stage_release("1")
    new = {"title": "TITLE <b>1</b> & CO", "categories": ["only-new"], "price": 3}
    with running(settings, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, 90)
        assert client.put("/v1/items/told", json=new).status_code == 202
        wait_for(lambda: shown(client) == ["told"])
        write(like(1, "told", categories=["only-new"], price=3), like(1, "imported", categories=["only-new"]))
        wait_for(lambda: set(shown(client)) == {"told", "imported"})
        stage_release("2", seed=8)
        seen = []
        while client.get("/readyz").json()["version"] == "1":
            seen.append(set(shown(client)))
        seen.append(set(shown(client)))
        assert {frozenset(each) for each in seen} == {frozenset({"told", "imported"})}, "not for a moment"


def test_two_processes_give_the_same_items_the_same_name(loaded: Loaded) -> None:
    write(like(1, "fresh", price=3), like(2, "other"))
    one, other = Shelf(), Shelf()
    one.look()
    write(like(2, "i002"))
    other.look()
    names = [Newcomers.none(loaded.recommender).of(each).name for each in (one, other)]
    assert names[0] == names[1] != ""
    write(like(1, "third"))
    other.look()
    assert Newcomers.none(loaded.recommender).of(other).name != names[0]


def test_without_a_lake_there_are_none(loaded: Loaded, shelf: Shelf) -> None:
    assert not shelf.look()
    found = Newcomers.none(loaded.recommender)
    assert found.of(shelf) is found


def test_what_was_told_does_not_wait_for_a_lake_that_cannot_be_read(
    loaded: Loaded, overlay: Overlay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.overlay.RETRY_SECONDS", 0.2)
    write(like(1, "fresh"))
    table = lake.home() / "lake" / "silver" / "items"
    overlay.shelf.look()
    table.rename(table.with_name("away"))
    overlay.recommender(loaded)
    told(overlay, 1, "told")
    wait_for(lambda: "told" in overlay.recommender(loaded).catalogue.index)
    assert "new items of silver cannot be placed" in caplog.text
    table.with_name("away").rename(table)
    wait_for(lambda: {"told", "fresh"} <= set(overlay.recommender(loaded).catalogue.item_ids))
