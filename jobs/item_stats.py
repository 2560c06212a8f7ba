"""gold.item_stats: counts, popularity and price of items at points in time."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from aisle.goal import PURCHASES
from jobs.grid import BUILT, ON, Grid, carried_forward, so_far
from jobs.user_stats import days_since

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

COUNTS = ("n_buyers", "n_buyers_30d", "n_orders", "n_orders_30d", "n_returns")


def transform(
    events: DataFrame, days: DataFrame, grid: Grid, window_days: int, goal: Collection[str] = PURCHASES
) -> DataFrame:
    """Rows of gold.item_stats at every built point after an item's first event.

    events: silver events with the grid's columns. days: the grid's days. A buyer is a user, or a session where no user
    is known; an item's orders are counted once a buyer and day. goal: what counts as a purchase where the shop knows none (aisle.goal). The columns named 30d look back `window_days`. The
    price is the mean paid per unit on the newest day with a purchase.

    Every count is a sum of arrivals and departures by day: a purchase enters n_buyers_30d on its day and leaves
    `window_days` later, or when the same buyer's next purchase of the item takes its place. So a window over events
    becomes a running sum over points.
    """
    sold = events.where("item_id is not null")
    changes = _purchases(sold, window_days, goal).join(F.broadcast(days.select(ON, BUILT)), ON)
    cells = (
        changes.unionByName(by_day(sold), allowMissingColumns=True)
        .groupBy("item_id", BUILT)
        .agg(
            *[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in COUNTS],
            F.max_by("price", priced()).alias("price"),
            F.min("first").alias("first"),
        )
    )
    until_now = so_far("item_id")
    running = cells.select(
        "item_id",
        BUILT,
        *[F.sum(name).over(until_now).alias(name) for name in COUNTS],
        F.last("price", ignorenulls=True).over(until_now).alias("price"),
        F.min("first").over(until_now).alias("first"),
    )
    filled = carried_forward(running, "item_id", grid)
    return filled.select("item_id", "as_of", *COUNTS, "price", days_since("first").alias("days_since_first"))


def priced() -> Column:
    """The day where it has a price: orders `max_by` so that a day without one never wins."""
    return F.when(F.col("price").isNotNull(), F.col(ON))


def by_day(sold: DataFrame) -> DataFrame:
    """(item_id, day, next_built, price, n_returns, first) of days with an event; price is the mean paid per unit."""
    paid = F.when(F.col("event_type") == "purchase", F.col("price").cast("double"))
    return sold.groupBy("item_id", ON, BUILT).agg(
        F.mean(paid).alias("price"),
        F.count_if(F.col("event_type") == "return").alias("n_returns"),
        F.min("event_time").alias("first"),
    )


def _purchases(sold: DataFrame, window_days: int, goal: Collection[str]) -> DataFrame:
    """(item_id, day, n_buyers, n_buyers_30d, n_orders, n_orders_30d): what each line of a purchase adds and takes away.

    A line leaves on the day of the same buyer's next one, at the latest after `window_days`; on the same day both
    cancel out. Buyers are told apart by a 64-bit hash, because keys of fixed width sort faster.
    """
    buyer = F.xxhash64("user_id", F.when(F.col("user_id").isNull(), F.coalesce("session_id", "event_id")))
    bought = sold.where(F.col("event_type").isin(*goal)).select("item_id", buyer.alias("buyer"), ON)
    same = Window.partitionBy("item_id", "buyer").orderBy(ON)
    expires = F.date_add(ON, window_days)
    following = F.lead(ON).over(same)
    marked = bought.select(
        "item_id",
        ON,
        (F.row_number().over(same) == 1).cast("int").alias("new"),
        F.coalesce(following != F.col(ON), F.lit(True)).cast("int").alias("order"),
        expires.alias("expires"),
        F.least(expires, following).alias("replaced"),
    )
    arrival = _change(ON, F.col("new"), F.lit(1), F.col("order"), F.col("order"))
    replaced = _change("replaced", F.lit(0), F.lit(-1), F.lit(0), F.lit(0))
    expired = _change("expires", F.lit(0), F.lit(0), F.lit(0), -F.col("order"))
    return marked.select("item_id", F.inline(F.array(arrival, replaced, expired)))


def _change(day: str, *counts: Column) -> Column:
    named = [value.alias(name) for value, name in zip(counts, COUNTS, strict=False)]
    return F.struct(F.col(day).alias(ON), *named)
