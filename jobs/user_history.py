"""gold.user_history: what a user did with items, newest first, as it was known at points in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.grid import KNOWN, Grid
from jobs.stitching import KNOWN_AT

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def transform(events: DataFrame, grid: Grid, length: int, late: bool = False) -> DataFrame:
    """Rows of gold.user_history at the built points.

    events: silver events with the grid's columns. A history changes only when its user does something, so a row is
    written at the first point after each such change and stands until the next one: a point-in-time join reads the
    same from it as from a row at every point, at a tenth of the size. The newest built point has a row for every user,
    because that one is materialised online.

    Each user's events are collected and sorted once; a point's history is a slice of that array. late: events may be known
    as the user's later than they happened (jobs.stitching): then they are sorted by when they are known, and each slice
    by time once more. Of what is known, those that were known late stand before newer ones: a slice is longer by as many
    before it is sorted, and cut after that.
    """
    belated = F.count(F.when(F.col(KNOWN_AT) > F.col("event_time"), 1)) if late else F.min(F.lit(0))
    cells = (
        events.where("user_id is not null and item_id is not null")
        .groupBy("user_id", KNOWN)
        .agg(F.collect_list(_event(late)).alias("events"), belated.alias("belated"))
    )
    later = Window.partitionBy("user_id").orderBy(F.desc(KNOWN)).rowsBetween(Window.unboundedPreceding, -1)
    start = F.coalesce(F.sum(F.size("events")).over(later), F.lit(0)).cast("int") + 1
    newest = F.struct(F.lit(grid.known.index(grid.as_of)).alias(KNOWN), F.lit(1).alias("start"))
    per_user = (
        cells.withColumn("start", start)
        .groupBy("user_id")
        .agg(
            F.sort_array(F.flatten(F.collect_list("events")), asc=False).alias("events"),
            F.array_union(F.collect_list(F.struct(KNOWN, "start")), F.array(newest)).alias("changes"),
            F.sum("belated").cast("int").alias("belated"),
        )
    )
    built = [grid.known.index(point) for point in grid.built]
    wanted = F.filter("changes", lambda change: change[KNOWN].isin(built))
    slices = F.transform(wanted, lambda change: _slice(change, length, late))
    return per_user.select("user_id", F.inline(slices)).select(
        "user_id",
        grid.moment(F.col(KNOWN), grid.known).alias("as_of"),
        F.col("events.item_id").alias("item_ids"),
        F.col("events.event_type").alias("event_types"),
        F.col("events.second").alias("event_times"),
        F.col("events.quantity").alias("quantities"),
    )


TOLD = ("event_time", "item_id", "event_type", "quantity", "second")


def _event(late: bool) -> Column:
    """Sorted by its fields from the first on: by time, then by what keeps equal moments in one order."""
    quantity = F.coalesce("quantity", F.lit(1.0)).alias("quantity")
    second = F.unix_seconds("event_time").alias("second")
    fields = ("event_time", "item_id", "event_type", quantity, second)
    return F.struct(KNOWN, *fields) if late else F.struct(*fields)


def _slice(change: Column, length: int, late: bool) -> Column:
    events = F.slice("events", change["start"], F.lit(length) + F.col("belated") if late else F.lit(length))
    if late:
        told = F.transform(events, lambda event: F.struct(*[event[name].alias(name) for name in TOLD]))
        events = F.slice(F.sort_array(told, asc=False), 1, length)
    return F.struct(change[KNOWN].alias(KNOWN), events.alias("events"))
