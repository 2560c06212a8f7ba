"""The feature catalogue: entities, sources, views and services, as `feast ui` shows them.

Every view stands on one gold table (`aisle/tables.py`), keyed by its entity and `as_of`. A service is what a model is trained on and
serving fills; it is versioned by its name, and a model names the one it needs.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.table_format import DeltaFormat
from feast.types import Array, Bool, Float64, Int64, String

from aisle.lake import table_path
from aisle.tables import TABLES

OWNER = "ml-engineering"
TYPES = {
    "string": String,
    "double": Float64,
    "bigint": Int64,
    "boolean": Bool,
    "array<string>": Array(String),
    "array<double>": Array(Float64),
    "array<bigint>": Array(Int64),
}
MEANINGS = {
    "country": "Country of the user, as last known before as_of",
    "n_events": "Events of the user before as_of",
    "n_orders": "Distinct orders before as_of",
    "n_orders_30d": "Distinct orders in the popularity window before as_of",
    "n_items": "Distinct items bought before as_of",
    "spend": "Sum of price times quantity of purchases before as_of, in the shop's currency",
    "days_since_first": "Days from the first event to as_of",
    "days_since_last": "Days from the last event to as_of",
    "mean_price": "Mean price per unit of what the user bought",
    "n_buyers": "Distinct users who bought the item before as_of",
    "n_buyers_30d": "Distinct users who bought the item in the popularity window before as_of",
    "n_returns": "Returned lines of the item before as_of",
    "price": "Usual price per unit before as_of; tomorrow's price is never seen",
    "item_ids": "Items of the newest events, newest first",
    "event_types": "Types of the newest events, newest first",
    "event_times": "Times of the newest events, seconds since 1970 UTC, newest first",
    "quantities": "Quantities of the newest events, newest first",
    "title": "Title as known before as_of",
    "categories": "Path of categories as known before as_of",
    "brand": "Brand as known before as_of",
    "deleted": "Whether the item was taken out before as_of",
    "neighbours": "Items bought in the same orders, best first",
    "scores": "Cosine of the neighbours, best first",
}

user = Entity(
    name="user",
    join_keys=["user_id"],
    value_type=ValueType.STRING,
    description="A shopper, by the shop's own id",
    tags={"pii": "id"},
)
item = Entity(
    name="item",
    join_keys=["item_id"],
    value_type=ValueType.STRING,
    description="A product, by the shop's own id",
)


def view(name: str, entity: Entity, kind: str) -> FeatureView:
    """The view of one gold table. No time to live: whoever was away for a year still has a past."""
    table = TABLES[f"gold.{name}"]
    source = SparkSource(
        name=f"gold_{name}",
        path=table_path(table.name),
        table_format=DeltaFormat(),
        timestamp_field="as_of",
        description=table.doc,
        owner=OWNER,
    )
    columns = {column: of for column, of in table.columns.items() if column not in table.key}
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        schema=[
            Field(name=column, dtype=TYPES[of], description=MEANINGS[column])
            for column, of in columns.items()
        ],
        source=source,
        online=True,
        description=table.doc,
        owner=OWNER,
        tags={"layer": "gold", "kind": kind},
    )


user_stats = view("user_stats", user, "statistics")
user_history = view("user_history", user, "sequence")
item_stats = view("item_stats", item, "statistics")
item_text = view("item_text", item, "text")
co_visits = view("co_visits", item, "pairs")

ITEM_COUNTS = ["n_buyers", "n_buyers_30d", "n_orders", "n_orders_30d", "n_returns", "days_since_first"]
retrieval_v1 = FeatureService(
    name="retrieval_v1",
    features=[user_history, user_stats],
    description="What the candidate sources read of a user: the newest events, country and activity",
    owner=OWNER,
    tags={"stage": "retrieval"},
)
item_v1 = FeatureService(
    name="item_v1",
    features=[item_text, item_stats[ITEM_COUNTS]],
    description="What the candidate sources read of an item: text, price, popularity",
    owner=OWNER,
    tags={"stage": "retrieval"},
)
ranking_v1 = FeatureService(
    name="ranking_v1",
    features=[
        user_stats[["n_events", "n_orders", "n_items", "spend", "days_since_last", "mean_price"]],
        item_text[["categories", "brand", "price"]],
        item_stats[["n_buyers", "n_buyers_30d", "n_returns"]],
    ],
    description="What a ranker reads of a user and an item",
    owner=OWNER,
    tags={"stage": "ranking"},
)

VIEWS = [user_stats, user_history, item_stats, item_text, co_visits]
CATALOGUE = [user, item, *VIEWS, retrieval_v1, item_v1, ranking_v1]
