"""features.feast: publishes the definitions where they changed, and brings the newest as_of of gold online.

Materialised is exactly the newest point, by its own interval: Feast's incremental way misses late rows (feast#4133). A
backfill never moves online values back: whatever it built, only the newest point of gold is read here. Then users get a compact
row each (feature_repo.compact), those before being dropped. What was published is noted last, so a run that is killed is repeated by the next one.
"""

from __future__ import annotations

import os
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import clock, features, lake
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.stages import StepContext

if TYPE_CHECKING:
    from feast import FeatureStore

DEFINED_IN = ("entities", "sources", "views", "services", "compact")


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns as_of, the rows brought online per view, and `emit`: false where gold only filled in the past.

    Raises NotThere before features.gold. Where nothing changed since the last time, Feast is not even imported.
    """
    built, before = features.built(), features.published()
    if built is None:
        raise NotThere("gold is empty: run `aisle run features.gold` first")
    gold = (context.params.get("upstream") or {}).get("features.gold", {})
    now = features.Published(built.as_of, features.gold_versions(), digest(settings.features.online))
    rows: dict[str, int] = {}
    write_config(settings)
    if now != before:
        rows = bring_online(settings, now, applied=before.definitions == now.definitions)
        features.note_published(now)
    return {"as_of": built.as_of, "materialised": rows, "emit": gold.get("emit", True)}


def bring_online(settings: Settings, now: features.Published, applied: bool) -> dict[str, int]:
    """Applies the definitions unless they stand, and materialises the newest point. Rows per view."""
    store = features.offline(settings)
    point = clock.parse(now.as_of)
    drop_compact(settings)  # before Feast opens the store: it would go by the triggers that it found then
    if not applied:
        apply(store)
    store.materialize(point - timedelta(seconds=1), point, feature_views=list(features.GOLD))
    write_compact(settings, store)
    filters = [("as_of", "=", point)]
    return {
        name: lake.read(f"gold.{name}", columns=["as_of"], filters=filters).num_rows for name in features.GOLD
    }


def drop_compact(settings: Settings) -> None:
    """Before Feast writes all users: a compact row deleted by each of them would keep the store locked for longer than readers wait."""
    from feature_repo import compact

    if not settings.features.online:
        compact.drop(Path(features.online_store(settings)["path"]))


def write_compact(settings: Settings, store: FeatureStore) -> dict[str, int]:
    """Rows written by service, of users without one; none where the online store is no file."""
    from feature_repo import compact

    if settings.features.online:
        return {}
    return compact.fill(store, Path(features.online_store(settings)["path"]))


def apply(store: FeatureStore) -> None:
    """Registers every entity, source, view and service."""
    from feature_repo.entities import item, user
    from feature_repo.services import services
    from feature_repo.views import views

    found = views()
    store.apply(
        [user, item, *(view.batch_source for view in found.values()), *found.values(), *services(found)]
    )


def digest(online: str = "") -> str:
    """Of the definitions, the tables, where they lie and where they are brought: applying costs seconds and is left out when
    nothing changed. online: the setting."""
    here = Path(__file__).parent
    told = [(here / f"{name}.py").read_bytes() for name in DEFINED_IN]
    told.append(
        Path(features.__file__).with_name("compact.py").read_bytes()
    )  # the format of what is written beside
    told += [
        f"{lake.table_path(f'gold.{name}')} {lake.TABLES[f'gold.{name}'].ddl}".encode()
        for name in features.GOLD
    ]
    told += [online.encode()] if online else []
    return sha256(b"\n".join(told)).hexdigest()


def write_config(settings: Settings) -> None:
    """`feature_store.yaml` for `feast ui` and for a data scientist's own ``FeatureStore(repo_path=…)``."""
    import yaml

    target = features.folder() / "feature_store.yaml"
    staged = target.with_suffix(".new")
    staged.write_text(yaml.safe_dump(features.config(settings), sort_keys=False))
    os.replace(staged, target)
