"""gold.user_history: what a user did with items, newest first, as it was known at points in time.

Long ones are cut as engine.cut says, by kind; here the rule stands as Spark's own expression, so that no row leaves Spark for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from engine.cut import LASTING, PASSING, Cut
from jobs.grid import KNOWN, Grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import Column, DataFrame


def transform(events: DataFrame, grid: Grid, cut: Cut, late: bool = False) -> DataFrame:
    """Rows of gold.user_history at the built points.

    events: silver events with the grid's columns. A history changes only when its user does something, so a row is
    written at the first point after each such change and stands until the next one: a point-in-time join reads the
    same from it as from a row at every point, at a tenth of the size. The newest built point has a row for every user,
    because that one is materialised online.

    Each user's events are collected and sorted once; a point's history is what of that array is known there, cut. late: events
    may be known as the user's later than they happened (jobs.stitching): then they are sorted by when they are known, and what
    is known at a point by time once more.
    """
    cells = (
        events.where("user_id is not null and item_id is not null")
        .groupBy("user_id", KNOWN)
        .agg(F.collect_list(_event(late)).alias("events"))
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
        )
    )
    built = [grid.known.index(point) for point in grid.built]
    wanted = F.filter("changes", lambda change: change[KNOWN].isin(built))
    slices = F.transform(wanted, lambda change: _slice(change, cut, late))
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


def _slice(change: Column, cut: Cut, late: bool) -> Column:
    events = F.slice("events", change["start"], F.size("events"))
    if late:
        told = F.transform(events, lambda event: F.struct(*[event[name].alias(name) for name in TOLD]))
        events = F.sort_array(told, asc=False)
    return F.struct(change[KNOWN].alias(KNOWN), _let(events, lambda whole: kept(whole, cut)).alias("events"))


def kept(events: Column, cut: Cut) -> Column:
    """What `Cut.kept` keeps of a history: an array of structs with item_id and event_type, newest first."""
    return F.when(F.size(events) <= cut.length, events).otherwise(
        F.transform(_places(events, cut), lambda place: F.get(events, place))
    )


def _places(events: Column, cut: Cut) -> Column:
    """Ascending."""

    def those(passing: bool) -> Column:
        places = F.sequence(F.lit(0), F.size(events) - 1)
        return F.filter(places, lambda place: F.get(events, place)["event_type"].isin(*PASSING) == passing)

    def newest(shown: Column, others: Column) -> Column:
        most = F.least(F.size(shown), F.greatest(F.lit(cut.passing), cut.length - F.size(others)))
        return F.concat(F.slice(shown, 1, most), F.slice(others, 1, cut.length - most))

    counting = _let(those(True), lambda shown: _let(those(False), lambda others: newest(shown, others)))
    return F.sort_array(F.array_union(counting, _lasting(events, cut)))


def _lasting(events: Column, cut: Cut) -> Column:
    """Places of the newest event of each item and topic, of the `cut.lasting` newest: sorted by pair, each one's first is the newest."""
    topics = F.create_map(*[F.lit(each) for pair in LASTING.items() for each in pair])
    told = F.transform(
        events,
        lambda event, place: F.struct(
            event["item_id"].alias("item_id"),
            topics[event["event_type"]].alias("topic"),
            place.alias("place"),
        ),
    )
    by_pair = F.sort_array(F.filter(told, lambda each: each["topic"].isNotNull()))

    def first(pairs: Column) -> Column:
        def new(pair: Column, place: Column) -> Column:
            before = F.get(pairs, place - 1)
            return (place == 0) | (before["item_id"] != pair["item_id"]) | (before["topic"] != pair["topic"])

        return F.transform(F.filter(pairs, new), lambda pair: pair["place"])

    return F.slice(F.sort_array(_let(by_pair, first)), 1, cut.lasting)


def _let(value: Column, make: Callable[[Column], Column]) -> Column:
    """`make` of a value that is computed once, however often it is named there."""
    return F.transform(F.array(value), make)[0]
