"""The drift reference of a shop that imported events alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from aisle import lake
from aisle.settings import Settings
from tests import shop
from training import reference
from training.dataset import Cuts, Dataset


def test_a_shop_without_users_and_items_has_a_reference(settings: Settings, tmp_path: Path) -> None:
    rows = shop.purchases(users=20, since="2011-11-01")
    shop.write_interactions(rows)
    cuts = Cuts.of(datetime(2011, 12, 10, tzinfo=UTC), settings)
    name = "silver.interactions"
    found = reference.interactions(Dataset(tmp_path, cuts, {name: lake.version(name)}))
    since = cuts.A - timedelta(days=reference.DAYS)
    assert len(found) == rows["event_time"].between(since, cuts.A, inclusive="left").sum() > 0
    assert found[["country", "category"]].isna().all().all()
    assert found["price"].notna().all()
