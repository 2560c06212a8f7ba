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
    is known. The columns named 30d look back `window_days`. Every count is a sum of arrivals and departures by day: a
    purchase enters n_buyers_30d on its day and leaves `window_days` later, or when the same buyer's next purchase of
    the item takes its place. So a window over events becomes a running sum over points.
    """
    sold = events.where("item_id is not null")
    bought = sold.where(F.col("event_type") == "purchase")
    changes = (
        _buyers(bought, window_days)
        .unionByName(_orders(bought, window_days), allowMissingColumns=True)
        .join(F.broadcast(days.select(ON, BUILT)), ON)
        .unionByName(_seen(sold), allowMissingColumns=True)
    )
    cells = changes.groupBy("item_id", BUILT).agg(
        *[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in COUNTS],
        F.max_by("price", "priced").alias("price"),
        F.min("first").alias("first"),
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


def day_prices(sold: DataFrame) -> DataFrame:
    """(item_id, day, next_built, price, returned, first): price is the mean paid per unit in the day's purchase lines."""
    paid = F.when(F.col("event_type") == "purchase", F.col("price").cast("double"))
    return sold.groupBy("item_id", ON, BUILT).agg(
        F.mean(paid).alias("price"),
        F.count_if(F.col("event_type") == "return").alias("n_returns"),
        F.min("event_time").alias("first"),
    )


def priced(day: str = ON) -> Column:
    """The day where it has a price: orders `max_by` so that a day without one never wins."""
    return F.when(F.col("price").isNotNull(), F.col(day))


def _seen(sold: DataFrame) -> DataFrame:
    return day_prices(sold).select("item_id", BUILT, "price", priced().alias("priced"), "n_returns", "first")


def _buyers(bought: DataFrame, window_days: int) -> DataFrame:
    """(item_id, day, n_buyers, n_buyers_30d): differences."""
    buyer = F.coalesce("user_id", "session_id", "event_id").alias("buyer")
    daily = bought.select("item_id", buyer, ON).distinct()
    same = Window.partitionBy("item_id", "buyer").orderBy(ON)
    marked = daily.select(
        "item_id",
        ON,
        (F.row_number().over(same) == 1).cast("int").alias("new"),
        F.least(F.date_add(ON, window_days), F.lead(ON).over(same)).alias("until"),
    )
    comes = F.struct(F.col(ON).alias(ON), F.col("new").alias("n_buyers"), F.lit(1).alias("n_buyers_30d"))
    goes = F.struct(F.col("until").alias(ON), F.lit(0).alias("n_buyers"), F.lit(-1).alias("n_buyers_30d"))
    return marked.select("item_id", F.inline(F.array(comes, goes)))


def _orders(bought: DataFrame, window_days: int) -> DataFrame:
    """(item_id, day, n_orders, n_orders_30d): differences."""
    order = F.coalesce("order_id", "event_id").alias("order")
    firsts = bought.groupBy("item_id", order).agg(F.min(ON).alias(ON))
    comes = F.struct(F.col(ON).alias(ON), F.lit(1).alias("n_orders"), F.lit(1).alias("n_orders_30d"))
    goes = F.struct(
        F.date_add(ON, window_days).alias(ON), F.lit(0).alias("n_orders"), F.lit(-1).alias("n_orders_30d")
    )
    daily = firsts.groupBy("item_id", ON).agg(F.count("*").cast("int").alias("n"))
    exploded = daily.select("item_id", "n", F.inline(F.array(comes, goes)))
    return exploded.select(
        "item_id", ON, *[(F.col(name) * F.col("n")).alias(name) for name in ("n_orders", "n_orders_30d")]
    )
