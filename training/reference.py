"""The drift reference: what users, items and interactions looked like when the model learnt, saved with its run.

Read again by `monitor.drift`, which sets today's rows beside it: a table that has been vacuumed since is not missed.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd

from aisle import lake
from aisle.errors import NotThere
from training.dataset import Dataset

DAYS = 28  # of interactions before the cut
USERS = ["n_events", "n_orders", "n_items", "spend", "days_since_last", "mean_price", "country"]
ITEMS = ["n_buyers_30d", "price"]
EVENTS = ["event_type", "price", "quantity", "hour", "weekday", "country", "category"]


def write(folder: Path, dataset: Dataset) -> None:
    """users.parquet and items.parquet of gold at A, interactions.parquet of the days before A, at the dataset's versions."""
    folder.mkdir(parents=True)
    for name, table, columns in (("users", "gold.user_stats", USERS), ("items", "gold.item_stats", ITEMS)):
        found = _gold(table, columns, dataset)
        if name == "users":  # who only has attributes did nothing that could drift
            found = found[found["n_events"] > 0]
        found.to_parquet(folder / f"{name}.parquet", index=False)
    interactions(dataset).to_parquet(folder / "interactions.parquet", index=False)


def _gold(table: str, columns: list[str], dataset: Dataset) -> pd.DataFrame:
    found = lake.read_frame(
        table, columns=columns, filters=[("as_of", "==", dataset.cuts.A)], at_version=dataset.versions[table]
    )
    if found.empty:
        raise NotThere(
            f"{table} holds nothing at {dataset.cuts.A:%Y-%m-%d}: `aisle run features --as-of {dataset.cuts.A:%Y-%m-%d}`"
        )
    return found


def _said(table: str, key: str, column: str) -> pd.Series:
    """By key; nothing in a shop that never imported such a table."""
    if not lake.exists(table):
        return pd.Series(index=pd.Index([], dtype=object, name=key), name=column, dtype=object)
    return lake.read_frame(table, columns=[key, column]).set_index(key)[column]


def interactions(dataset: Dataset) -> pd.DataFrame:
    """Columns EVENTS, one row per event of the last DAYS days; hour 0 to 23 and weekday 0 (Monday) to 6, UTC."""
    since, until = dataset.cuts.A - timedelta(days=DAYS), dataset.cuts.A
    events = lake.read_frame(
        "silver.interactions",
        columns=["event_type", "event_time", "user_id", "item_id", "price", "quantity"],
        filters=[("event_time", ">=", since), ("event_time", "<", until)],
        at_version=dataset.versions["silver.interactions"],
    )
    users = _said("silver.users", "user_id", "country")
    items = _said("silver.items", "item_id", "categories")
    moment = events["event_time"].dt.tz_convert("UTC")
    return events.assign(
        hour=moment.dt.hour,
        weekday=moment.dt.weekday,
        price=events["price"].astype(float),
        country=events["user_id"].map(users),
        category=events["item_id"].map(items.str[0]),
    )[EVENTS]
