"""Feature views, one per gold table. Names and types come from `aisle.tables`; what a feature means is said here.

No view has a time to live (Feast's 0): a customer who comes back after a year is known by what they did a year ago.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureView, Field
from feast.types import Array, Bool, FeastType, Float64, Int64, String

from aisle.columns import AS_OF
from aisle.tables import TABLES
from feature_repo.entities import OWNER, item, user
from feature_repo.sources import gold

TYPES: dict[str, FeastType] = {
    "string": String,
    "bigint": Int64,
    "double": Float64,
    "boolean": Bool,
    "array<string>": Array(String),
    "array<bigint>": Array(Int64),
    "array<double>": Array(Float64),
}
MEANINGS = {
    "user_history": {
        "item_ids": "Items of the newest events, newest first; cut by kind at features.history_length",
        "event_types": "What each event was: purchase, return, view, …; in step with item_ids",
        "event_times": "When each event was, epoch seconds UTC; in step with item_ids",
        "quantities": "How many, 1 where the event has no quantity; in step with item_ids",
    },
    "user_stats": {
        "country": "Country as known then, or what features.segment names in its place",
        "n_events": "Events of any type",
        "n_orders": "Orders",
        "n_items": "Different items bought",
        "spend": "Paid for purchases less returns, in the shop's currency",
        "days_since_first": "Days since the first event",
        "days_since_last": "Days since the newest event",
        "mean_price": "Mean price per unit over purchase lines; null without one",
    },
    "item_stats": {
        "n_buyers": "Different buyers, guests by their session",
        "n_buyers_30d": "Different buyers in the last features.popularity_days",
        "n_orders": "Purchases, counted once a buyer and day",
        "n_orders_30d": "The same in the last features.popularity_days",
        "n_returns": "Returned lines",
        "price": "Mean paid per unit on the newest day with a purchase",
        "days_since_first": "Days since the item's first event",
    },
    "item_text": {
        "title": "Title as known then",
        "categories": "Category path as known then, outermost first",
        "brand": "Brand as known then",
        "price": "Catalogue price as known then, else what was last paid per unit",
        "deleted": "Taken out of the catalogue",
        "description": "The beginning of the description as known then; null without one",
        "tags": "Tags as known then; null without one",
        "attributes": "Attributes as known then, each as name=value, by name; null without one",
    },
    "co_visits": {
        "neighbours": "Items most bought in the same orders over features.co_visit_days, best first",
        "scores": "Their cosine over orders, 0 to 1; in step with neighbours",
    },
}


def view(name: str, entity: Entity, description: str, **tags: str) -> FeatureView:
    """The view over a gold table, every column but its keys as a described feature."""
    columns = {
        column: kind
        for column, kind in TABLES[f"gold.{name}"].columns.items()
        if column not in (entity.join_key, AS_OF)
    }
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[
            Field(name=entity.join_key, dtype=String, description=entity.description),
            *(
                Field(name=column, dtype=TYPES[kind], description=MEANINGS[name][column])
                for column, kind in columns.items()
            ),
        ],
        source=gold(name),
        ttl=timedelta(0),
        online=True,
        description=description,
        tags={"layer": "gold", **tags},
        owner=OWNER,
    )


def views() -> dict[str, FeatureView]:
    """Every view by name. Built when asked for, because the sources' paths depend on AISLE_HOME."""
    found = [
        view(
            "user_history",
            user,
            "A user's events with items, newest first. A row stands until the user's next one.",
            kind="sequence",
            used_by="retrieval",
        ),
        view("user_stats", user, "Counts and recency of a user.", kind="aggregate", used_by="ranking"),
        view(
            "item_stats",
            item,
            "Counts, popularity and price of an item.",
            kind="aggregate",
            used_by="popularity",
        ),
        view(
            "item_text",
            item,
            "Title, categories, brand, price, description, tags and attributes.",
            kind="attributes",
            used_by="retrieval",
        ),
        view(
            "co_visits", item, "What is bought together with an item.", kind="neighbours", used_by="catalogue"
        ),
    ]
    return {each.name: each for each in found}
