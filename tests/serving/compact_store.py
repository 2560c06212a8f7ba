"""A Feast store with compact rows beside Feast's own: what its tests write, and how they look into it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from feature_repo import compact
from tests.serving.test_online import VALUES

NOTHING = {name: None if name in ("country", "count", "share", "old") else [] for name in VALUES}
ROW = NOTHING | {"flag": True, "words": ["é", "", "b"], "times": [2**40, -1], "numbers": [0.1], "count": 3}


@pytest.fixture(autouse=True)
def batches_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever imports it: a handful of users is several batches."""
    monkeypatch.setattr(compact, "BATCH", 3)


def store_of(store) -> Path:
    return Path(store.config.online_store.path)


def compact_users(store, service: str = "whole") -> int:
    with closing(sqlite3.connect(store_of(store))) as connection:
        return connection.execute(f'SELECT count(*) FROM "compact:{service}"').fetchone()[0]


def told_by_feast(store, service: str, asked: list[str]) -> dict:
    rows = [{"user_id": user} for user in asked]
    return store.get_online_features(store.get_feature_service(service), rows).to_dict()
