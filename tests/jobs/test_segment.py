"""The segment that a setting names, as it was told at points in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from aisle import features
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
