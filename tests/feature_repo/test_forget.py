"""Who was erased is not online any more; the others are as they were."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pandas as pd
import pytest

from aisle import features
from aisle.settings import Settings

pytestmark = pytest.mark.spark


@pytest.fixture
def put_back(shop: Settings) -> Iterator[None]:
    """The room's other tests read the same shop."""
    with sqlite3.connect(features.folder() / "online.db") as store, sqlite3.connect(":memory:") as kept:
        store.backup(kept)
        yield
        kept.backup(store)


@pytest.mark.usefixtures("put_back")
def test_nothing_is_online_of_who_was_erased(shop: Settings, events: pd.DataFrame) -> None:
    users = events["user_id"].dropna().unique()[:3].tolist()
    rows = [{"user_id": user} for user in users]
    names = ("item_ids", "country", "event_times")
    before = features.online(shop, "retrieval_v1", rows)
    assert all(before["item_ids"])
    features.forget(shop, users[:2])
    after = features.online(shop, "retrieval_v1", rows)
    for name in names:
        assert not after[name][0]
        assert not after[name][1]
        assert after[name][2] == before[name][2]
    features.forget(shop, ["never seen"])
