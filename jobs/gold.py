"""features.gold: builds the gold tables on the grid of points in time, as little of them as what changed asks for.

A run computes the points that its `as_of` adds to the grid, and the points after the earliest event or item update that
came into silver since the build before (late rows, returns of history, erasures: read from Delta's change feed). Rows
are replaced point by point in one commit a table; what was built is noted last, so a run that is killed is repeated
by the next one. An `as_of` before the newest one is a backfill: it adds its points and emits nothing downstream. The
parameter ``rebuild`` recomputes every point from a given `as_of` on, and without one every point there is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from aisle import clock, features, goal, lake, purchases, ratings
from aisle.columns import RATING
from aisle.errors import NotThere
from aisle.segment import Segment
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from engine.cut import Cut
from jobs import co_visits, grid, item_stats, item_text, merging, stitching, user_history, user_stats

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Silver tables whose past may change under gold, with the time that a row of them speaks about.
WATCHED = {
    "silver.interactions": "event_time",
    "silver.item_history": "updated_at",
    "silver.user_updates": "updated_at",
    stitching.LINKS: "linked_at",
}


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Brings gold to `as_of`: {"as_of", "emit", "points_built"} or {"skip": why}.

    Raises NotThere before the first ingest, and for an `as_of` beyond the data.
    """
    as_of = _whole_day(clock.settled(context.as_of))
    before = features.built() if all(lake.exists(f"gold.{name}") for name in features.GOLD) else None
    newest = max(as_of, clock.parse(before.as_of)) if before else as_of
    first = first_event()
    if as_of <= first:
        raise NotThere(f"no event before as_of {as_of:%Y-%m-%d}: the first one is of {first:%Y-%m-%d %H:%M}")
    silver = versions(settings, before, anew=bool(context.params.get("rebuild")))
    events = silver["silver.interactions"]
    settings = goal.settled(settings, events)
    end = purchases.windows_end(as_of, settings, events)
    cuts = [*grid.cuts(settings), *grid.cuts(settings, purchases.window_days(settings, events, end))]
    wanted = grid.points(first, as_of, settings.features.daily_days, cuts)
    if end < as_of:  # training will ask for what was known at its own cuts, which end with the purchases
        wanted = sorted({*wanted, *grid.points(first, end, 0, cuts)})
    emit = as_of >= newest
    rebuild_from = _rebuild_from(context, as_of)
    if before and before.goal != settings.training.goal:
        _say(
            f"popular is now by {'/'.join(settings.training.goal)}, was by {'/'.join(before.goal)}: gold is built anew"
        )
        rebuild_from = datetime.min.replace(tzinfo=UTC)
    bounds = ratings.Bounds.of(settings.ingest)
    rated = [bounds.low, bounds.good]
    if before and before.rated != rated and has_ratings(events):
        _say(f"ratings up to {bounds.low:g} are low now, from {bounds.good:g} on good: gold is built anew")
        rebuild_from = datetime.min.replace(tzinfo=UTC)
    if before and (lacking := lacking_columns()):
        _say(f"{', '.join(lacking)} came with a newer Aisle: gold is built anew, once")
        rebuild_from = datetime.min.replace(tzinfo=UTC)
    todo = plan(settings, wanted, before, silver, rebuild_from)
    if todo.built:
        build(settings, todo, first, silver)
        features.note_built(
            features.Built(
                newest.isoformat(),
                [point.isoformat() for point in todo.known],
                silver,
                settings.training.goal,
                rated,
            )
        )
    elif emit and features.published().gold == features.gold_versions():
        return {
            "skip": f"gold and the online store are at {as_of:%Y-%m-%d} and nothing changed in silver",
            "as_of": as_of.isoformat(),
        }
    return {
        "as_of": as_of.isoformat(),
        "emit": emit,
        "points_built": len(todo.built),
        "points": len(todo.known),
    }


