"""Online Retail as the frames that the engine reads, straight from the shipped file: no lake, no Spark.

Filters, a little stricter than those of conf/mappings/online_retail_events.toml (data/README.md): lines with a customer, a price and a code that starts with five digits;
invoices that start with C are returns. The pipeline's own frames come from Feast; these serve the benches.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from engine.windows import Window

END = datetime(2011, 12, 10, tzinfo=UTC)  # the midnight after the last invoice


def load_lines(path: Path) -> pd.DataFrame:
    """user_id, item_id, time (UTC), kind (purchase, return), quantity, price, country, title, order_id."""
    raw = pd.read_parquet(path)
    code = raw["stock_code"].str.upper()
    cancelled = raw["invoice_no"].str.startswith("C")
    keep = (
        raw["customer_id"].notna()
        & code.str.match(r"\d{5}")
        & (raw["unit_price"] > 0)
        & (cancelled | (raw["quantity"] > 0))
    )
    lines = pd.DataFrame(
        {
            "user_id": raw["customer_id"].astype("string"),
            "item_id": code,
            "time": raw["invoice_ts"].dt.tz_localize("UTC"),
            "kind": np.where(cancelled, "return", "purchase"),
            "quantity": raw["quantity"].abs().astype(float),
            "price": raw["unit_price"],
            "country": raw["country"],
            "title": raw["description"].str.strip(),
            "order_id": raw["invoice_no"],
        }
    )
    return lines[keep].astype({"user_id": str}).sort_values("time", kind="stable").reset_index(drop=True)


def window(lines: pd.DataFrame, at: datetime, days: int, length: int = 500) -> Window:
    """The frames of one point in time; histories hold the newest `length` events."""
    before = lines[lines["time"] < at]
    after = lines[(lines["time"] >= at) & (lines["time"] < at + timedelta(days=days))]
    bought = after[after["kind"] == "purchase"]
    return Window(
        at,
        items_of(before, at),
        histories_of(before, length),
        bought[["user_id", "item_id"]].drop_duplicates(),
    )


def items_of(before: pd.DataFrame, at: datetime, days: int = 30) -> pd.DataFrame:
    """Titles (a code's usual description), newest prices and buyers, as of `at`."""
    bought = before[before["kind"] == "purchase"]
    recent = bought[bought["time"] >= at - timedelta(days=days)].groupby("item_id")
    groups = bought.groupby("item_id")
    items = pd.DataFrame(
        {
            "title": groups["title"].agg(lambda titles: titles.value_counts().index[0]),
            "price": groups["price"].last(),
            "n_buyers": groups["user_id"].nunique(),
            "n_buyers_30d": recent["user_id"].nunique(),
            "n_orders_30d": recent["order_id"].nunique(),
            "days_since_first": (at - groups["time"].min()).dt.total_seconds() / 86_400,
        }
    ).fillna({"n_buyers_30d": 0, "n_orders_30d": 0})
    items["categories"] = [[] for _ in range(len(items))]
    return items.assign(brand=None, deleted=False).rename_axis("item_id").reset_index()


def histories_of(before: pd.DataFrame, length: int) -> pd.DataFrame:
    """One row per user: parallel lists, newest first."""
    newest = before.iloc[::-1].groupby("user_id", sort=True).head(length)
    newest = newest.assign(epoch=newest["time"].astype("int64") // 10**6)  # the column counts microseconds
    groups = newest.groupby("user_id", sort=True)
    return pd.DataFrame(
        {
            "country": groups["country"].first(),
            "item_ids": groups["item_id"].agg(list),
            "event_types": groups["kind"].agg(list),
            "event_times": groups["epoch"].agg(list),
            "quantities": groups["quantity"].agg(list),
        }
    ).reset_index()
