"""What else a shop tells of its items, on its way through gold: bounded, as it was told; and a lake from before there was any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from deltalake import write_deltalake

from aisle import lake
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.sources.content_words import LONGEST, MOST, pairs
from jobs import gold
from tests.shop import _write, write_interactions

pytestmark = pytest.mark.spark
START = datetime(2024, 5, 6, 12, tzinfo=UTC)
MIDNIGHT = START.replace(hour=0)
MANY = {f"name {number:05d}": "x" for number in range(10_000)}


def tell(**fields: object) -> None:
    day = fields.pop("day", 0)
    moment = pd.Timestamp(START + timedelta(days=int(day)))  # type: ignore[call-overload]
    _write("silver.item_history", pd.DataFrame([{"title": "Lamp", **fields, "updated_at": moment}]))


def as_map(**values: str | None) -> list[tuple[str, str | None]]:
    return list(values.items())


def text(day: int) -> dict[str, dict[str, object]]:
    found = lake.read_frame("gold.item_text", filters=[("as_of", "=", MIDNIGHT + timedelta(days=day))])
    rows = found.set_index("item_id")[["description", "tags", "attributes"]]
    return {
        str(item): {
            name: list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value or None
            for name, value in row.items()
        }
        for item, row in rows.iterrows()
    }


@pytest.fixture
def shop(spark, settings: Settings) -> Settings:
    bought = {"event_type": "purchase", "user_id": "ann", "event_time": pd.Timestamp(START)}
    write_interactions(pd.DataFrame([{**bought, "event_id": item, "item_id": item} for item in "ab"]))
    return settings


def run(settings: Settings, day: int) -> dict[str, object]:
    return gold.run(settings, StepContext(as_of=MIDNIGHT + timedelta(days=day), run_id="test"))


def test_fields_are_told_as_they_were_and_bounded(shop: Settings) -> None:
    tell(item_id="a", description="Oak.", tags=["home"], attributes=as_map(size="M", colour="red", note=None))
    tell(item_id="a", day=1, description=None, tags=None, attributes=None)  # says nothing of them
    tell(item_id="a", day=2, description="", tags=[], attributes=[])  # clears them
    tell(item_id="b", description="words " * 20_000, tags=["t" * 999, *map(str, range(99))])
    tell(item_id="c", attributes=[*MANY.items(), ("a", "y" * 999)])
    run(shop, 4)
    first = {"description": "Oak.", "tags": ["home"], "attributes": ["colour=red", "size=M"]}
    assert [text(day)["a"] for day in (1, 2)] == [first, first]
    assert text(3)["a"] == dict.fromkeys(("description", "tags", "attributes"))
    assert len(str(text(4)["b"]["description"])) == LONGEST
    assert text(4)["b"]["tags"] == [str(number) for number in range(MOST)]
    assert text(4)["c"]["attributes"] == pairs(MANY), "what an API would say of the same item"


def test_a_lake_from_before_there_were_such_fields_is_built_anew_once(shop: Settings) -> None:
    tell(item_id="a", description="Oak.", tags=["home"], attributes=as_map(colour="red"))
    run(shop, 3)
    path, now = lake.table_path("gold.item_text"), text(1)
    before = lake.read("gold.item_text").drop_columns(["description", "tags", "attributes"])
    write_deltalake(path, before, mode="overwrite", schema_mode="overwrite")
    assert gold.lacking_columns() == [
        f"gold.item_text.{name}" for name in ("description", "tags", "attributes")
    ]
    told = run(shop, 4)
    assert told["points_built"] == told["points"]
    assert gold.lacking_columns() == []
    assert text(1) == now
    assert text(4)["a"]["tags"] == ["home"]
    assert run(shop, 5)["points_built"] == 1
