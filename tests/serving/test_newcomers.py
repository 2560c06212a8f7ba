"""Items that came by a file, or were told before a release was trained, and have no event yet: silver knows them, no release does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from aisle import lake
from aisle.settings import Settings
from serving.live import Loaded, load
from serving.overlay import Overlay
from serving.shelf import Shelf
from serving.told_items import ToldItems
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
        assert (page["title"], page["price"], page["categories"]) == ("TITLE <b>1</b> & CO", 3.0, ["only-new"])
        for item in ("inactive", "nameless"):
            assert client.get(f"/v1/items/{item}").status_code == 404
        similar = client.get("/v1/items/fresh/similar", params={"k": 5}).json()["items"]
        assert similar and similar[0]["reason"]["source"] == "content"
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
