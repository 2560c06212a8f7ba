"""Who and what to ask a bundle about: known users and countries from gold, items that are gone from silver.

No Spark.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from aisle import clock, features, lake
from aisle.settings import Settings
from serving import release

USERS = 20


def users(count: int = USERS) -> list[str]:
    """Ids of users with a history at the newest as_of, evenly spread over the sorted ids."""
    built = features.built()
    if built is None:
        return []
    known = features.histories(clock.parse(built.as_of), columns=[])["user_id"].tolist()
    step = max(len(known) / count, 1)
    return [known[int(place * step)] for place in range(min(count, len(known)))]


def countries() -> list[str]:
    if not lake.exists("silver.users"):
        return []
    return sorted(
        pc.unique(lake.read("silver.users", columns=["country"])["country"]).drop_null().to_pylist()
    )


def deleted_items() -> list[str]:
    if not lake.exists("silver.items"):
        return []
    rows = lake.read("silver.items", columns=["item_id"], filters=[("deleted", "=", True)])
    return rows["item_id"].to_pylist()


def plan(settings: Settings, bundle: Path) -> dict:
    """What the smoke check asks of `bundle`."""
    return {
        "digest": release.digest(bundle),
        "k": settings.serving.k,
        "users": users(),
        "countries": countries(),
        "deleted": deleted_items(),
    }
