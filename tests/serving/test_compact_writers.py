"""Whoever writes to the online store, drops from it or dies over it: no compact row tells what was before."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aisle import features
from aisle.compact import packed
from aisle.settings import Settings
from engine.state import UserState
from feature_repo import compact, publish
from serving.features import OnlineStore
from serving.online import Reader
from tests.serving.compact_store import (
    ROW,
    batches_are_small,  # noqa: F401 - a fixture
    compact_users,
    store_of,
)
from tests.serving.test_online import (
    ONE,
    USERS,
    feast,  # noqa: F401 - a fixture
    publish_two,
    reader_of,
    write,
)


def test_a_write_takes_only_its_user_s_row(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW, "b": ROW})
    compact.fill(feast, store_of(feast))
    before = compact_users(feast)
    write(feast, {"a": ROW | {"count": 4}})
    assert compact_users(feast) == before - 1
    assert reader_of(feast).read("whole", ["a", "b"])["count"] == [4, 3]
    assert compact.fill(feast, store_of(feast))["whole"] == 1
    assert compact.fill(feast, store_of(feast))["whole"] == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE shop_plain SET value = x'2009' WHERE feature_name = 'count'",
        "DELETE FROM shop_plain",
        "DROP TABLE shop_plain",
        "INSERT OR REPLACE INTO shop_plain SELECT entity_key, feature_name, x'2009', value_text, vector_value, event_ts, "
        "created_ts FROM shop_plain WHERE feature_name = 'count'",
        'DROP TRIGGER "compact:whole:shop_plain:update"',
        "DELETE FROM compact",
        'DROP TABLE "compact:whole:names"',
        'DROP TABLE "compact:whole"',
        "VACUUM",
    ],
)
def test_whoever_writes_and_whatever_is_dropped(feast, tmp_path: Path, statement: str) -> None:  # noqa: F811
    """A reader that is open says what one without compact rows says."""
    write(feast, {"a": ROW, "b": ROW})
    compact.fill(feast, store_of(feast))
    folder = store_of(feast).parent
    for name in ("registry.db", "online.db"):
        shutil.copy(folder / name, tmp_path / name)
    reader = Reader(tmp_path, "shop")
    assert reader.read("whole", ["a"])["count"] == [3]
    with closing(sqlite3.connect(tmp_path / "online.db", isolation_level=None)) as other:
        other.execute(statement)
        if statement.startswith("DROP TABLE shop"):
            other.execute("CREATE TABLE shop_plain (entity_key BLOB, feature_name TEXT, value BLOB)")
    plain, stored, asked = Reader(tmp_path, "shop"), [], ["a", "b"]
    plain._open()  # which makes the compact rows that are patched
    plain._compact.read = lambda *_: ([], [])
    read = plain._stored
    plain._stored = lambda *how: stored.extend(how[2]) or read(*how)
    assert reader.read("whole", asked) == plain.read("whole", asked)
    assert len(stored) == 2


def test_what_is_dropped_is_made_anew(feast, tmp_path: Path) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute('DROP TRIGGER "compact:whole:shop_plain:update"')
        other.execute("UPDATE shop_plain SET value = x'2009' WHERE feature_name = 'count'")
        other.execute('CREATE TABLE "compact:gone" (entity_key BLOB)')
        other.execute("INSERT INTO compact VALUES ('gone', '[1, []]')")
    reader = reader_of(feast)
    assert reader.read("whole", ["a"])["count"] == [9]
    compact.fill(feast, store_of(feast))
    assert reader.read("whole", ["a"])["count"] == [9]
    assert compact_users(feast) >= 1
    with closing(sqlite3.connect(store_of(feast))) as other:
        assert not other.execute("SELECT 1 FROM sqlite_master WHERE name = 'compact:gone'").fetchall()


def test_a_compact_table_dropped_by_hand_is_healed(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute('DROP TABLE "compact:whole"')
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            other.execute("DELETE FROM shop_plain")
    compact.drop(store_of(feast))
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("UPDATE shop_plain SET value = x'2009' WHERE feature_name = 'count'")
        assert not other.execute("SELECT name FROM sqlite_master WHERE name LIKE 'compact%'").fetchall()
    compact.fill(feast, store_of(feast))
    assert reader_of(feast).read("whole", ["a"])["count"] == [9]


def test_who_is_erased_has_no_compact_row(settings: Settings) -> None:
    """Not even before the next publication, and no history after it."""
    publish_two(settings)
    publish.write_compact(settings, features.store(settings))
    reads = OnlineStore(settings)
    assert reads.read("retrieval_v1", ["1"]) == [ONE]

    def rows() -> list[tuple]:
        with closing(sqlite3.connect(features.folder() / "online.db")) as connection:
            return connection.execute(
                'SELECT item_ids, country FROM "compact:retrieval_v1" ORDER BY 1'
            ).fetchall()

    assert len(rows()) == 2
    features.forget(settings, ["1"])
    assert rows() == [(packed("string_list", []), None)]
    assert reads.read("retrieval_v1", ["1"]) == [UserState("1")]
    publish.write_compact(settings, features.store(settings))
    assert rows() == [(packed("string_list", []), None)] * 2


def test_what_a_killed_writer_left_half_done_is_rolled_back(tmp_path: Path, feast) -> None:  # noqa: F811
    write(feast, dict.fromkeys(USERS, ROW))
    compact.fill(feast, store_of(feast))
    for name in ("registry.db", "online.db"):
        shutil.copy(store_of(feast).parent / name, tmp_path / name)
    file = tmp_path / "online.db"
    code = (
        f"import os, sqlite3; other = sqlite3.connect({str(file)!r}, isolation_level=None)\n"
        "other.execute('PRAGMA cache_size = 2'); other.execute('BEGIN')\n"
        "other.execute('UPDATE shop_plain SET value = zeroblob(9000)'); os._exit(9)\n"
    )
    before = reader_of(feast).read("whole", USERS)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert os.path.getsize(tmp_path / "online.db-journal")
    with (
        closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as other,
        pytest.raises(sqlite3.OperationalError),
    ):
        other.execute("SELECT count(*) FROM shop_plain").fetchall()
    reader = Reader(tmp_path, "shop")
    assert reader.read("whole", USERS) == before
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._open().execute("DELETE FROM shop_plain")
