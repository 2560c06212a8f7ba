"""The segment that a setting names, as it was told at points in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from aisle import features, lake
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import gold
from tests.shop import _write, write_interactions

pytestmark = pytest.mark.spark
START = datetime(2024, 5, 6, 12, tzinfo=UTC)


def test_an_attribute_is_the_segment_from_when_it_was_told(spark, settings: Settings) -> None:
    bought = {"event_type": "purchase", "item_id": "i", "event_time": pd.Timestamp(START)}
    write_interactions(
        pd.DataFrame([{**bought, "event_id": user, "user_id": user} for user in ("ann", "bob", "cy")])
    )
    told = (
        ("ann", 0, "Spain", {"tier": "silver"}),
        ("ann", 2, None, {"tier": "gold", "size": "M"}),
        ("ann", 3, "Chile", None),  # says nothing of attributes
        ("ann", 4, None, {"size": "M"}),  # the tier is no more
        ("bob", 0, "Spain", None),
    )
    rows = [
        {
            "user_id": user,
            "country": country,
            "attributes": None if tags is None else list(tags.items()),
            "updated_at": pd.Timestamp(START + timedelta(days=day)),
        }
        for user, day, country, tags in told
    ]
    _write("silver.user_updates", pd.DataFrame(rows))
    by_tier = settings.features.model_copy(update={"segment": "attributes.tier"})
    end = (START + timedelta(days=6)).replace(hour=0)
    gold.run(settings.model_copy(update={"features": by_tier}), StepContext(as_of=end, run_id="test"))
    found = {}
    for day in range(1, 7):
        at = (START + timedelta(days=day)).replace(hour=0)
        known = features.histories(at).set_index("user_id")["country"]
        found[day] = [known[user] if isinstance(known[user], str) else None for user in ("ann", "bob", "cy")]
    assert [each[0] for each in found.values()] == ["silver", "silver", "gold", "gold", None, None]
    assert all(each[1:] == [None, None] for each in found.values())


def test_who_told_their_segment_before_any_event_is_known_by_it(spark, settings: Settings) -> None:
    """A row at the point after each change, and one of all of them at the newest; built point by point as in one build."""
    first = {"event_type": "purchase", "item_id": "i", "event_id": "1", "user_id": "ann"}
    write_interactions(pd.DataFrame([{**first, "event_time": pd.Timestamp(START)}]))
    told = (("bob", 0, "Spain"), ("bob", 3, "Chile"), ("cy", 1, "Peru"), ("cy", 2, ""), ("eve", 1, None))
    rows = [
        {"user_id": user, "country": country, "updated_at": pd.Timestamp(START + timedelta(days=day))}
        for user, day, country in told
    ]
    _write("silver.user_updates", pd.DataFrame(rows))
    midnight = START.replace(hour=0)
    later = {
        **first,
        "event_id": "2",
        "user_id": "bob",
        "event_time": pd.Timestamp(START + timedelta(days=5)),
    }
    gold.run(settings, StepContext(as_of=midnight + timedelta(days=5), run_id="test"))
    write_interactions(pd.DataFrame([later]), "two")

    def known() -> dict[tuple[str, int], tuple[str | None, int]]:
        found = lake.read_frame("gold.user_stats").sort_values(["user_id", "as_of"])
        return {
            (row.user_id, (row.as_of - pd.Timestamp(midnight)).days): (row.country or None, row.n_events)
            for row in found.itertuples()
        }

    idle = {place: said for place, said in known().items() if place[0] != "ann"}
    assert idle == {
        ("bob", 1): ("Spain", 0),
        ("bob", 4): ("Chile", 0),
        ("bob", 5): ("Chile", 0),
        ("cy", 2): ("Peru", 0),
        ("cy", 3): (None, 0),
        ("cy", 5): (None, 0),
    }
    gold.run(settings, StepContext(as_of=midnight + timedelta(days=6), run_id="test"))
    bit_by_bit = known()
    assert bit_by_bit["bob", 6] == ("Chile", 1)
    first_point = midnight + timedelta(days=1)
    gold.run(settings, StepContext(as_of=first_point, run_id="test", params={"rebuild": True}))
    whole = known()
    assert whole.items() <= bit_by_bit.items(), (
        "what is left of the newest point before says what stood anyway"
    )
    assert bit_by_bit.keys() - whole.keys() == {("bob", 5), ("cy", 5)}
