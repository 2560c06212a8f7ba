"""The fixed protocols of the quality bench: what may be learnt from, what validates, what tests, what is judged.

- by time (Online Retail): the last 28 days test, the 28 before validate, the windows before those teach a ranker;
  what was imported into AISLE_HOME (`shop`) is judged alike, by its settings' days;
- published split (Gowalla, Amazon-CDs; LightGCN and UltraGCN): validation and earlier windows are disjoint random tenths of
  each user's training items, so that no test row is looked at. Without times: every event happened a day before the window;
- last item (Beauty, Sports, Toys; S3-Rec): the last item tests, the last but one validates, earlier windows end one item
  sooner each. One position is one day, counted back from the test.

The earlier windows know nothing of what validation asks for, and validation nothing of the test.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.lake import project_root
from bench import online_retail
from engine.windows import Window

DATA = "AISLE_BENCH_DATA"
FOLDERS = {"beauty": "amazon_beauty", "sports": "amazon_sports", "toys": "amazon_toys"}
SETS = ("online_retail", "gowalla", "amazon_cds", "beauty", "sports", "toys")
MAIN = ("online_retail", "gowalla", "beauty")
SHOP = "shop"  # what was imported into AISLE_HOME
OF_A_SHOP = ("ndcg@20", "ndcg@10", "recall@20")  # metrics of a set with real times
DAYS = 28
EARLIER = {"online_retail": 3}  # windows to learn a ranker from; 2 where not said
TENTH = 0.1
AT = datetime(2014, 8, 1, tzinfo=UTC)  # where a set has no times of its own
HISTORY = 500  # events of a user that are read, as in conf/aisle.toml


class NotHere(Exception):
    """A set that cannot be read on this machine; the text says why in one line."""


@dataclass(frozen=True)
class Protocol:
    """windows, oldest first; columns: "all" ranks every item, "new" leaves out what a user has; metrics: the first is the headline."""

    name: str
    earlier: tuple[Window, ...]
    validation: Window
    test: Window
    columns: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def leaves_out_history(self) -> bool:
        return "all" not in self.columns


def load(name: str) -> Protocol:
    """Raises NotHere where the data is not on this machine, KeyError for an unknown name."""
    return _READERS[name](name)


def imported(as_of: datetime | None = None) -> Protocol:
    """The shop of AISLE_HOME by the windows of `aisle evaluate`. Raises NotThere without data, TooLittleData where there is not enough."""
    from aisle import settings
    from training import quality

    asked = quality.of_shop(settings.load())
    *earlier, validation, test = (
        _known(each) for each in quality.windows(quality.cuts_of(asked, as_of), asked)
    )
    return Protocol(SHOP, tuple(earlier), validation, test, ("all", "new"), OF_A_SHOP)


def _known(window: Window) -> Window:
    """Without people of whom nothing is known any more."""
    some = window.histories["item_ids"].map(lambda each: each is not None and len(each) > 0)
    return replace(window, histories=window.histories[some].reset_index(drop=True))


def folder(name: str) -> Path:
    """Raises NotHere."""
    said = os.environ.get(DATA)
    if not said:
        raise NotHere(
            f"{name}: skipped, {DATA} is not set (the folder that holds {FOLDERS.get(name, name)}/)"
        )
    found = Path(said).expanduser() / FOLDERS.get(name, name)
    if not found.is_dir():
        raise NotHere(f"{name}: skipped, there is no {found.name}/ in {DATA}")
    return found


def by_time(name: str) -> Protocol:
    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    count = EARLIER[name]
    ends = [online_retail.END - timedelta(days=DAYS * n) for n in range(count + 2, 0, -1)]
    *earlier, validation, test = [online_retail.window(lines, at, DAYS, HISTORY) for at in ends]
    return Protocol(name, tuple(earlier), validation, test, ("all", "new"), OF_A_SHOP)


def published_split(name: str) -> Protocol:
    train, test = (pd.read_parquet(folder(name) / f"{part}.parquet") for part in ("train", "test"))
    return split_of(name, named(train), named(test))


def split_of(name: str, train: pd.DataFrame, test: pd.DataFrame, seed: int = 7) -> Protocol:
    """train, test: user_id, item_id (str), distinct and disjoint."""
    count = EARLIER.get(name, 2)
    fold = folds(train["user_id"], count + 1, TENTH, seed)
    everything = train["item_id"]
    windows = []
    for held in range(count + 1):  # 0 validates; the earlier ones know nothing of it
        hidden = {0, held}
        windows.append(_untimed(train[~fold.isin(hidden)], train[fold == held], everything))
    validation, *earlier = windows
    tested = _untimed(train, test, everything)
    return Protocol(name, tuple(earlier), validation, tested, ("new",), ("recall@20", "ndcg@20"))


def folds(users: pd.Series, count: int, share: float, seed: int) -> pd.Series:
    """Each row's fold, 0 to count - 1, each `share` of every user's rows at random; -1 for the rest."""
    random = np.random.default_rng(seed)
    order = pd.Series(random.random(len(users)), users.index)
    place = order.groupby(users).rank(method="first") - 1
    length, names = users.map(users.value_counts()), users.unique()
    start = users.map(
        dict(zip(names, random.random(len(names)), strict=True))
    )  # so that short histories take part
    found = pd.Series(-1, users.index)
    for number in range(count):
        since, until = (np.floor(length * share * edge + start) for edge in (number, number + 1))
        found[(place >= since) & (place < until)] = number
    return found


def last_item(name: str) -> Protocol:
    where = folder(name)
    return sequence_of(
        name, pd.read_parquet(where / "sequences.parquet"), pd.read_parquet(where / "attributes.parquet")
    )


def sequence_of(name: str, rows: pd.DataFrame, attributes: pd.DataFrame) -> Protocol:
    """rows: user_id, position, item_id. The files do not tell brands from categories: all ids are categories."""
    events = named(rows)
    last = rows.groupby("user_id")["position"].transform("max")
    events["time"] = pd.Timestamp(AT) - pd.to_timedelta(last - rows["position"], unit="D")
    known = {
        str(item): [f"c{each}" for each in ids]
        for item, ids in zip(attributes["item_id"], attributes["attributes"], strict=True)
    }
    catalogue = pd.Series(sorted({*events["item_id"], *known}))
    *earlier, validation, test = [
        _at(events, AT - timedelta(days=back), catalogue, known)
        for back in range(EARLIER.get(name, 2) + 1, -1, -1)
    ]
    return Protocol(name, tuple(earlier), validation, test, ("new",), ("ndcg@10", "recall@10"))


def _at(events: pd.DataFrame, at: datetime, catalogue: pd.Series, categories: dict[str, list[str]]) -> Window:
    """The window whose truth is each user's item of the day `at`."""
    before, then = events[events["time"] < at], events[events["time"] == pd.Timestamp(at)]
    return Window(
        at, items_of(before, at, catalogue, categories), histories_of(before), then[["user_id", "item_id"]]
    )


