"""A dataset folder as `train.dataset` writes it, from the shipped invoices and pandas alone: no lake, no Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.lake import project_root
from tests.shop import _write

DAY = 86_400


def purchases(until: str = "2011-12-10", users: int | None = None) -> pd.DataFrame:
    """Purchases and returns of known customers: user_id, item_id, seconds, day, event_type, quantity, price, title, country."""
    raw = pd.read_parquet(project_root() / "data" / "online_retail.parquet")
    raw = raw[raw.customer_id.notna() & (raw.unit_price > 0) & raw.stock_code.str.match(r"^\d{5}")]
    raw = raw[raw.invoice_ts < until].drop_duplicates()
    frame = pd.DataFrame(
        {
            "user_id": raw.customer_id.astype(int).astype(str),
            "item_id": raw.stock_code,
            "seconds": raw.invoice_ts.astype("int64") // 10**6,
            "event_type": np.where(raw.quantity > 0, "purchase", "return"),
            "quantity": raw.quantity.abs().astype(float),
            "price": raw.unit_price,
            "title": raw.description.fillna(""),
            "country": raw.country,
        }
    )
    if users:
        frame = frame[frame.user_id.isin(sorted(frame.user_id.unique())[:users])]
    frame["day"] = frame.seconds // DAY * DAY
    return frame.sort_values(["user_id", "seconds"], kind="stable").reset_index(drop=True)


def _histories(events: pd.DataFrame, wanted: pd.DataFrame, length: int = 500) -> pd.DataFrame:
    """retrieval_v1 of each (user_id, seconds) of `wanted`: newest first, empty arrays as nulls, as Feast answers."""
    order = {user: place.to_numpy() for user, place in events.groupby("user_id").groups.items()}
    columns = {name: events[name].to_numpy() for name in ("seconds", "item_id", "event_type", "quantity")}
    rows = []
    for user, moment in zip(wanted.user_id, wanted.seconds, strict=True):
        places = order.get(user, np.zeros(0, dtype=int))
        places = places[: np.searchsorted(columns["seconds"][places], moment)][::-1][:length]
        known = len(places) > 0
        rows.append(
            [
                columns[name][places] if known else None
                for name in ("item_id", "event_type", "seconds", "quantity")
            ]
        )
    found = pd.DataFrame(
        rows, columns=["item_ids", "event_types", "event_times", "quantities"], index=wanted.index
    )
    countries = events.groupby("user_id").country.first()
    return pd.concat(
        [wanted[["user_id"]], wanted.user_id.map(countries).rename("country"), found], axis=1
    ).assign(n_orders=[0.0 if times is None else float(len(set(times))) for times in found.event_times])


def _items(events: pd.DataFrame, cut: int) -> pd.DataFrame:
    """Items with an event before `cut`: text, price and popularity as known then."""
    past = events[events.seconds < cut]
    recent = past[(past.seconds >= cut - 30 * DAY) & (past.event_type == "purchase")]
    grouped = past.groupby("item_id")
    items = pd.DataFrame(
        {
            "title": grouped.title.agg(lambda each: each.value_counts().index[0]),
            "price": grouped.price.last(),
            "n_buyers": grouped.user_id.nunique(),
            "n_buyers_30d": recent.groupby("item_id").user_id.nunique(),
            "n_orders_30d": recent.groupby("item_id").size(),
            "days_since_first": (cut - grouped.seconds.min()) / DAY,
        }
    )
    items = items.fillna({"n_buyers_30d": 0, "n_orders_30d": 0}).rename_axis("item_id").reset_index()
    return items.assign(categories=[[] for _ in range(len(items))], brand=None, deleted=False)


def write_dataset(
    folder: Path, *, as_of: str = "2011-12-10", users: int | None = None, days: int = 28
) -> Path:
    """Writes `folder`/dataset; returns it."""
    events = purchases(as_of, users)
    end = int(datetime.fromisoformat(as_of).replace(tzinfo=UTC).timestamp())
    cuts = {name: end - windows * days * DAY for windows, name in ((3, "R"), (2, "V"), (1, "T"), (0, "A"))}
    bought = events[events.event_type == "purchase"]
    into = folder / "dataset"
    into.mkdir(parents=True, exist_ok=True)
    labels = (
        bought.groupby(["user_id", "day"])
        .item_id.agg(lambda each: sorted(set(each)))
        .rename("label_items")
        .reset_index()
    )
    labels = labels.rename(columns={"day": "seconds"})
    examples = _histories(events, labels).assign(
        label_items=labels.label_items,
        event_timestamp=pd.to_datetime(labels.seconds, unit="s", utc=True),
        split=np.select(
            [labels.seconds < cuts["V"], labels.seconds < cuts["T"]], ["train", "validation"], "test"
        ),
    )
    examples.to_parquet(into / "examples.parquet")
    for name, cut in cuts.items():
        everyone = pd.DataFrame(
            {"user_id": sorted(events[events.seconds < cut].user_id.unique()), "seconds": cut}
        )
        _histories(events, everyone).to_parquet(into / f"histories_{name}.parquet")
        _items(events, cut).to_parquet(into / f"items_{name}.parquet")
    for name, since, until in (("ranker", "R", "V"), ("validation", "V", "T"), ("test", "T", "A")):
        window = bought[(bought.seconds >= cuts[since]) & (bought.seconds < cuts[until])]
        window[["user_id", "item_id"]].drop_duplicates().to_parquet(into / f"truth_{name}.parquet")
    moments = {name: datetime.fromtimestamp(cut, UTC).isoformat() for name, cut in cuts.items()}
    versions = {"silver.interactions": 1, "as_of": moments.pop("A"), **moments}
    (into / "versions.json").write_text(json.dumps(versions))
    return into


def write_gold(dataset: Path) -> None:
    """gold.user_stats and gold.item_stats at A, from the dataset's own histories and items."""
    end = pd.Timestamp(json.loads((dataset / "versions.json").read_text())["as_of"])
    users = pd.read_parquet(dataset / "histories_A.parquet")
    counts = users.item_ids.str.len()
    last = users.event_times.str[0]
    _write(
        "gold.user_stats",
        users[["user_id", "country"]].assign(
            as_of=end,
            n_events=counts,
            n_orders=users.n_orders.astype(int),
            n_items=users.item_ids.map(lambda ids: len(set(ids))),
            spend=users.quantities.map(np.sum),
            days_since_last=(end.timestamp() - last) / DAY,
            mean_price=users.quantities.map(np.mean),
        ),
    )
    items = pd.read_parquet(dataset / "items_A.parquet")
    whole = items[["n_buyers", "n_buyers_30d", "n_orders_30d"]].astype(int)
    _write("gold.item_stats", items[["item_id", "price", "days_since_first"]].join(whole).assign(as_of=end))
