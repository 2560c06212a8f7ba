"""Values read straight from the online store are those of Feast's own `get_online_features`, whatever was written."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from aisle import settings as settings_module
from aisle.errors import FeatureMismatch, NotThere
from aisle.settings import Settings
from engine.state import UserState
from serving.online import NotPlain, Reader
from tests.serving.test_shared import Redis, needs_redis

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
WHOLE = st.integers(-(2**53), 2**53)  # beyond, Feast itself writes a float where a value beside it is missing
VALUES = {
    "words": st.lists(TEXT, max_size=5),
    "times": st.lists(WHOLE, max_size=5),
    "numbers": st.lists(st.floats(allow_nan=False), max_size=5),
    "country": st.none() | TEXT.filter(bool),
    "count": st.none() | WHOLE,
    "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "old": st.none() | TEXT.filter(bool),
}
USERS = [*"abcdefgh", "ü ser", "x" * 200, "12347"]


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A Feast store of three views, one of which has a time to live that all its rows have outlived."""
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        RepoConfig,
        ValueType,
    )
    from feast.types import Array, Bool, Float64, Int64, String

    folder = tmp_path_factory.mktemp("feast")
    rows = pd.DataFrame({"user_id": ["a"], "at": [NOW]})
    rows.to_parquet(folder / "rows.parquet")
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    number = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)

    def view(name: str, entity: Entity = user, ttl: timedelta = timedelta(0), **types: object) -> FeatureView:
        source = FileSource(name=f"of_{name}", path=str(folder / "rows.parquet"), timestamp_field="at")
        schema = [Field(name=each, dtype=dtype) for each, dtype in types.items()]
        key = Field(name=entity.join_key, dtype=String if entity is user else Int64)
        return FeatureView(name=name, entities=[entity], schema=[key, *schema], source=source, ttl=ttl)

    lists = view("lists", words=Array(String), times=Array(Int64), numbers=Array(Float64))
    plain = view("plain", country=String, count=Int64, share=Float64, flag=Bool)
    old = view("old_view", ttl=timedelta(days=1), old=String)
    other = view("other", number, size=Int64)
    services = [
        FeatureService(name="whole", features=[lists, plain[["country", "count", "share", "flag"]], old]),
        FeatureService(name="part", features=[plain[["share"]], lists[["times"]]]),
        FeatureService(name="renamed", features=[plain.with_name("else")]),
        FeatureService(name="numbered", features=[other]),
        FeatureService(name="joined", features=[plain, other]),
    ]
    store.apply([user, number, lists, plain, old, other, *services])
    return store


def write(store, rows: dict[str, dict]) -> None:
    frame = pd.DataFrame([{"user_id": user, "at": NOW, **row} for user, row in rows.items()])
    for name, columns in {
        "lists": ["words", "times", "numbers"],
        "plain": ["country", "count", "share", "flag"],
        "old_view": ["old"],
    }.items():
        part = frame[["user_id", "at", *columns]].astype(dict.fromkeys(columns, object))
        store.write_to_online_store(name, part.where(part.notna(), None), allow_registry_cache=True)


def reader_of(store) -> Reader:
    return Reader(Path(store.config.registry.path).parent, "shop")


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.dictionaries(st.sampled_from(USERS), st.fixed_dictionaries(VALUES), min_size=1, max_size=6),
    asked=st.lists(st.sampled_from([*USERS, "nobody", ""]), min_size=1, max_size=12),
)
def test_values_are_those_of_feast(feast, rows: dict[str, dict], asked: list[str]) -> None:
    write(feast, rows)
    reader = reader_of(feast)
    for service in ("whole", "part"):
        theirs = feast.get_online_features(
            feast.get_feature_service(service), [{"user_id": user} for user in asked]
        ).to_dict()
        assert reader.read(service, asked) == theirs
        some = {name: theirs[name] for name in ("user_id", "share", "times")}
        assert reader.read(service, asked, ("times", "share", "another")) == some
    assert reader.read("part", asked, ()) == {"user_id": asked}
    reader.close()


