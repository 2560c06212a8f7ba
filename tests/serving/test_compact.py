"""Compact rows hold Feast's own values and never an older one, whoever writes; without them Feast's rows are read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from aisle import features
from aisle.compact import layout, packed, unpacked
from aisle.settings import Settings
from engine.state import UserState
from feature_repo import compact, publish
from serving.compact import NotLooked
from serving.features import OnlineStore
from serving.online import Reader
from tests.serving.test_online import (
    ONE,
    USERS,
    VALUES,
    feast,  # noqa: F401 - a fixture
    publish_two,
    reader_of,
    write,
)

NOTHING = {name: None if name in ("country", "count", "share", "old") else [] for name in VALUES}
ROW = NOTHING | {"flag": True, "words": ["é", "", "b"], "times": [2**40, -1], "numbers": [0.1], "count": 3}


@pytest.fixture(autouse=True)
def _batches_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "BATCH", 3)


def store_of(store) -> Path:
    return Path(store.config.online_store.path)


def compact_users(store, service: str = "whole") -> int:
    with closing(sqlite3.connect(store_of(store))) as connection:
        return connection.execute(f'SELECT count(*) FROM "compact:{service}"').fetchone()[0]


def told_by_feast(store, service: str, asked: list[str]) -> dict:
    rows = [{"user_id": user} for user in asked]
    return store.get_online_features(store.get_feature_service(service), rows).to_dict()


@given(
    st.one_of(
        st.tuples(st.just("double_list"), st.lists(st.floats(allow_nan=False), max_size=9)),
        st.tuples(st.just("double_list"), st.lists(st.floats(width=32, allow_nan=False), max_size=9)),
        st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)),
        st.tuples(st.just("int64_list"), st.lists(st.integers(0, 2**32 - 1), max_size=9)),
        st.tuples(st.just("string_list"), st.lists(st.integers(0, 2**32 - 1), max_size=9)),
    )
)
def test_a_list_comes_back_as_it_was(each: tuple[str, list]) -> None:
    kind, values = each
    blob = packed(kind, values)
    for blobs in ([blob], [None, blob, packed(kind, [1]), blob]):
        found = unpacked(kind, blobs)
        own = found[blobs.index(blob)]
        assert own == values
        assert [type(value) for value in own] == [type(value) for value in values]
    assert np.isnan(unpacked("double_list", [packed("double_list", [float("nan")])])[0]).all()


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.dictionaries(st.sampled_from(USERS), st.fixed_dictionaries(VALUES), min_size=1, max_size=6),
    second=st.dictionaries(st.sampled_from(USERS), st.fixed_dictionaries(VALUES), min_size=1, max_size=6),
    asked=st.lists(st.sampled_from([*USERS, "nobody", ""]), min_size=1, max_size=12),
)
def test_values_are_those_of_feast(feast, first: dict, second: dict, asked: list[str]) -> None:  # noqa: F811
    """Right after the rows are written, after Feast wrote again, and after the rows were written again."""
    reader = reader_of(feast)
    write(feast, first)
    for rows in ({}, second):
        if rows:
            write(feast, rows)
            assert reader.read("whole", asked) == told_by_feast(feast, "whole", asked)
        compact.fill(feast, store_of(feast))
        for service in ("whole", "part"):
            theirs = told_by_feast(feast, service, asked)
            assert reader.read(service, asked) == theirs
            some = {name: theirs[name] for name in ("user_id", "share", "times")}
            assert reader.read(service, asked, ("times", "share")) == some
    assert compact_users(feast) >= len(first | second)
    reader.close()


def test_feast_s_rows_are_not_even_read_where_there_are_compact_ones(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW, "b": NOTHING | {"flag": False}})
    compact.fill(feast, store_of(feast))
    reader, read = reader_of(feast), []
    reader._stored = lambda _, __, keys: read.extend(keys) or [[] for _ in VALUES]
    assert reader.read("whole", ["b", "a", "b"])["words"] == [[], ["é", "", "b"], []]
    assert not read


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


def test_what_sqlite_would_not_give_back_is_read_from_feast_s_rows(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW | {"share": 0.5}})
    nan = b"\x29\x00\x00\x00\x00\x00\x00\xf8\x7f"
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("UPDATE shop_plain SET value = ? WHERE feature_name = 'share'", (nan,))
    compact.fill(feast, store_of(feast))
    assert np.isnan(reader_of(feast).read("part", ["a"])["share"][0])


def test_texts_that_came_after_a_reader_looked_are_known(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    reader = reader_of(feast)
    assert reader.read("whole", ["a"])["words"] == [["é", "", "b"]]
    write(feast, {"b": ROW | {"words": ["quite new", "b"]}})
    compact.fill(feast, store_of(feast))
    assert reader.read("whole", ["b", "a"])["words"] == [["quite new", "b"], ["é", "", "b"]]


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


def test_killed_between_two_batches(feast, tmp_path: Path) -> None:  # noqa: F811
    """A process that dies with a batch half written: those users are read from Feast's rows, and the next run goes on."""
    write(feast, {user: ROW | {"count": number} for number, user in enumerate(USERS)})
    folder = store_of(feast).parent
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("DROP TABLE IF EXISTS compact")
    code = (
        "import os, sys; from pathlib import Path; from feast import FeatureStore, RepoConfig; from feature_repo import compact\n"
        "compact.BATCH, count, save = 3, [], compact.Codes.save\n"
        "def die(self, connection):\n"
        "    save(self, connection); count.append(1)\n"
        "    if len(count) == 2: os._exit(9)\n"
        "compact.Codes.save = die\n"
        f"folder = Path({str(folder)!r})\n"
        "store = FeatureStore(config=RepoConfig(project='shop', provider='local', registry=str(folder / 'registry.db'), "
        "online_store={'type': 'sqlite', 'path': str(folder / 'online.db')}, offline_store={'type': 'dask'}, "
        "entity_key_serialization_version=3, repo_path=folder))\n"
        "compact.fill(store, folder / 'online.db')\n"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == 9
    with closing(sqlite3.connect(store_of(feast))) as other:
        (service,) = other.execute("SELECT service FROM compact").fetchone()
    asked = [*USERS, "nobody"]
    assert compact_users(feast, service) == 3
    theirs = told_by_feast(feast, "whole", asked)
    assert reader_of(feast).read("whole", asked) == theirs
    compact.fill(feast, store_of(feast))
    assert compact_users(feast) == len(USERS)
    assert reader_of(feast).read("whole", asked) == theirs
    assert not os.path.exists(folder / "online.db-journal")


@pytest.mark.parametrize(
    "text", [None, "x", "3", "[]", "[2, []]", "[1, []]", "[1, [], 2]", '[1, [["a"]]]', "[1, 2]"]
)
def test_another_format_is_no_layout(text: str | None) -> None:
    assert layout("whole", text) is None


def test_tables_made_anew_between_two_batches(feast, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Another run that is not through yet numbers the texts in another order: the first one begins again."""
    write(feast, {user: ROW | {"words": [f"of {user}", "all"]} for user in USERS})
    compact.drop(store_of(feast))
    whole, begun, steps = feast.get_feature_service("whole"), compact.Turns.transaction, []

    def other_run() -> None:
        compact.drop(store_of(feast))
        write(feast, {user: ROW | {"words": ["quite", "another", user]} for user in USERS[:4]})
        layout = compact.layout_of(feast, whole)
        with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
            turns = compact.Turns(other)
            with begun(turns):
                compact._ensure(other, layout)
                compact._batch(other, layout, layout.tables[0], b"", compact.Codes(layout))

    def transaction(turns: compact.Turns):
        steps.append(1)
        if len(steps) == 4:  # the register is there, and two batches were written
            other_run()
        return begun(turns)

    monkeypatch.setattr(compact.Turns, "transaction", transaction)
    monkeypatch.setattr(feast, "list_feature_services", lambda: [whole])
    compact.fill(feast, store_of(feast))
    assert len(steps) > 4
    reader = reader_of(feast)
    assert reader.read("whole", USERS) == told_by_feast(feast, "whole", USERS)
    assert compact_users(feast) >= len(USERS)


def test_a_service_that_does_not_fit_stops_no_other(feast, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    from feast import Entity, FeatureService, FeatureView, Field, ValueType
    from feast.types import Int64, String

    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = feast.get_feature_view("plain").batch_source

    def view(name: str, *columns: str, **more) -> FeatureView:
        schema = [Field(name="user_id", dtype=String), *(Field(name=each, dtype=Int64) for each in columns)]
        return FeatureView(name=name, entities=[user], schema=schema, source=source, **more)

    views = {
        "gone": view("gone", "one"),
        "offline": view("offline", "one", online=False),
        "cases": view("cases", "one", "ONE"),
        "key": view("key", "Entity_Key"),
        "wide": view("wide", *(f"f{number}" for number in range(2001))),
    }
    plain = feast.get_feature_view("plain")
    services = [FeatureService(name=f"a {name}", features=[each]) for name, each in views.items()]
    services.append(FeatureService(name="Whole", features=[plain[["count"]]]))
    real = feast.get_feature_view, feast.list_feature_services

    def found(name: str, *more, **how):
        if name in views and name != "gone":
            return views[name]
        return real[0](name, *more, **how)

    write(feast, {"a": ROW})
    with pytest.MonkeyPatch.context() as patched, caplog.at_level("INFO", "aisle.features"):
        patched.setattr(feast, "get_feature_view", found)
        patched.setattr(feast, "list_feature_services", lambda: [*real[1](), *services])
        written = compact.fill(feast, store_of(feast))
    assert set(written) == {"Whole", "part"}
    for name in ("a gone", "a offline", "a cases", "a key", "a wide", "whole"):
        assert f"{name} is left to Feast's own rows" in caplog.text
    write(feast, {"a": ROW | {"count": 9}})  # no trigger stands without its table
    assert reader_of(feast).read("whole", ["a"])["count"] == [9]
    assert "whole" in compact.fill(feast, store_of(feast))


def test_a_store_that_is_locked_stops_nothing(feast, monkeypatch, caplog) -> None:  # noqa: F811
    monkeypatch.setattr(compact, "PATIENCE_SECONDS", 0.05)
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        compact.drop(store_of(feast))
        assert compact.fill(feast, store_of(feast)) == {}
    assert caplog.text.count("locked") == 2


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


def test_others_may_write_while_rows_are_made(feast, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    slept: list[float] = []
    monkeypatch.setattr(compact, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(compact.time, "sleep", slept.append)
    write(feast, dict.fromkeys(USERS, ROW))
    compact.drop(store_of(feast))
    compact.fill(feast, store_of(feast))
    assert len(slept) > 2 * len(USERS) / compact.BATCH
    assert set(slept) == {compact.PAUSE_SECONDS}


def test_a_prompt_reader_leaves_the_look_to_the_other(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    thread, prompt = reader_of(feast), reader_of(feast)

    def both(user: str) -> list:
        with pytest.raises(NotLooked):
            prompt.read("whole", [user], looked=thread)
        theirs = thread.read("whole", [user])
        assert prompt.read("whole", [user], looked=thread) == theirs
        return theirs["words"]

    assert prompt.read("whole", ["a"], looked=thread) == told_by_feast(feast, "whole", ["a"])
    thread._open()
    stored = []
    prompt._stored = lambda *how: stored.append(how) or Reader._stored(prompt, *how)
    assert both("a") == [ROW["words"]]
    write(feast, {"a": ROW | {"words": ["never seen"]}})
    compact.fill(feast, store_of(feast))
    assert both("a") == [["never seen"]]
    assert not stored
    compact.drop(store_of(feast))
    assert both("a") == [["never seen"]]
    assert stored
    compact.fill(feast, store_of(feast))
    assert both("a") == [["never seen"]]
    assert prompt._compact.looked.schema is None


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


def test_another_format_is_written_by_the_next_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = publish.digest(), Path.read_bytes
    assert publish.digest() == before
    own = ("aisle", "compact.py")
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.parts[-2:] == own))
    assert publish.digest() != before
