"""After `features.feast` every user has a compact row, and it says what Feast says of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from aisle import features, lake
from aisle.columns import AS_OF
from aisle.settings import Settings
from serving.online import Reader
from tests.feature_repo.conftest import AS_OF_DAY

pytestmark = pytest.mark.spark


def test_every_user_has_a_row_and_it_is_right(shop: Settings) -> None:
    users = lake.read("gold.user_stats", columns=["user_id"], filters=[(AS_OF, "=", AS_OF_DAY)])[
        "user_id"
    ].to_pylist()
    with closing(sqlite3.connect(features.folder() / "online.db")) as store:
        ((rows,),) = store.execute('SELECT count(*) FROM "compact:retrieval_v1"').fetchall()
    assert rows == len(set(users)) > 20
    reader = Reader(features.folder(), features.PROJECT)
    theirs = features.online(shop, "retrieval_v1", [{"user_id": user} for user in users])
    assert reader.read("retrieval_v1", users) == theirs
    for user in users:
        one = reader.read("retrieval_v1", [user])
        assert one == {name: [column[users.index(user)]] for name, column in theirs.items()}