def test_more_users_than_one_query_takes(feast) -> None:
    write(
        feast,
        {
            "a": {name: None if name in ("country", "count", "share", "old") else [] for name in VALUES}
            | {"flag": True}
        },
    )
    many = [f"n{number}" for number in range(1200)] + ["a"]
    found = reader_of(feast).read("whole", many)
    assert found["flag"] == [None] * 1200 + [True]


@pytest.mark.parametrize("service", ["renamed", "numbered", "joined"])
def test_what_needs_feast_is_told(feast, service: str) -> None:
    with pytest.raises(NotPlain):
        reader_of(feast).read(service, ["a"])


def test_an_unknown_service_is_named(feast, tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no feature service 'none'; there are: joined, numbered"):
        reader_of(feast).read("none", ["a"])
    with pytest.raises(NotThere, match="nothing is online yet"):
        Reader(tmp_path, "shop").read("whole", ["a"])


def test_a_store_that_is_written_anew_is_seen(feast, tmp_path: Path) -> None:
    """As `features.feast` leaves it after `rm -r`: another file under the same name."""
    folder = Path(feast.config.registry.path).parent
    for name in ("registry.db", "online.db"):
        shutil.copy(folder / name, tmp_path / name)
    reader = Reader(tmp_path, "shop")
    assert reader.read("part", ["z"])["share"] == [None]
    shutil.copy(tmp_path / "online.db", tmp_path / "new.db")
    with sqlite3.connect(tmp_path / "new.db") as other:
        other.execute('DROP TABLE "shop_lists"')
    os.replace(tmp_path / "new.db", tmp_path / "online.db")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        reader.read("part", ["z"])


def test_a_locked_store_is_an_error_within_a_second(feast, tmp_path: Path) -> None:
    folder = Path(feast.config.registry.path).parent
    for name in ("registry.db", "online.db"):
        shutil.copy(folder / name, tmp_path / name)
    reader = Reader(tmp_path, "shop")
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            reader.read("part", ["a"])
        other.execute("ROLLBACK")
    assert reader.read("part", ["z"])["share"] == [None]


def test_reading_does_not_import_feast(feast) -> None:
    """Its import is what a start would wait for."""
    import subprocess
    import sys

    folder = Path(feast.config.registry.path).parent
    code = (
        "import sys; from pathlib import Path; from serving.online import Reader; "
        f"Reader(Path({str(folder)!r}), 'shop').read('whole', ['a']); "
        "assert 'feast' not in sys.modules and 'pandas' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def publish_two(settings: Settings) -> None:
    """The definitions of feature_repo, with two users online, as the features DAG leaves them."""
    from aisle import features
    from feature_repo import publish

    store = features.store(settings)
    publish.apply(store)
    rows = pd.DataFrame(
        {
            "user_id": ["1", "2"],
            "item_ids": [["a", "b"], []],
            "event_types": [["purchase", "return"], []],
            "event_times": [[5, 4], []],
            "quantities": [[1.0, 2.5], []],
            "as_of": NOW,
        }
    )
    store.write_to_online_store("user_history", rows)
    stats = {"n_events": 2, "n_orders": 2, "n_items": 2, "spend": 1.0}
    days = {"days_since_first": 1.0, "days_since_last": 1.0, "mean_price": 1.0}
    store.write_to_online_store(
        "user_stats", pd.DataFrame({"user_id": ["1"], "country": ["France"], **stats, **days, "as_of": NOW})
    )
    features.note_published(features.Published(NOW.isoformat(), {}, ""))


def test_a_read_looks_for_no_spark_and_a_reader_has_one_thread_at_a_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import features

    reading, most = [], []

    class Slow:
        def __init__(self, folder: Path, project: str, patience: float = 1.0):
            self.folder = folder

        def read(self, service: str, users: list[str], wanted: tuple[str, ...]) -> dict[str, list]:
            reading.append(users)
            most.append(len(reading))
            time.sleep(0.1)
            reading.pop()
            return {"user_id": users}

    asked: list[int] = []
    monkeypatch.setattr(features, "Reader", Slow)
    monkeypatch.setattr("aisle.features.running_server", lambda: asked.append(1) or "")
    reads = features.OnlineStore(settings)
    threads = [threading.Thread(target=reads.read, args=("retrieval_v1", ["1"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, asked) == ([1, 1, 1], [])


ONE = UserState("1", "France", ["a", "b"], ["purchase", "return"], [5, 4], [1.0, 2.5])


def test_the_api_reads_the_shop_s_own_features_either_way(settings: Settings) -> None:
    """Histories read straight, and by Feast where a service needs it, are the same."""
    from aisle import features
    from serving.features import OnlineStore

    reads = OnlineStore(settings)
    with pytest.raises(FeatureMismatch, match="nothing is online yet"):
        reads.check("retrieval_v1")
    publish_two(settings)
    reads.check("retrieval_v1")
    straight = reads.read("retrieval_v1", ["2", "1", "nobody", "1"])
    assert straight[1] == ONE
    assert [each.user_id for each in straight] == ["2", "1", "nobody", "1"]
    assert [len(each.item_ids) for each in straight] == [0, 2, 0, 2]
    reads._by_feast.add("retrieval_v1")
    assert reads.read("retrieval_v1", ["2", "1", "nobody", "1"]) == straight
    features.forget(settings, ["1"])
    reads._by_feast.clear()
    assert reads.read("retrieval_v1", ["1"])[0].item_ids == ()
    with pytest.raises(FeatureMismatch, match="no feature service 'retrieval_v9'"):
        reads.check("retrieval_v9")


@needs_redis
def test_an_online_store_in_redis(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same values by the same setting that the features DAG and `aisle erase` go by; gone is an error within its time."""
    from aisle import features
    from serving.features import OnlineStore

    redis = Redis(tmp_path)
    request.addfinalizer(redis.kill)
    monkeypatch.setenv("AISLE_FEATURES__ONLINE", f"redis://127.0.0.1:{redis.port}/2")
    settings_module.load.cache_clear()
    settings = settings_module.load()
    publish_two(settings)
    reads = OnlineStore(settings)
    reads.check("retrieval_v1")
    assert reads.read("retrieval_v1", ["1"])[0] == ONE
    assert reads.read("retrieval_v1", ["nobody"]) == [UserState("nobody")]
    assert not (features.folder() / "online.db").exists()
    features.forget(settings, ["1"])
    assert reads.read("retrieval_v1", ["1"])[0].item_ids == ()
    redis.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)time"):
        reads.read("retrieval_v1", ["1"])
    assert time.monotonic() - started < 40, "the client tries four times, and there are two views"
    redis.process.send_signal(signal.SIGCONT)
    assert reads.read("retrieval_v1", ["2"])[0].item_ids == ()
    settings_module.load.cache_clear()
    features._open.clear()


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://cache", "cache:6379,db=0,ssl=false,socket_timeout=1.0"),
        ("rediss://:p%40ss@cache:7000/3", 'cache:7000,db=3,ssl=true,socket_timeout=1.0,password="p@ss"'),
        (
            "redis://u:p%2Cs%3Ds@cache",
            'cache:6379,db=0,ssl=false,socket_timeout=1.0,username="u",password="p\\u002cs=s"',
        ),
    ],
)
def test_the_setting_is_told_to_feast(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch, url: str, wanted: str
) -> None:
    from aisle import features

    monkeypatch.setenv("AISLE_FEATURES__ONLINE", url)
    settings_module.load.cache_clear()
    assert features.online_store(settings_module.load()) == {"type": "redis", "connection_string": wanted}
    settings_module.load.cache_clear()
