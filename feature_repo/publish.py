"""features.feast: publishes the definitions, and the newest as_of of gold to the online store.

Only the newest point is materialised, by its own interval: an incremental materialisation misses late rows, and a
backfill must not move online values back. What was published is noted last; a run that is killed is repeated.
"""

from __future__ import annotations

import hashlib
import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from aisle import clock, features, lake
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.stages import StepContext

if TYPE_CHECKING:
    from feast import FeatureStore


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns {"as_of", "materialised": {view: rows}, "emit", "applied"}. Raises NotThere before features.gold."""
    built = features.built()
    if built is None:
        raise NotThere("no gold yet: `aisle run features.gold` comes first")
    gold = context.params.get("upstream", {}).get("features.gold", {})
    newest = clock.parse(built.as_of)
    asked = clock.parse(gold["as_of"]) if gold else context.as_of or newest
    before, versions = features.published(), features.gold_versions()
    store = features.store(settings)
    definitions, applied = _apply(settings, store, before.definitions)
    result = {"as_of": built.as_of, "applied": applied, "materialised": {}}
    if not gold.get("emit", True) or asked < newest:
        features.note_published(features.Published(before.as_of, before.gold, definitions))
        return {**result, "emit": False}
    if before.gold != versions or before.as_of != built.as_of:
        result["materialised"] = materialise(settings, store, newest)
    features.note_published(features.Published(built.as_of, versions, definitions))
    return {**result, "emit": True}


def _apply(settings: Settings, store: FeatureStore, before: str) -> tuple[str, bool]:
    """Applies the definitions where they changed, because that costs seconds. Returns their digest and whether it did."""
    from feature_repo.entities import item, user
    from feature_repo.services import services
    from feature_repo.views import views

    _write_yaml(settings)
    found = views()
    objects = [user, item, *(view.batch_source for view in found.values()), *found.values(), *services(found)]
    told = "\n".join(str(each) for each in objects)
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    if digest == before:
        return digest, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        store.apply(objects)
    return digest, True


def materialise(settings: Settings, store: FeatureStore, as_of: datetime) -> dict[str, int]:
    """Writes the rows of `as_of` to the online store; returns how many by view."""
    from aisle.spark import session

    session(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        store.materialize(as_of - timedelta(seconds=1), as_of)
    filters = [("as_of", "=", as_of)]
    return {name: lake.read(f"gold.{name}", columns=["as_of"], filters=filters).num_rows for name in features.GOLD}


def _write_yaml(settings: Settings) -> None:
    """`feature_store.yaml`, for `feast ui` and for a data scientist's ``FeatureStore(repo_path=…)``."""
    import yaml

    path = features.folder() / "feature_store.yaml"
    path.write_text(yaml.safe_dump(features.configuration(settings), sort_keys=False))
