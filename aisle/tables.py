"""Every lake table: its key, its columns (Spark SQL types) and what one row means.

The contract tests hold the written tables against this file, and the jobs take their DDL from it.
Columns of the as-received layers (landing, bronze) are all strings: a value that does not parse must survive
until a row rule has named it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """One Delta table.

    name: ``layer.table``; the path is ``lake/<layer>/<table>``.
    columns: name -> Spark SQL type, in order.
    key: columns that identify one row; empty where the table only appends.
    """

    name: str
    doc: str
    columns: dict[str, str]
    key: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def ddl(self) -> str:
        return ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())


EVENT = {
    "event_id": "string",
    "event_type": "string",
    "event_time": "timestamp",
    "user_id": "string",
    "session_id": "string",
    "item_id": "string",
    "order_id": "string",
    "quantity": "double",
    "price": "decimal(18,2)",
    "value": "double",
    "query": "string",
    "request_id": "string",
    "position": "int",
    "source": "string",
    "properties": "map<string,string>",
}
ITEM = {
    "item_id": "string",
    "title": "string",
    "description": "string",
    "categories": "array<string>",
    "brand": "string",
    "price": "decimal(18,2)",
    "currency": "string",
    "image_url": "string",
    "tags": "array<string>",
    "attributes": "map<string,string>",
    "stock": "int",
    "released_at": "timestamp",
    "updated_at": "timestamp",
    "deleted": "boolean",
}
USER = {
    "user_id": "string",
    "country": "string",
    "language": "string",
    "attributes": "map<string,string>",
    "consent": "boolean",
    "updated_at": "timestamp",
}
CONTRACTS = {"events": EVENT, "items": ITEM, "users": USER}

ORIGIN = {"batch_id": "string", "row_number": "bigint", "set_aside_reason": "string"}

# Statistics of every text column took longer than the writing itself; files are only ever looked for by batch.
BY_BATCH = {"delta.dataSkippingStatsColumns": "batch_id"}


def _received(kind: str) -> dict[str, str]:
    """The contract's columns as received: strings all, lists and maps as JSON text, with their origin."""
    return {**dict.fromkeys(CONTRACTS[kind], "string"), **ORIGIN}


# What both say of a list that was served.
_OF_A_LIST = {
    "served_at": "timestamp",
    "user_id": "string",
    "session_id": "string",
    "model_version": "string",
    "variant": "string",
    "experiments": "map<string,string>",
    "rung": "string",
    "placement": "string",
    "kind": "string",
}

