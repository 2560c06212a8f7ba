"""Reading features: the feature store's configuration, point-in-time training sets, online values, and what gold holds.

`feature_repo` defines and publishes; every other room reads through this file. feast is imported inside the functions,
because the import costs seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import lake
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.spark import running_server, spark_conf

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureService, FeatureStore

PROJECT = "aisle"
GOLD = ("user_stats", "item_stats", "user_history", "item_text", "co_visits")
BUILT_PROPERTY = "aisle.built"


@dataclass(frozen=True)
class Built:
    """What the last finished build of gold covers; kept as a property of gold.user_stats, so it moves with the table.

    as_of: newest point, ISO. points: all points, ISO, oldest first. silver: the Delta versions that were read.
    """

    as_of: str
    points: list[str]
    silver: dict[str, int]


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
        "online_store": {"type": "sqlite", "path": str(folder() / "online.db")},
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True},
        "data_quality_monitoring": {"auto_baseline": False},
    }


def store(settings: Settings) -> FeatureStore:
    """A Feast store on the settings in force. Its Spark session starts when something reads offline."""
    from feast import FeatureStore, RepoConfig

    return FeatureStore(config=RepoConfig(repo_path=folder(), **config(settings)))


def historical(settings: Settings, entity_frame: pd.DataFrame, service: str) -> pd.DataFrame:
    """Point-in-time values: for each row those of the newest as_of that is not after its event_timestamp.

    entity_frame: the entities' id columns and event_timestamp (UTC). Returns them with the service's features, rows in
    no order; lists are Python lists, a row with no snapshot before it has nulls. Raises NotThere where the service was
    never published.
    """
    import pandas as pd

    from aisle.spark import session

    session(settings)  # Feast takes the active session; ours knows Delta
    found = store(settings)
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
