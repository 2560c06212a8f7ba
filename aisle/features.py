"""Reading features: the feature store's configuration, point-in-time training sets, online values, and what gold holds.

`feature_repo` defines and publishes; every other room reads through this file. feast is imported inside the functions,
because the import costs seconds.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from aisle import lake
from aisle.errors import NotThere, TooLittleData
from aisle.settings import Settings
from aisle.spark import running_server, spark_conf

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from feast import FeatureService, FeatureStore

PROJECT = "aisle"
GOLD = ("user_stats", "item_stats", "user_history", "item_text", "co_visits")
BUILT_PROPERTY = "aisle.built"
ONLINE_SECONDS = 1.0  # of one try to read or write an online store in Redis
# Feast says at every read that its Spark store is experimental; pyarrow, that a frame's Spark metrics are no JSON.
HARMLESS = (
    "The spark (offline store|data source API) is an experimental",
    "Could not serialize pd.DataFrame.attrs",
)


@dataclass(frozen=True)
class Built:
    """What the last finished build of gold covers; kept as a property of gold.user_stats, so it moves with the table.

    as_of: newest point, ISO. points: all points, ISO, oldest first. silver: the Delta versions that were read. goal: by what was
    counted what is popular (aisle.goal). rated: the bounds of low and good ratings (aisle.ratings), none before they counted by value.
    """

    as_of: str
    points: list[str]
    silver: dict[str, int]
    goal: list[str] = field(default_factory=lambda: ["purchase"])
    rated: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Published:
    """What is online: the newest as_of, the versions of the gold tables it was read from, the definitions' digest."""

    as_of: str = ""
    gold: dict[str, int] = field(default_factory=dict)
    definitions: str = ""


def built() -> Built | None:
    """The last finished build of gold; None before the first."""
    from deltalake import DeltaTable

    if not lake.exists("gold.user_stats"):
        return None
    text = DeltaTable(lake.table_path("gold.user_stats")).metadata().configuration.get(BUILT_PROPERTY)
    return Built(**json.loads(text)) if text else None


def note_built(found: Built) -> None:
    """Writes down a finished build, in one Delta commit."""
    from deltalake import DeltaTable

    table = DeltaTable(lake.table_path("gold.user_stats"))
    table.alter.set_table_properties({BUILT_PROPERTY: json.dumps(asdict(found))}, raise_if_not_exists=False)


def gold_versions() -> dict[str, int]:
    """Delta versions of the gold tables."""
    return {name: lake.version(f"gold.{name}") for name in GOLD}


