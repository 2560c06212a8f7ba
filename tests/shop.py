"""A small lake from real purchases: silver tables written without Spark, for tests that start where ingest ends.

Read from `data/online_retail.parquet` by the rules of its mapping: invoices that start with C are returns, lines
without a customer belong to a session named by the invoice, and only codes of five digits (and letters) are items.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa

from aisle import lake
from aisle.tables import TABLES

DATA = lake.project_root() / "data" / "online_retail.parquet"
CURRENCY = "GBP"


def purchases(users: int | None = None, since: str | None = None, until: str | None = None) -> pd.DataFrame:
    """Lines of the shop as events (columns of `silver.interactions`), of every n-th customer where `users` is given.

    until: exclusive. Guests (lines without a customer) are kept for every `users`-th share of invoices too.
    """
    lines = pd.read_parquet(DATA)
    lines = lines[
        lines["stock_code"].str.match(r"^\d{5}") & (lines["unit_price"] > 0) & (lines["quantity"] != 0)
    ]
    lines = lines[(lines["quantity"] > 0) != lines["invoice_no"].str.startswith("C")]
    buyer = lines["customer_id"].astype("string")
    lines = lines.assign(buyer=buyer.fillna(lines["invoice_no"]).astype(str), known=buyer.notna())
    if since:
        lines = lines[lines["invoice_ts"] >= since]
    if until:
        lines = lines[lines["invoice_ts"] < until]
    if users:
        chosen = lines["buyer"].drop_duplicates().sort_values()
        lines = lines[lines["buyer"].isin(chosen.iloc[:: max(1, len(chosen) // users)])]
    return events(lines)


def events(lines: pd.DataFrame) -> pd.DataFrame:
    """Shop lines as rows of `silver.interactions`; repeated lines of an invoice are one event."""
    found = pd.DataFrame(
        {
            "event_type": lines["quantity"].gt(0).map({True: "purchase", False: "return"}),
            "event_time": lines["invoice_ts"].dt.tz_localize("UTC"),
            "user_id": lines["buyer"].where(lines["known"], None),
            "session_id": lines["buyer"].where(~lines["known"], None),
            "item_id": lines["stock_code"].str.upper(),
            "order_id": lines["invoice_no"],
            "quantity": lines["quantity"].abs().astype(float),
            "price": lines["unit_price"].round(2),
            "country": lines["country"],
            "title": lines["description"],
        }
    )
    keys = found[["order_id", "item_id", "quantity", "price"]].astype(str).agg("|".join, axis=1)
    found.insert(0, "event_id", [hashlib.sha256(key.encode()).hexdigest()[:20] for key in keys])
    return found.drop_duplicates("event_id").reset_index(drop=True)


def write_silver(rows: pd.DataFrame, batch: str = "one") -> None:
    """Appends `rows` (from `purchases`) to silver, with the items and users that they bring for the first time."""
    write_interactions(rows, batch)
    first = rows.sort_values("event_time").drop_duplicates("item_id")
    titles = rows.dropna(subset="title").groupby("item_id")["title"].agg(lambda found: found.mode().iloc[0])
    items = first.assign(title=first["item_id"].map(titles), updated_at=first["event_time"], price=None)
    items = items.assign(currency=CURRENCY, deleted=False, batch_id=batch)
    for name in ("silver.items", "silver.item_history"):
        _write(name, _unknown(name, "item_id", items))
    users = rows.dropna(subset="user_id").sort_values("event_time").drop_duplicates("user_id")
    users = users.assign(updated_at=users["event_time"], consent=True, batch_id=batch)
    for name in ("silver.users", "silver.user_updates"):
        _write(name, _unknown(name, "user_id", users))


def write_interactions(rows: pd.DataFrame, batch: str = "one") -> None:
    """Appends `rows` as events alone: a shop that never imported its items and users."""
    month = rows["event_time"].dt.strftime("%Y-%m")
    _write("silver.interactions", rows.assign(event_month=month, source="shop", batch_id=batch))


def write_ledger(newest_event: datetime, batch: str = "one") -> None:
    """The ingest ledger's row that `aisle.clock.newest_as_of` reads."""
    now = datetime.now(UTC)
    row = {
        "batch_id": batch,
        "kind": "events",
        "status": "silver",
        "newest_event": newest_event,
        "recorded_at": now,
    }
    lake.append("ops.batches", [row])


def _unknown(name: str, key: str, rows: pd.DataFrame) -> pd.DataFrame:
    if not lake.exists(name):
        return rows
    return rows[~rows[key].isin(lake.read_frame(name, columns=[key])[key])]


def _write(name: str, rows: pd.DataFrame) -> None:
    """Appends with the columns, types, partitions and properties of `aisle.tables`; absent columns are null."""
    from deltalake import write_deltalake

    schema = lake.arrow_schema(name)
    rows = rows.reindex(columns=schema.names)
    columns = []
    for field in schema:
        if pa.types.is_decimal(field.type):
            values = pa.array(rows[field.name], type=pa.float64(), from_pandas=True)
            columns.append(values.cast(field.type))
        else:
            values = rows[field.name].astype(object).where(rows[field.name].notna(), None)
            columns.append(pa.array(values, type=field.type, from_pandas=True))
    write_deltalake(
        lake.table_path(name),
        pa.Table.from_arrays(columns, schema=schema),
        mode="append",
        partition_by=list(TABLES[name].partition) or None,
        configuration=TABLES[name].properties or None,
    )
