"""gold.item_stats: counts, popularity and price of items at points in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.grid import BUILT, ON, Grid, carried_forward, so_far
from jobs.user_stats import days_since

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

COUNTS = ("n_buyers", "n_buyers_30d", "n_orders", "n_orders_30d", "n_returns")


def transform(events: DataFrame, days: DataFrame, grid: Grid, window_days: int) -> DataFrame:
    """Rows of gold.item_stats at every built point after an item's first event.

    events: silver events with the grid's columns. days: the grid's days. A buyer is a user, or a session where no user
    is known; an item's orders are counted once a buyer and day. The columns named 30d look back `window_days`. The
    price is the mean paid per unit on the newest day with a purchase.

    Every count is a sum of arrivals and departures by day: a purchase enters n_buyers_30d on its day and leaves
    `window_days` later, or when the same buyer's next purchase of the item takes its place. So a window over events
    becomes a running sum over points, and one shuffle by item carries all of it.
    """
    daily = _leave_later(_by_day(_by_buyer(events.where("item_id is not null"), window_days)), window_days)
    cells = (
        daily.join(F.broadcast(days.select(ON, BUILT)), ON)
        .groupBy("item_id", BUILT)
        .agg(
            *[F.sum(name).alias(name) for name in COUNTS],
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


def priced(day: str = ON) -> Column:
    """The day where it has a price: orders `max_by` so that a day without one never wins."""
    return F.when(F.col("price").isNotNull(), F.col(day))


def day_prices(sold: DataFrame) -> DataFrame:
    """(item_id, day, next_built, price): the mean paid per unit over the day's purchase lines; null without one."""
    paid = F.when(F.col("event_type") == "purchase", F.col("price").cast("double"))
    return sold.groupBy("item_id", ON, BUILT).agg(F.mean(paid).alias("price"))


def _by_buyer(sold: DataFrame, window_days: int) -> DataFrame:
    """One row per item, buyer, day and whether bought: new (first purchase), until (day it stops counting), sums."""
    bought = (F.col("event_type") == "purchase").alias("bought")
    buyer = F.coalesce("user_id", "session_id", "event_id").alias("buyer")
    rows = sold.repartition("item_id").groupBy("item_id", buyer, bought, ON)
    same = Window.partitionBy("item_id", "buyer", "bought").orderBy(ON)
    return rows.agg(
        F.count_if(F.col("event_type") == "return").alias("n_returns"),
        F.sum(F.when(bought, F.col("price").cast("double"))).alias("price_sum"),
        F.count(F.when(bought, F.col("price"))).alias("n_prices"),
        F.min("event_time").alias("first"),
    ).select(
        "*",
        (F.col("bought") & (F.row_number().over(same) == 1)).cast("int").alias("new"),
        F.least(F.date_add(ON, window_days), F.lead(ON).over(same)).alias("until"),
    )


def _by_day(buyers: DataFrame) -> DataFrame:
    """(item_id, day, the counts' differences but for orders that leave, price, first)."""
    one = F.col("bought").cast("int")
    zero = F.lit(0).cast("bigint")
    comes = F.struct(
        ON, "new", one.alias("active"), one.alias("n_orders"), "n_returns", "price_sum", "n_prices", "first"
    )
    goes = F.struct(
        F.col("until").alias(ON),
        F.lit(0).alias("new"),
        (-one).alias("active"),
        F.lit(0).alias("n_orders"),
        zero.alias("n_returns"),
        F.lit(None).cast("double").alias("price_sum"),
        zero.alias("n_prices"),
        F.lit(None).cast("timestamp").alias("first"),
    )
    changes = buyers.select("item_id", F.inline(F.when(F.col("bought"), F.array(comes, goes)).otherwise(F.array(comes))))
    return changes.groupBy("item_id", ON).agg(
        F.sum("new").alias("n_buyers"),
        F.sum("active").alias("n_buyers_30d"),
        F.sum("n_orders").alias("n_orders"),
        F.sum("n_returns").alias("n_returns"),
        (F.sum("price_sum") / F.nullif(F.sum("n_prices"), F.lit(0))).alias("price"),
        F.min("first").alias("first"),
    )


def _leave_later(daily: DataFrame, window_days: int) -> DataFrame:
    """`daily` with n_orders_30d: each day's orders come on it and go `window_days` later."""
    others = [name for name in daily.columns if name not in ("item_id", ON, "n_orders")]
    comes = F.struct(ON, "n_orders", F.col("n_orders").alias("n_orders_30d"), *others)
    gone = [F.lit(0).cast(kind).alias(name) if name.startswith("n_") else F.lit(None).cast(kind).alias(name)
            for name, kind in daily.select(*others).dtypes]
    goes = F.struct(F.date_add(ON, window_days).alias(ON), F.lit(0).cast("bigint").alias("n_orders"), (-F.col("n_orders")).alias("n_orders_30d"), *gone)
    both = F.when(F.col("n_orders") > 0, F.array(comes, goes)).otherwise(F.array(comes))
    return daily.select("item_id", F.inline(both))
