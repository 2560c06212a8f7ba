"""features.feast: the catalogue is applied when it changed, and the newest as_of goes online.

Materialised is exactly the newest point, by its own interval: Feast's incremental way misses late rows (feast#4133). A
past as_of never moves online values back: whatever a by-hand run built, only the newest point of gold is read here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from aisle import clock, features, lake
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.stages import StepContext


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns as_of, the rows brought online per view, and `emit`: false where a past as_of was built by hand."""
    built, before = features.built(), features.published()
    if built is None:
        raise NotThere("gold is empty: run features.gold first")
    gold = (context.params.get("upstream") or {}).get("features.gold", {})
    now = features.Published(built.as_of, features.gold_versions(), digest())
    rows: dict[str, int] = {}
    if now != before:
        write_config(settings)
        rows = bring_online(settings, now, applied=before.definitions == now.definitions)
        features.note_published(now)
    return {"as_of": built.as_of, "materialised": rows, "emit": gold.get("emit", True)}


def bring_online(settings: Settings, now: features.Published, applied: bool) -> dict[str, int]:
    """Applies the catalogue unless it stands, and materialises the newest point. Rows per view."""
    from aisle.spark import session
    from feature_repo.definitions import CATALOGUE, VIEWS

    session(settings)
    store = features.store(settings)
    if not applied:
        store.apply(CATALOGUE)
    point = clock.parse(now.as_of)
    names = [view.name for view in VIEWS]
    store.materialize(point - timedelta(seconds=1), point, feature_views=names)
    return {
        name: lake.read(f"gold.{name}", columns=["as_of"], filters=[("as_of", "=", point)]).num_rows
        for name in names
    }


def digest() -> str:
    """Of the definitions and of where they point: applying costs seconds and is left out when nothing changed."""
    text = (Path(__file__).parent / "definitions.py").read_bytes() + lake.table_path(
        "gold.user_stats"
    ).encode()
    return sha256(text).hexdigest()


def write_config(settings: Settings) -> None:
    """`feature_store.yaml` for `feast ui` and for a data scientist's own FeatureStore(repo_path=…)."""
    import yaml

    target = features.folder() / "feature_store.yaml"
    staged = target.with_suffix(".new")
    staged.write_text(yaml.safe_dump(features.config(settings), sort_keys=False))
    os.replace(staged, target)
