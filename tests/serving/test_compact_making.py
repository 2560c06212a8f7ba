"""Compact rows as `features.feast` makes them: batch by batch, beside others who write, killed and begun again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aisle.settings import Settings
from feature_repo import compact, publish
from tests.serving.compact_store import (
    ROW,
    batches_are_small,  # noqa: F401 - a fixture
    compact_users,
    store_of,
    told_by_feast,
)
from tests.serving.test_online import (
    USERS,
    feast,  # noqa: F401 - a fixture
    reader_of,
    write,
)


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


def test_others_may_write_while_rows_are_made(feast, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    slept: list[float] = []
    monkeypatch.setattr(compact, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(compact.time, "sleep", slept.append)
    write(feast, dict.fromkeys(USERS, ROW))
    compact.drop(store_of(feast))
    compact.fill(feast, store_of(feast))
    assert len(slept) > 2 * len(USERS) / compact.BATCH
    assert set(slept) == {compact.PAUSE_SECONDS}


def test_a_store_that_is_locked_stops_nothing(feast, monkeypatch, caplog) -> None:  # noqa: F811
    monkeypatch.setattr(compact, "PATIENCE_SECONDS", 0.05)
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        compact.drop(store_of(feast))
        assert compact.fill(feast, store_of(feast)) == {}
    assert caplog.text.count("locked") == 2


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


def test_another_format_is_written_by_the_next_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = publish.digest(), Path.read_bytes
    assert publish.digest() == before
    own = ("aisle", "compact.py")
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.parts[-2:] == own))
    assert publish.digest() != before
