"""gold.user_stats: counts and recency of users at points in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from aisle.segment import Segment
from jobs.grid import BUILT, Grid, carried_forward, so_far

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

COUNTS = ("n_events", "n_orders", "n_items", "n_prices")
SUMS = ("spend", "price_sum")


def transform(
    events: DataFrame, updates: DataFrame, grid: Grid, segment: Segment = Segment("country", None)
) -> DataFrame:
    """Rows of gold.user_stats at every built point after a user's first event, and of who only told their segment.

    The latter count nothing; a row of theirs stands until the next one, and the newest point, which goes online, has one of each.

    events, updates: silver events and silver.user_updates with the grid's columns. Orders and items are counted from
    their first purchase on; spend is purchases less returns; mean_price is per unit over purchase lines; country is the
    segment last told before the point.
    """
    own = events.where("user_id is not null")
    told = updates.select("user_id", BUILT, _told(segment).alias("country"), "updated_at").where(
        "country is not null"
    )
    changes = _by_order(own).unionByName(_new_items(own), allowMissingColumns=True)
    changes = changes.unionByName(told, allowMissingColumns=True)
    cells = changes.groupBy("user_id", BUILT).agg(
        *[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in (*COUNTS, *SUMS)],
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.max_by("country", "updated_at").alias("country"),
    )
    until_now = so_far("user_id")
    running = cells.select(
        "user_id",
        BUILT,
        *[F.sum(name).over(until_now).alias(name) for name in (*COUNTS, *SUMS)],
        F.min("first").over(until_now).alias("first"),
        F.max("last").over(until_now).alias("last"),
        F.last("country", ignorenulls=True).over(until_now).alias("country"),
    )
    known = running.where("n_events > 0 or country is not null")
    return carried_forward(known, "user_id", grid, sparse=F.col("n_events") == 0).select(
        "user_id",
        "as_of",
        F.when(F.col("country") != "", F.col("country")).alias("country"),  # empty: it was cleared
        "n_events",
        "n_orders",
        "n_items",
        "spend",
        days_since("first").alias("days_since_first"),
        days_since("last").alias("days_since_last"),
        F.when(F.col("n_prices") > 0, F.col("price_sum") / F.col("n_prices")).alias("mean_price"),
    )


def _told(segment: Segment) -> Column:
    """What an update says of the segment; null where it says nothing, empty where it was cleared."""
    if segment.key is None:
        return F.col(segment.column)
    found = F.try_element_at(segment.column, F.lit(segment.key))
    return F.when(F.col(segment.column).isNotNull(), F.coalesce(found, F.lit("")))


def _by_order(own: DataFrame) -> DataFrame:
    """(user_id, next_built, n_events, n_orders, n_prices, price_sum, spend, first, last) between two points, by order."""
    is_purchase = F.col("event_type") == "purchase"
    price = F.col("price").cast("double")
    paid = F.when(is_purchase, price).when(F.col("event_type") == "return", -price)
    bought_in = F.when(is_purchase, F.coalesce("order_id", "event_id")).alias("order")
    orders = own.groupBy("user_id", bought_in, BUILT).agg(
        F.count("*").alias("n_events"),
        F.count(F.when(is_purchase, price)).alias("n_prices"),
        F.sum(F.when(is_purchase, price)).alias("price_sum"),
        F.sum(F.abs("quantity") * paid).alias("spend"),
        F.min("event_time").alias("first"),
        F.max("event_time").alias("last"),
    )
    # An order whose lines fall on both sides of a point is counted at the earlier one.
    begins = F.min(BUILT).over(Window.partitionBy("user_id", "order"))
    return orders.withColumn(
        "n_orders", (F.col("order").isNotNull() & (begins == F.col(BUILT))).cast("int")
    ).drop("order")


def _new_items(own: DataFrame) -> DataFrame:
    """(user_id, next_built, n_items): one row for each item that a user bought for the first time."""
    bought = own.where("event_type = 'purchase' and item_id is not null")
    firsts = bought.groupBy("user_id", F.xxhash64("item_id")).agg(F.min(BUILT).alias(BUILT))
    return firsts.select("user_id", BUILT, F.lit(1).alias("n_items"))


def days_since(moment: str) -> Column:
    """Days from a timestamp column to as_of, with their fraction."""
    return (F.unix_seconds("as_of") - F.unix_seconds(moment)) / F.lit(86_400.0)