_TABLES = (
    *(
        Table(
            f"bronze.{kind}",
            f"{kind} as received, append-only; one row per row of a landed file",
            {**_received(kind), "ingested_at": "timestamp"},
            properties=BY_BATCH,
        )
        for kind in CONTRACTS
    ),
    *(
        Table(
            f"quarantine.{kind}",
            f"{kind} that broke a row rule, with all their reasons",
            {**_received(kind), "reasons": "array<string>", "ingested_at": "timestamp"},
            properties=BY_BATCH,
        )
        for kind in CONTRACTS
    ),
    Table(
        "silver.interactions",
        "one row per event, typed and deduplicated",
        {**EVENT, "event_month": "string", "batch_id": "string", "ingested_at": "timestamp"},
        key=("event_id",),
        partition=("event_month",),
        properties={
            "delta.enableChangeDataFeed": "true",
            "delta.dataSkippingStatsColumns": "event_time,batch_id",
        },
    ),
    Table(
        "silver.items", "one row per item, as last updated", {**ITEM, "batch_id": "string"}, key=("item_id",)
    ),
    Table(
        "silver.item_history",
        "one row per item and update: price, stock and title as they were",
        {**ITEM, "batch_id": "string"},
        key=("item_id", "updated_at"),
        properties={"delta.enableChangeDataFeed": "true"},
    ),
    Table(
        "silver.users", "one row per user, as last updated", {**USER, "batch_id": "string"}, key=("user_id",)
    ),
    Table(
        "silver.user_updates",
        "one row per user and update, as it was told",
        {**USER, "batch_id": "string"},
        key=("user_id", "updated_at"),
        properties={"delta.enableChangeDataFeed": "true"},
    ),
    Table(
        "silver.session_users",
        "one row per session that was somebody's after it was nobody's; linked_at: the first event that named both",
        {"session_id": "string", "user_id": "string", "linked_at": "timestamp"},
        key=("session_id",),
        properties={"delta.enableChangeDataFeed": "true"},
    ),
    Table(
        "gold.user_stats",
        "counts and recency of a user over events before as_of",
        {
            "user_id": "string",
            "as_of": "timestamp",
            "country": "string",
            "n_events": "bigint",
            "n_orders": "bigint",
            "n_items": "bigint",
            "spend": "double",
            "days_since_first": "double",
            "days_since_last": "double",
            "mean_price": "double",
        },
        key=("user_id", "as_of"),
    ),
    Table(
        "gold.item_stats",
        "counts, popularity and price of an item over events before as_of",
        {
            "item_id": "string",
            "as_of": "timestamp",
            "n_buyers": "bigint",
            "n_buyers_30d": "bigint",
            "n_orders": "bigint",
            "n_orders_30d": "bigint",
            "n_returns": "bigint",
            "price": "double",
            "days_since_first": "double",
        },
        key=("item_id", "as_of"),
    ),
    Table(
        "gold.user_history",
        "a user's events with items before as_of, newest first, cut by kind (engine.cut); stands until the next row",
        {
            "user_id": "string",
            "as_of": "timestamp",
            "item_ids": "array<string>",
            "event_types": "array<string>",
            "event_times": "array<bigint>",
            "quantities": "array<double>",
        },
        key=("user_id", "as_of"),
    ),
    Table(
        "gold.item_text",
        "title, categories, brand, price, description, tags and attributes of an item as known before as_of",
        {
            "item_id": "string",
            "as_of": "timestamp",
            "title": "string",
            "categories": "array<string>",
            "brand": "string",
            "price": "double",
            "deleted": "boolean",
            "description": "string",
            "tags": "array<string>",
            "attributes": "array<string>",
        },
        key=("item_id", "as_of"),
    ),
    Table(
        "gold.co_visits",
        "items bought in the same orders over features.co_visit_days before as_of, best first",
        {
            "item_id": "string",
            "as_of": "timestamp",
            "neighbours": "array<string>",
            "scores": "array<double>",
        },
        key=("item_id", "as_of"),
    ),
    Table(
        "ops.batches",
        "the ingest ledger: one row per landed batch and outcome; the newest row of a batch counts",
        {
            "batch_id": "string",
            "kind": "string",
            "status": "string",
            "rows_in": "bigint",
            "silver": "bigint",
            "duplicates": "bigint",
            "quarantined": "bigint",
            "set_aside": "bigint",
            "reasons": "string",
            "newest_event": "timestamp",
            "as_of": "timestamp",
            "run_id": "string",
            "recorded_at": "timestamp",
        },
    ),
    Table(
        "ops.recommendations",
        "one list that was served; the five arrays run in parallel, by place. Served is not seen",
        {
            "request_id": "string",
            **_OF_A_LIST,
            "item_ids": "array<string>",
            "positions": "array<int>",
            "sources": "array<string>",
            "scores": "array<double>",
            "propensities": "array<double>",
            "batch_id": "string",
        },
        properties={"delta.dataSkippingStatsColumns": "served_at,batch_id"},
    ),
    Table(
        "ops.outcomes",
        "what became of one item of one list; mature from seven days after it was served. Null moments: it did not happen",
        {
            "request_id": "string",
            "item_id": "string",
            **_OF_A_LIST,
            "position": "int",
            "source": "string",
            "score": "double",
            "propensity": "double",
            "seen_at": "timestamp",
            "clicked_at": "timestamp",
            "viewed_at": "timestamp",
            "carted_at": "timestamp",
            "purchased_at": "timestamp",
            "liked_at": "timestamp",
            "disliked_at": "timestamp",
            "hidden_at": "timestamp",
            "value": "double",
            "matched_by": "string",
            "mature": "boolean",
        },
        key=("request_id", "item_id"),
        properties={"delta.dataSkippingStatsColumns": "served_at"},
    ),
    Table(
        "ops.evaluations",
        "one metric of one user for one version in one window; slice and column say over which truth",
        {
            "evaluation_id": "string",
            "version": "string",
            "window": "string",
            "column": "string",
            "slice": "string",
            "user_id": "string",
            "metric": "string",
            "value": "double",
        },
    ),
    Table(
        "ops.decisions",
        "one row per gate decision, promotion or rollback; each names the digest of the record before",
        {
            "decision_id": "string",
            "kind": "string",
            "verdict": "string",
            "challenger": "string",
            "champion": "string",
            "as_of": "timestamp",
            "decided_by": "string",
            "decided_at": "timestamp",
            "record": "string",
            "digest": "string",
            "previous_digest": "string",
        },
        key=("decision_id",),
    ),
    Table(
        "ops.drift",
        "one drift figure of one column against the champion's training reference",
        {
            "report_id": "string",
            "as_of": "timestamp",
            "champion": "string",
            "column": "string",
            "test": "string",
            "value": "double",
            "threshold": "double",
            "drifted": "boolean",
            "n_current": "bigint",
            "n_reference": "bigint",
        },
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
