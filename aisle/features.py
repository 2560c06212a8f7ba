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
from aisle.errors import FeatureMismatch, NotThere
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


def configuration(settings: Settings) -> dict[str, Any]:
    """`feature_store.yaml` as a dict: registry and online store under AISLE_HOME, Spark where the settings say."""
    remote = settings.spark.remote or running_server()
    spark = (
        {"spark.remote": remote}
        if remote
        else {"spark.master": settings.spark.master, **spark_conf(settings)}
    )
    return {
        "project": PROJECT,
        "project_description": "Aisle: features of users and items as known at points in time.",
        "provider": "local",
        "registry": {"registry_type": "file", "path": str(folder() / "registry.db"), "cache_ttl_seconds": 60},
        "offline_store": {"type": "spark", "spark_conf": spark},
        "online_store": online_store(),
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True},
        "data_quality_monitoring": {"auto_baseline": False},
    }


def online_store() -> dict[str, Any]:
    """Where the newest values are kept for serving: SQLite under AISLE_HOME."""
    return {"type": "sqlite", "path": str(folder() / "online.db")}


def store(settings: Settings) -> FeatureStore:
    """The feature store as configured now. Its Spark session starts when something reads offline."""
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    return FeatureStore(config=RepoConfig(**configuration(settings), repo_path=folder()))


def historical(settings: Settings, entity_frame: pd.DataFrame, service: str) -> pd.DataFrame:
    """`entity_frame` with a service's features as known at each row's event_timestamp (UTC).

    entity_frame: the entities' keys (user_id, item_id) and event_timestamp. Rows come back in no order. Where views
    of the service share feature names, all are prefixed: ``item_stats__price``.
    Raises NotThere where the service was never published.
    """
    import pandas as pd

    from aisle.spark import session

    session(settings)
    found = store(settings)
    wanted = _service(found, service)
    asked = found.get_historical_features(
        entity_frame.copy(), wanted, full_feature_names=_names_repeat(wanted)
    )
    rows = asked.to_df()
    return rows.assign(event_timestamp=pd.to_datetime(rows["event_timestamp"], utc=True))


def online(settings: Settings, service: str, entity_rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The newest values for each of `entity_rows` ({"user_id": …}), in their order; unknown entities have nulls.

    The store stays open between calls: the first costs seconds, the next milliseconds.
    Raises NotThere where the service was never published.
    """
    found = _open_store(settings)
    wanted = _service(found, service)
    return found.get_online_features(wanted, entity_rows, full_feature_names=_names_repeat(wanted)).to_df()


def require(settings: Settings, service: str, columns: tuple[str, ...]) -> None:
    """Raises FeatureMismatch where the catalogue has no such service, or it lacks one of `columns`."""
    try:
        wanted = _service(_open_store(settings), service)
    except NotThere as error:
        raise FeatureMismatch(str(error)) from None
    there = {feature.name for view in wanted.feature_view_projections for feature in view.features}
    missing = sorted(set(columns) - there)
    if missing:
        raise FeatureMismatch(
            f"feature service {service!r} has no {', '.join(missing)}; it has {', '.join(sorted(there))}"
        )


_OPEN: dict[Path, FeatureStore] = {}


def _open_store(settings: Settings) -> FeatureStore:
    """The store of this AISLE_HOME that is kept open."""
    if folder() not in _OPEN:
        _OPEN[folder()] = store(settings)
    return _OPEN[folder()]


def _service(found: FeatureStore, name: str) -> FeatureService:
    from feast.errors import FeatureServiceNotFoundException

    try:
        return found.get_feature_service(name, allow_cache=True)
    except FeatureServiceNotFoundException:
        known = ", ".join(sorted(each.name for each in found.list_feature_services())) or "none"
        raise NotThere(
            f"no feature service {name!r}; there are: {known}. `aisle run features` publishes them"
        ) from None


def _names_repeat(service: FeatureService) -> bool:
    names = [feature.name for view in service.feature_view_projections for feature in view.features]
    return len(names) != len(set(names))
