"""What drift looks at: the watched columns, and the frames of today that stand beside the champion's training
reference.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from aisle import clock, lake
from aisle.errors import NotThere

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from aisle.registry import Registry

FRAMES: Final = ("users", "items", "interactions")
NUMBERS: Final = {
    "users": ("n_events", "n_orders", "n_items", "spend", "days_since_last", "mean_price"),
    "items": ("n_buyers_30d", "price"),
    "interactions": ("price", "quantity"),
}
CATEGORIES: Final = {
    "users": ("country",),
    "items": (),
    "interactions": ("event_type", "hour", "weekday", "country", "category"),
}
LEVELS: Final = 12  # of a category: the reference's most frequent ones; the others count as one
OTHER, MISSING = "(other)", "(none)"


@dataclass(frozen=True)
class Champion:
    """The served version: its number, its MLflow run and the end of the data it was fitted on."""

    version: str
    run_id: str
    as_of: datetime

    @classmethod
    def of(cls, found: ModelVersion) -> Champion:
        told = found.tags.get("as_of")
        if not told:
            raise NotThere(
                f"champion version {found.version} has no tag as_of: register it again with `aisle run train`"
            )
        return cls(str(found.version), found.run_id, clock.parse(told))


def report_id(champion: Champion, as_of: datetime) -> str:
    """Names one look at one state of the data, its day first: the same tables and champion give the same
    report.
    """
    tables = ("gold.user_stats", "gold.item_stats", "silver.interactions")
    told = [champion.version, as_of.isoformat(), *(str(lake.version(each)) for each in tables)]
    return f"{as_of:%Y-%m-%d}-{hashlib.sha256('/'.join(told).encode()).hexdigest()[:8]}"


def reference(registry: Registry, champion: Champion, into: Path) -> dict[str, pd.DataFrame]:
    """The champion's own frames, as saved with its run when it was fitted. Raises NotThere where the run has
    none.
    """
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(registry.client.download_artifacts(champion.run_id, "reference", str(into)))
        return {name: pd.read_parquet(folder / f"{name}.parquet") for name in FRAMES}
    except (MlflowException, OSError) as error:
        raise NotThere(
            f"champion {champion.version}: its MLflow run {champion.run_id} holds no reference/*.parquet "
            f"to compare with ({error}); train and promote a version again"
        ) from None


def current(champion: Champion, as_of: datetime) -> dict[str, pd.DataFrame]:
    """Users and items of the newest gold point up to `as_of`; events from the champion's as_of up to `as_of`."""
    return {
        "users": _with_events(_gold("gold.user_stats", [*NUMBERS["users"], *CATEGORIES["users"]], as_of)),
        "items": _gold("gold.item_stats", list(NUMBERS["items"]), as_of),
        "interactions": _interactions(champion.as_of, as_of),
    }


def _gold(table: str, columns: list[str], as_of: datetime) -> pd.DataFrame:
    import pyarrow.compute as pc

    found = lake.read(table, columns=columns, filters=[("as_of", "==", as_of)])
    if not found.num_rows:  # as_of is no point of the grid: the newest one before it
        newest = pc.max(
            lake.read(table, columns=["as_of"], filters=[("as_of", "<=", as_of)])["as_of"]
        ).as_py()
        if newest is None:
            raise NotThere(
                f"{table} holds nothing up to {as_of.date()}: `aisle run features --as-of {as_of.date()}`"
            )
        found = lake.read(table, columns=columns, filters=[("as_of", "==", newest)])
    return found.to_pandas()


def _with_events(users: pd.DataFrame) -> pd.DataFrame:
    """Without who only has attributes: a list of people that was imported is no drift."""
    return users[users["n_events"] > 0].reset_index(drop=True)


def _interactions(since: datetime, until: datetime) -> pd.DataFrame:
    """Columns of the reference: event_type, price, quantity, hour, weekday, country, category."""
    columns = ["event_type", "event_time", "user_id", "item_id", "price", "quantity"]
    window = [
        ("event_month", ">=", f"{since:%Y-%m}"),
        ("event_month", "<=", f"{until:%Y-%m}"),
        ("event_time", ">=", since),
        ("event_time", "<", until),
    ]
    events = lake.read_frame("silver.interactions", columns=columns, filters=window)
    users = (
        lake.read_frame("silver.users", columns=["user_id", "country"])
        if lake.exists("silver.users")
        else None
    )
    items = (
        lake.read_frame("silver.items", columns=["item_id", "categories"])
        if lake.exists("silver.items")
        else None
    )
    moment = events["event_time"].dt.tz_convert("UTC")
    events["hour"], events["weekday"] = moment.dt.hour, moment.dt.weekday
    events["price"] = events["price"].astype(float)
    events["country"] = (
        None if users is None else events["user_id"].map(users.set_index("user_id")["country"])
    )
    first = None if items is None else items.set_index("item_id")["categories"].str[0]
    events["category"] = None if first is None else events["item_id"].map(first)
    return events


def beside(
    old: dict[str, pd.DataFrame], new: dict[str, pd.DataFrame], sample_rows: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both sides as one frame each, columns named ``frame.column``, padded with nulls where a frame is
    shorter.

    One report then shows all three frames. Frames are sampled with `seed`; categories get the
    reference's levels.
    """
    sides: tuple[list[pd.Series], list[pd.Series]] = ([], [])
    for name in FRAMES:
        parts = [
            side[name].sample(min(len(side[name]), sample_rows), random_state=seed) for side in (old, new)
        ]
        for column in NUMBERS[name]:
            for side, part in zip(sides, parts, strict=True):
                side.append(_number(part, column).rename(f"{name}.{column}"))
        for column in CATEGORIES[name]:
            for side, values in zip(sides, _levels(*parts, column), strict=True):
                side.append(values.rename(f"{name}.{column}"))
    left, right = (pd.concat(side, axis=1) for side in sides)
    return left, right


def _number(frame: pd.DataFrame, column: str) -> pd.Series:
    values = (
        pd.to_numeric(frame[column], errors="coerce")
        if column in frame
        else pd.Series(np.nan, index=frame.index)
    )
    return values.astype(float).replace([np.inf, -np.inf], np.nan).reset_index(drop=True)


def _levels(old: pd.DataFrame, new: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """Missing is a level of its own, unless the whole column is empty (then it stays empty on that side)."""
    texts = [_text(side, column) for side in (old, new)]
    kept = set(texts[0].value_counts().index[:LEVELS]) | {MISSING}
    left, right = (text.where(text.isin(kept) | text.isna(), OTHER).reset_index(drop=True) for text in texts)
    return left, right


def _text(frame: pd.DataFrame, column: str) -> pd.Series:
    values = frame[column] if column in frame else pd.Series(None, index=frame.index, dtype=object)
    if not values.notna().any():
        return pd.Series(None, index=frame.index, dtype=object)
    if pd.api.types.is_float_dtype(values):  # an hour that went through a null is 8.0
        values = values.astype("Int64")
    return values.astype("string").fillna(MISSING).astype(object)