def _untimed(before: pd.DataFrame, truth: pd.DataFrame, catalogue: pd.Series) -> Window:
    before = before.assign(time=pd.Timestamp(AT - timedelta(days=1)))
    whole = histories_of(before, len(before))  # which items are left out is part of the published protocol
    return Window(AT, items_of(before, AT, catalogue), whole, truth[["user_id", "item_id"]])


def items_of(
    before: pd.DataFrame,
    at: datetime,
    catalogue: pd.Series,
    categories: dict[str, list[str]] | None = None,
    days: int = 30,
) -> pd.DataFrame:
    """The whole catalogue, also what nobody has had yet, with its buyers as known at `at`."""
    groups = before.groupby("item_id")
    recent = before[before["time"] >= at - timedelta(days=days)].groupby("item_id")
    numbers = pd.DataFrame(
        {
            "n_buyers": groups["user_id"].nunique(),
            "n_buyers_30d": recent["user_id"].nunique(),
            "n_orders_30d": recent.size(),
            "days_since_first": (at - groups["time"].min()).dt.total_seconds() / 86_400,
        }
    )
    items = numbers.reindex(pd.Index(sorted(catalogue.unique()), name="item_id")).fillna(0.0).reset_index()
    known = categories or {}
    items["categories"] = [known.get(item, []) for item in items["item_id"]]
    return items.assign(title="", brand=None, price=np.nan, deleted=False)


def histories_of(before: pd.DataFrame, length: int = HISTORY) -> pd.DataFrame:
    """One row per user, newest first, every event a purchase of one."""
    newest = (
        before.sort_values("time", ascending=False, kind="stable").groupby("user_id", sort=True).head(length)
    )
    epoch = (
        newest["time"].dt.tz_convert("UTC").astype("datetime64[ns, UTC]").astype("int64") // 10**9
    ).rename("epoch")
    groups = newest.assign(epoch=epoch).groupby("user_id", sort=True)
    found = groups.agg(item_ids=("item_id", list), event_times=("epoch", list)).reset_index()
    found["event_types"] = [["purchase"] * len(each) for each in found["item_ids"]]
    found["quantities"] = [[1.0] * len(each) for each in found["item_ids"]]
    return found.assign(country=None)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["user_id", "item_id"]].astype(int).astype(str)


def digest(window: Window, columns: Sequence[str] = ()) -> str:
    """Changes with any history, truth or item of the window, and with what stands in these further `columns` of its frames."""
    found = hashlib.sha256(window.at.isoformat().encode())
    for column in ("item_ids", "event_times", "event_types"):
        parts = [
            window.histories["user_id"],
            window.histories[column].map(lambda each: ",".join(map(str, each))),
        ]
        found.update(_hashed(parts[0] + ":" + parts[1]))
    pairs = (window.truth["user_id"] + ":" + window.truth["item_id"]).sort_values()
    for values in (pairs, window.items["item_id"].astype(str)):
        found.update(_hashed(values))
    for frame, key in ((window.items, "item_id"), (window.histories, "user_id")):
        for column in (each for each in columns if each in frame):
            said = frame[column].map(lambda each: "|".join(map(str, each)) if np.ndim(each) else str(each))
            found.update(column.encode() + _hashed(frame[key].astype(str) + ":" + said))
    return found.hexdigest()[:16]


def _hashed(values: pd.Series) -> bytes:
    return pd.util.hash_array(np.asarray(values, dtype=object)).tobytes()


_READERS: dict[str, Callable[[str], Protocol]] = {
    "online_retail": by_time,
    "gowalla": published_split,
    "amazon_cds": published_split,
    "beauty": last_item,
    "sports": last_item,
    "toys": last_item,
}