def versions(settings: Settings, before: features.Built | None, anew: bool = False) -> dict[str, int]:
    """The versions of silver to build from. Where events came since the build before, whose sessions were is told first.

    anew: in any case, as for a rebuild under another `features.stitch_days`.
    """
    from aisle.spark import session

    found = {name: lake.version(name) for name in WATCHED}
    events = "silver.interactions"
    if anew or before is None or before.silver.get(events) != found[events]:
        stitching.bring_up_to_date(session(settings), found[events], settings.features.stitch_days)
    return {**found, stitching.LINKS: lake.version(stitching.LINKS)}


def _rebuild_from(context: StepContext, as_of: datetime) -> datetime | None:
    """The first point to compute anew, whatever changed: with ``rebuild`` the one that was asked for, or all of them."""
    if not context.params.get("rebuild"):
        return None
    return as_of if context.as_of else datetime.min.replace(tzinfo=UTC)


def plan(
    settings: Settings,
    wanted: list[datetime],
    before: features.Built | None,
    silver: dict[str, int],
    rebuild_from: datetime | None,
) -> grid.Grid:
    """Which points to build: new ones, those after the earliest change in silver, and those from `rebuild_from` on."""
    if before is None:
        return grid.Grid(wanted, wanted)
    standing = [clock.parse(point) for point in before.points]
    changed = earliest_change(settings, before.silver, silver)
    stale = {
        point
        for point in standing
        if (changed and point > changed) or (rebuild_from and point >= rebuild_from)
    }
    known = sorted({*wanted, *standing})
    return grid.Grid(known, sorted({*wanted} - {*standing} | stale))


def earliest_change(settings: Settings, since: dict[str, int], now: dict[str, int]) -> datetime | None:
    """The earliest time that rows speak about which came, changed or went in silver between two sets of versions.

    The beginning of time where a table was made anew, or its change feed no longer reaches back (VACUUM).
    """
    from pyspark.errors import PySparkException

    from aisle.spark import session

    spark, found = session(settings), []
    for name, column in WATCHED.items():
        if since.get(name, -1) == now[name]:
            continue
        feed = spark.read.format("delta").option("readChangeFeed", "true")
        feed = feed.option("startingVersion", since.get(name, -1) + 1).option("endingVersion", now[name])
        earliest = F.unix_micros(F.min(column)).alias("earliest")
        try:
            found.append(feed.load(lake.table_path(name)).agg(earliest).first()["earliest"])
        except PySparkException as error:
            reason = str(error).splitlines()[0][:200]
            _say(
                f"no changes of {name} since version {since.get(name, -1)} to be had, so gold is built anew: {reason}"
            )
            return datetime.min.replace(tzinfo=UTC)
    moments = [moment for moment in found if moment is not None]
    return datetime.fromtimestamp(min(moments) / 1e6, UTC) if moments else None


def first_event() -> datetime:
    """The time of the first event in silver, from its oldest month alone."""
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    if not lake.exists("silver.interactions"):
        raise NotThere("no events in silver yet: `aisle import events FILE`, then `aisle run ingest`")
    months = [part["event_month"] for part in DeltaTable(lake.table_path("silver.interactions")).partitions()]
    oldest = lake.read(
        "silver.interactions", columns=["event_time"], filters=[("event_month", "=", min(months))]
    )
    return pc.min(oldest["event_time"]).as_py()


def build(settings: Settings, todo: grid.Grid, first: datetime, silver: dict[str, int]) -> None:
    """Computes the five tables at `todo.built` and replaces those points in each."""
    from aisle.spark import session

    spark = session(settings)
    days = todo.days(spark, first)
    frames = frames_of(settings, todo, first, silver, days, spark)
    # A commit is mostly waiting: two tables at a time keep both cores at work.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [
            pool.submit(replace_points, f"gold.{name}", make, todo) for name, make in frames.items()
        ]:
            done.result()


def events_of(spark: SparkSession, version: int, rated: ratings.Bounds) -> DataFrame:
    """The columns of silver.interactions that features are made of. rated: what a rating's value makes of it."""
    kind = F.expr(rated.kind_sql).alias("event_type")
    columns = (
        "event_id",
        kind,
        "event_time",
        "user_id",
        "session_id",
        "item_id",
        "order_id",
        "quantity",
        "price",
    )
    return _read(spark, "silver.interactions", version).select(*columns)