def histories(at: datetime, user: str | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Users' histories as known at `at`, a built point: what a join finds there, without Spark and Feast.

    gold.user_history is sparse, a user's row stands until their next one: each user's newest row up to `at` is taken.
    Returns user_id, `columns` (all of the table's by default) and country, as known at `at`; of `user` alone where one is
    named. Who has no history has no row, but for the one who is named and known. Raises NotThere where no features stand
    at `at`, TooLittleData where fewer than half of the buyers in gold.user_stats have a history.
    """
    own: list[tuple[str, str, object]] = [("user_id", "=", user)] if user is not None else []
    names = ["user_id", "country", "n_items"]
    known = lake.read_frame("gold.user_stats", columns=names, filters=[*own, ("as_of", "=", at)])
    if known.empty and user is None:
        raise NotThere(f"gold has no features as of {at:%Y-%m-%d}: `aisle run features`, then ask again")
    wanted = None if columns is None else ["user_id", "as_of", *columns]
    rows = lake.read("gold.user_history", columns=wanted, filters=[*own, ("as_of", "<=", at)])
    order = rows.select(["user_id", "as_of"]).to_pandas().sort_values("as_of", kind="stable")
    newest = rows.take(order.drop_duplicates("user_id", keep="last").index.to_numpy())
    buyers = int(known["n_items"].gt(0).sum())
    if user is None and 2 * len(newest) < buyers:
        raise TooLittleData(
            f"gold.user_history knows {len(newest)} users as of {at:%Y-%m-%d}, gold.user_stats {buyers} buyers: "
            "`aisle run features --params '{\"rebuild\": true}'` builds both anew"
        )
    found = newest.drop_columns(["as_of"]).to_pandas().sort_values("user_id", ignore_index=True)
    how = "left" if user is None else "outer"
    return found.merge(known[["user_id", "country"]], on="user_id", how=how)


def folder() -> Path:
    """Where the registry, the online store and `feature_store.yaml` lie."""
    found = lake.home() / "feast"
    found.mkdir(parents=True, exist_ok=True)
    return found


def published() -> Published:
    """What was last materialised online; empty before the first time."""
    note = folder() / "published.json"
    return Published(**json.loads(note.read_text())) if note.exists() else Published()


def note_published(found: Published) -> None:
    staged = folder() / "published.json.new"
    staged.write_text(json.dumps(asdict(found)))
    os.replace(staged, folder() / "published.json")


def config(settings: Settings) -> dict[str, Any]:
    """`feature_store.yaml` as a dict: offline is Spark over Delta; registry and online store lie in `folder()`."""
    remote = settings.spark.remote or running_server()
    spark = (
        {"spark.remote": remote}
        if remote
        else {"spark.master": settings.spark.master, **spark_conf(settings)}
    )
    return {
        "project": PROJECT,
        "project_description": "Features of users and items, as known at points in time.",
        "provider": "local",
        "registry": {"registry_type": "file", "path": str(folder() / "registry.db"), "cache_ttl_seconds": 60},
        "offline_store": {"type": "spark", "spark_conf": spark},
        "online_store": online_store(settings),
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True},
        "data_quality_monitoring": {"auto_baseline": False},
    }


def online_store(settings: Settings) -> dict[str, Any]:
    """Feast's configuration of it. A Redis that hangs is an error after some tries of ONLINE_SECONDS; no answer waits for it."""
    if not settings.features.online:
        return {"type": "sqlite", "path": str(folder() / "online.db")}
    url = urlsplit(settings.features.online)
    parts = [f"{url.hostname}:{url.port or 6379}", f"db={url.path.strip('/') or 0}"]
    parts += [f"ssl={json.dumps(url.scheme == 'rediss')}", f"socket_timeout={ONLINE_SECONDS}"]
    login = ((name, json.dumps(unquote(text))) for name, text in _login(url) if text)
    parts += [f"{name}={text.replace(',', '\\u002c')}" for name, text in login]  # Feast parts them at commas
    return {"type": "redis", "connection_string": ",".join(parts)}


def _login(url: SplitResult) -> tuple[tuple[str, str | None], ...]:
    return ("username", url.username), ("password", url.password)


def store(settings: Settings) -> FeatureStore:
    """A Feast store on the settings in force. Its Spark session starts when something reads offline."""
    from feast import FeatureStore, RepoConfig

    for said in HARMLESS:
        warnings.filterwarnings("ignore", said)
    return FeatureStore(config=RepoConfig(repo_path=folder(), **config(settings)))


def offline(settings: Settings) -> FeatureStore:
    """`store`, over our own Spark session: Feast takes the active one, and ours knows Delta."""
    import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401 - calls every warning back at import

    from aisle.spark import session

    session(settings)
    return store(settings)


def historical(settings: Settings, entity_frame: pd.DataFrame, service: str) -> pd.DataFrame:
    """Point-in-time values: for each row those of the newest as_of that is not after its event_timestamp.

    entity_frame: the entities' id columns and event_timestamp (UTC). Returns them with the service's features, rows in
    no order; lists are Python lists, a row with no snapshot before it has nulls. Raises NotThere where the service was
    never published.
    """
    import pandas as pd

    found = offline(settings)
    rows = found.get_historical_features(entity_frame.copy(), _service(found, service)).to_df()
    for column in rows.select_dtypes("object").columns:
        rows[column] = [value.tolist() if hasattr(value, "tolist") else value for value in rows[column]]
    return rows.assign(event_timestamp=pd.to_datetime(rows["event_timestamp"], utc=True))


def online(settings: Settings, service: str, entity_rows: list[dict[str, str]]) -> dict[str, list[Any]]:
    """Newest values by column, in the order of `entity_rows`; None where an entity is unknown.

    The store is kept open: the first call costs seconds (Feast's import), the next ones milliseconds.
    Raises NotThere where the service was never published.
    """
    if folder() not in _open:
        _open[folder()] = store(settings)
    found = _open[folder()]
    return found.get_online_features(_service(found, service), entity_rows).to_dict()


def forget(settings: Settings, users: Sequence[str]) -> None:
    """Nothing is online of these users any more: their rows are written over with empty ones. Harmless where nothing is online."""
    if not users or not published().as_of:
        return
    import pandas as pd
    from feast.value_type import ValueType

    found = store(settings)
    lists = {ValueType.STRING_LIST, ValueType.INT64_LIST, ValueType.DOUBLE_LIST}
    nothing: dict[Any, Any] = {kind: [] for kind in lists}
    nothing[ValueType.INT64] = 0  # counts; a row of nulls alone Feast does not write
    now = pd.Timestamp.now(tz="UTC")
    for view in found.list_feature_views():
        if "user_id" not in view.join_keys:
            continue
        empty: dict[str, list[Any]] = {
            each.name: [nothing.get(each.dtype.to_value_type()) for _ in users] for each in view.features
        }
        rows = pd.DataFrame({"user_id": list(users), **empty, "as_of": now})
        found.write_to_online_store(view.name, rows)


_open: dict[Path, FeatureStore] = {}


def _service(found: FeatureStore, name: str) -> FeatureService:
    from feast.errors import FeatureServiceNotFoundException

    try:
        return found.get_feature_service(name, allow_cache=True)
    except FeatureServiceNotFoundException:
        known = ", ".join(sorted(each.name for each in found.list_feature_services())) or "none"
        raise NotThere(
            f"no feature service {name!r}; there are: {known}. `aisle run features` publishes them"
        ) from None
