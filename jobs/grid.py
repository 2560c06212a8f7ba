"""The `as_of` grid: the moments at which features are known, and how events and points in time meet on it.

Weekly on Mondays, daily over the newest days, and at the cuts that training will ask for. All points are midnights UTC,
so an event belongs to a point by its day alone: "events before the point" becomes an equi-join with one row per day,
where a join of events with points would cost events x points.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from aisle.columns import AS_OF
from aisle.purchases import WindowDays
from aisle.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

DAY = timedelta(days=1)
# Columns that `on_days` adds: the index of the first point after the row's day, among the known and the built ones.
ON, KNOWN, BUILT = "day", "next_known", "next_built"


def midnight(moment: datetime) -> datetime:
    """The midnight that begins the day of `moment`."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def points(first_event: datetime, as_of: datetime, daily_days: int, cuts: Iterable[int]) -> list[datetime]:
    """Points of the grid after `first_event` and up to `as_of`, oldest first; `cuts` are days before `as_of`.

    >>> from datetime import UTC
    >>> found = points(datetime(2011, 1, 5, 9, tzinfo=UTC), datetime(2011, 1, 20, tzinfo=UTC), 2, [7])
    >>> [point.day for point in found]
    [10, 13, 17, 18, 19, 20]
    """
    monday = midnight(first_event) - first_event.weekday() * DAY
    weekly = {monday + week * 7 * DAY for week in range((as_of - monday).days // 7 + 1)}
    daily = {as_of - day * DAY for day in range(daily_days + 1)}
    anchors = {as_of, *(as_of - days * DAY for days in cuts)}
    return sorted(point for point in weekly | daily | anchors if first_event < point <= as_of)


def cuts(settings: Settings, days: WindowDays | None = None) -> tuple[int, ...]:
    """Days before `as_of` at which the windows begin: the test's, validation's, and the ranker's before it.

    days: of the windows, where a young shop's are shorter than the settings say.
    """
    asked = WindowDays(settings.training.test_days, settings.training.validation_days)
    test, validation = (days or asked).test, (days or asked).validation
    return test, test + validation, test + 2 * validation


@dataclass(frozen=True)
class Grid:
    """Points in time, oldest first.

    known: every point of the tables, those that are built now among them. built: the points to compute.
    """

    known: list[datetime]
    built: list[datetime]

    @property
    def as_of(self) -> datetime:
        """The newest point to compute; nothing from then on is seen."""
        return self.built[-1]

    def days(self, spark: SparkSession, first_event: datetime) -> DataFrame:
        """One row per day from the first event's to the last before `as_of`: day, next_known, next_built."""
        start = midnight(first_event)
        found = [start + day * DAY for day in range((self.as_of - start).days)]
        rows = [(day.date(), _after(day, self.known), _after(day, self.built)) for day in found]
        return spark.createDataFrame(rows, f"{ON} date, {KNOWN} int, {BUILT} int")

    def moment(self, index: Column, among: list[datetime]) -> Column:
        """The timestamp of a point by its index, counted from zero."""
        return F.element_at(F.array(*[F.lit(point) for point in among]), index + 1)


def _after(day: datetime, among: list[datetime]) -> int:
    return next(index for index, point in enumerate(among) if point > day)


def on_days(rows: DataFrame, day: Column, days: DataFrame, first_event: datetime) -> DataFrame:
    """`rows` with the grid's columns. Those of before the first event count from its day on; later than the grid: gone."""
    known = F.greatest(day, F.lit(first_event.date()))
    return rows.withColumn(ON, known).join(F.broadcast(days), ON)


def so_far(key: str) -> Window:
    """The cells of a key up to each one."""
    return Window.partitionBy(key).orderBy(BUILT).rowsBetween(Window.unboundedPreceding, 0)


def carried_forward(cells: DataFrame, key: str, grid: Grid, sparse: Column | None = None) -> DataFrame:
    """A row per key and built point from `cells`, which has a row (key, next_built, …) only where something changed.

    Each cell stands for every point from its own up to the one before the key's next cell. Where `sparse` is true it has a row at
    its own point alone, which a point-in-time join finds as well, and, if it is the key's last, at the newest one, which goes online.
    """
    following = F.lead(BUILT).over(Window.partitionBy(key).orderBy(BUILT))
    until = cells.withColumn("until", F.coalesce(following, F.lit(len(grid.built))) - 1)
    points = F.sequence(BUILT, "until")
    if sparse is not None:
        ends = F.array_distinct(F.array(BUILT, "until"))
        few = F.when(F.col("until") == len(grid.built) - 1, ends).otherwise(F.array(BUILT))
        points = F.when(sparse, few).otherwise(points)
    values = [column for column in cells.columns if column not in (key, BUILT)]
    spread = until.select(key, *values, F.explode(points).alias("point"))
    return spread.select(key, grid.moment(F.col("point"), grid.built).alias(AS_OF), *values)