def frames_of(
    settings: Settings,
    todo: grid.Grid,
    first: datetime,
    silver: dict[str, int],
    days: DataFrame,
    spark: SparkSession,
) -> dict[str, Callable[[], DataFrame]]:
    """What makes each gold table's new rows. The longest come first, so that the two threads end together.

    Items are sold on the day of the event; a user's events count from the day on which they are known to be theirs.
    """
    conf = settings.features
    rows = events_of(spark, silver["silver.interactions"], ratings.Bounds.of(settings.ingest))
    events = grid.on_days(rows, F.to_date("event_time"), days, first)
    late = silver[stitching.LINKS] >= 0
    found = _read(spark, stitching.LINKS, silver[stitching.LINKS]) if late else None
    theirs = stitching.stitched(rows, found, conf.stitch_days)
    own = grid.on_days(theirs, F.to_date(stitching.KNOWN_AT), days, first)

    def history(name: str) -> DataFrame:
        return grid.on_days(_read(spark, name, silver[name]), F.to_date("updated_at"), days, first)

    return {
        "item_stats": lambda: item_stats.transform(
            events, days, todo, conf.popularity_days, settings.training.goal or goal.PURCHASES
        ),
        "item_text": lambda: item_text.transform(events, history("silver.item_history"), todo),
        "user_history": lambda: user_history.transform(own, todo, Cut.of(conf), late),
        "user_stats": lambda: user_stats.transform(
            own, history("silver.user_updates"), todo, Segment.of(conf.segment)
        ),
        "co_visits": lambda: co_visits.transform(
            events, todo.as_of, conf.co_visit_days, conf.co_visit_neighbours
        ),
    }


def has_ratings(version: int) -> bool:
    """Whether somebody ever rated something. `version`: of silver.interactions."""
    wanted: list[tuple[str, str, object]] = [("event_type", "=", RATING)]
    found = lake.read("silver.interactions", columns=["event_type"], filters=wanted, at_version=version)
    return bool(found.num_rows)


def lacking_columns() -> list[str]:
    """Columns of the gold tables as they are defined that the ones on disk do not have yet."""
    from deltalake import DeltaTable

    return [
        f"gold.{name}.{column}"
        for name in features.GOLD
        for there in [{field.name for field in DeltaTable(lake.table_path(f"gold.{name}")).schema().fields}]
        for column in TABLES[f"gold.{name}"].columns
        if column not in there
    ]


def replace_points(name: str, make: Callable[[], DataFrame], todo: grid.Grid) -> None:
    """One commit: the table's rows at the built points become those that `make` gives. Repeating it changes nothing."""
    table, rows = TABLES[name], make()
    typed = rows.select(*[rows[column].cast(kind) for column, kind in table.columns.items()])
    writer = typed.write.format("delta").mode("overwrite").option("mergeSchema", "true")
    if len(todo.built) < len(todo.known) and lake.exists(name):
        replaced = sorted({*todo.built, *_left_behind(name, todo)})
        stamps = ", ".join(f"TIMESTAMP '{point:%Y-%m-%d %H:%M:%S}'" for point in replaced)
        writer = writer.option("replaceWhere", f"as_of IN ({stamps})")
    merging.committed(lambda: writer.save(lake.table_path(name)))


def _left_behind(name: str, todo: grid.Grid) -> set[datetime]:
    """Points in a table that no finished build knows of: a killed one wrote them, and nothing would renew them."""
    import pyarrow.compute as pc

    return {*pc.unique(lake.read(name, columns=["as_of"])["as_of"]).to_pylist()} - {*todo.known}


def _read(spark: SparkSession, name: str, version: int) -> DataFrame:
    """The table as it was at a version; no rows where nothing was ever imported into it."""
    if version < 0:
        return spark.createDataFrame([], TABLES[name].ddl)
    return spark.read.format("delta").option("versionAsOf", version).load(lake.table_path(name))


def _whole_day(as_of: datetime) -> datetime:
    found = grid.midnight(as_of)
    if found != as_of:
        _say(f"features stand on whole days: as_of {as_of.isoformat()} is taken as {found:%Y-%m-%d}")
    return found


def _say(note: str) -> None:
    print(note, file=sys.stderr, flush=True)
