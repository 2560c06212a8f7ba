"""ingest.silver: checked batches into silver, typed, one row per key, by MERGE; then the ledger's last word on each batch.

Every MERGE is by key and repeats without effect. A row carries the batch that first brought it, so the counts of a batch can
be taken again after a crash between the MERGE and the ledger: duplicates = rows in - set aside - quarantined - rows in silver.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aisle import clock, lake, ledger
from aisle.columns import BATCH_ID, EVENT_MONTH, KINDS, ROW_NUMBER, SET_ASIDE
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import CONTRACTS, TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CONFLICT = "event_id already stands for another time"
TRIES = 5
STAGED = "aisle_staged"


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Merges what is checked, or again what `ingest.bronze` named as replayed. Returns as_of and the sums of the run."""
    replayed = (context.params.get("upstream") or {}).get("ingest.bronze", {}).get("replayed")
    with ledger.writing():
        wanted = (
            [row for row in ledger.latest().values() if row[BATCH_ID] in replayed]
            if replayed
            else ledger.with_status(ledger.CHECKED)
        )
        if not wanted:
            return {"skip": "no checked batch"}
        from aisle.spark import session

        spark, done = session(settings), []
        for kind in KINDS:
            batches = [row for row in wanted if row["kind"] == kind]
            if batches:
                done += merge(spark, settings, kind, batches)
        ledger.record(done, context.run_id)
    try:
        newest = clock.newest_as_of(context.as_of).isoformat()
    except NotThere:  # items or users came before the first event: nothing to make features of yet
        newest = None
    sums = {
        name: sum(row[name] for row in done)
        for name in ("rows_in", "silver", "duplicates", "quarantined", "set_aside")
    }
    return {"as_of": newest, "batches": len(done), "emit": newest is not None and not replayed, **sums}


def merge(
    spark: SparkSession, settings: Settings, kind: str, batches: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One kind's batches into silver; their ledger rows."""
    from jobs.rules import typed

    names = [row[BATCH_ID] for row in batches]
    received = spark.read.format("delta").load(lake.table_path(f"bronze.{kind}")).where(_in(BATCH_ID, names))
    if any(row["quarantined"] for row in batches):
        faulty = (
            spark.read.format("delta").load(lake.table_path(f"quarantine.{kind}")).where(_in(BATCH_ID, names))
        )
        received = received.join(faulty.select(BATCH_ID, ROW_NUMBER), [BATCH_ID, ROW_NUMBER], "left_anti")
    clean = typed(received.where(f"{SET_ASIDE} IS NULL"), kind)
    return {"events": _events, "items": _items, "users": _users}[kind](spark, clean, batches)


def _in(column: str, values: list[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def newest_per(rows: DataFrame, keys: tuple[str, ...], order: list[str]) -> DataFrame:
    """One row per key: the last by `order`. MERGE needs that of its source."""
    from pyspark.sql import functions as F

    picked = F.max_by(F.struct("*"), F.struct(*order)).alias("picked")
    return rows.groupBy(*keys).agg(picked).select("picked.*")


def _events(spark: SparkSession, clean: DataFrame, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Insert-only. The months of the batch stand in the condition as literals, so that other months' files are not read."""
    table, path = TABLES["silver.interactions"], lake.table_path("silver.interactions")
    create(spark, "silver.interactions")
    clean = clean.drop(ROW_NUMBER, SET_ASIDE)
    months = sorted(row[EVENT_MONTH] for row in clean.select(EVENT_MONTH).distinct().collect())
    if months:
        foreign = [
            row[BATCH_ID]
            for row in batches
            if ledger.manifest("events", row[BATCH_ID]).get("ids") != "derived"
        ]
        if foreign and lake.version("silver.interactions") > 0:
            clean = set_conflicts_aside(spark, clean, batches)
        staged = newest_per(clean, table.key, ["event_time", BATCH_ID]).select(*table.columns)
        staged.createOrReplaceTempView(STAGED)
        match = f"t.{EVENT_MONTH} = s.{EVENT_MONTH} AND t.event_id = s.event_id AND {_in(f't.{EVENT_MONTH}', months)}"
        repeat(
            lambda: spark.sql(
                f"MERGE INTO delta.`{path}` t USING {STAGED} s ON {match} WHEN NOT MATCHED THEN INSERT *"
            ).collect()
        )
    return _count_events(batches, months)


def set_conflicts_aside(spark: SparkSession, clean: DataFrame, batches: list[dict[str, Any]]) -> DataFrame:
    """Quarantines rows whose sender-given id silver knows with another time: two different events must not share an id."""
    from pyspark.sql import functions as F

    known = spark.read.format("delta").load(lake.table_path("silver.interactions"))
    known = known.select("event_id", F.col("event_time").alias("known_time"))
    clashing = clean.join(known, "event_id").where("event_time <> known_time").select(*clean.columns)
    found = {
        row[BATCH_ID]: row["n"] for row in clashing.groupBy(BATCH_ID).agg(F.count("*").alias("n")).collect()
    }
    if not found:
        return clean
    reasons = F.array(F.lit(CONFLICT)).alias("reasons")
    columns = [
        reasons
        if name == "reasons"
        else F.col(name).cast("string").alias(name)
        if name in CONTRACTS["events"] and name != "properties"
        else F.to_json("properties").alias(name)
        if name == "properties"
        else F.lit(None).cast(kind).alias(name)
        if name not in clashing.columns
        else F.col(name)
        for name, kind in TABLES["quarantine.events"].columns.items()
    ]
    path = lake.table_path("quarantine.events")
    before = 0
    if lake.exists("quarantine.events"):
        filters = [(BATCH_ID, "in", list(found))]
        rows = (
            lake.read("quarantine.events", columns=["reasons"], filters=filters).column("reasons").to_pylist()
        )
        before = sum(CONFLICT in (each or []) for each in rows)
    if not before:
        clashing.select(*columns).write.format("delta").mode("append").save(path)
    for row in batches:
        n = found.get(row[BATCH_ID], 0)
        if n:
            row["quarantined"] += n
            row["reasons"].setdefault("quarantined", {})[CONFLICT] = n
    return clean.join(clashing.select("event_id", "event_time"), ["event_id", "event_time"], "left_anti")


def _count_events(batches: list[dict[str, Any]], months: list[str]) -> list[dict[str, Any]]:

    names = [row[BATCH_ID] for row in batches]
    filters = [(BATCH_ID, "in", names)] + ([(EVENT_MONTH, "in", months)] if months else [])
    found = lake.read("silver.interactions", columns=[BATCH_ID, "event_time"], filters=filters)
    rows = (
        found.group_by(BATCH_ID).aggregate([("event_time", "count"), ("event_time", "max")]).to_pylist()
        if found.num_rows
        else []
    )
    kept = {row[BATCH_ID]: row for row in rows}
    return [
        finished(
            row,
            kept.get(row[BATCH_ID], {}).get("event_time_count", 0),
            kept.get(row[BATCH_ID], {}).get("event_time_max"),
        )
        for row in batches
    ]


def finished(row: dict[str, Any], in_silver: int, newest: datetime | None = None) -> dict[str, Any]:
    """The ledger row of a done batch: whatever is not in silver and has no other reason was there already."""
    duplicates = row["rows_in"] - row["set_aside"] - row["quarantined"] - in_silver
    as_of = clock.midnight_after(newest.astimezone(UTC)) if newest else None
    return {
        **row,
        "status": ledger.SILVER,
        "silver": in_silver,
        "duplicates": duplicates,
        "newest_event": newest,
        "as_of": as_of,
    }


def _items(spark: SparkSession, clean: DataFrame, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every update into item_history; into items only what is newer than what stands there, nulls not wiping known values."""
    rows = clean.drop(ROW_NUMBER, SET_ASIDE)
    create(spark, "silver.item_history")
    history = newest_per(rows, TABLES["silver.item_history"].key, [BATCH_ID])
    _insert(spark, history.select(*TABLES["silver.item_history"].columns), "silver.item_history")
    _upsert(spark, rows, "silver.items")
    return _count_updates(batches, "silver.item_history", clean)


def _users(spark: SparkSession, clean: DataFrame, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    _upsert(spark, clean.drop(ROW_NUMBER, SET_ASIDE), "silver.users")
    return _count_updates(batches, None, clean)


def _insert(spark: SparkSession, rows: DataFrame, name: str) -> None:
    rows.createOrReplaceTempView(STAGED)
    on = " AND ".join(f"t.{key} = s.{key}" for key in TABLES[name].key)
    repeat(
        lambda: spark.sql(
            f"MERGE INTO delta.`{lake.table_path(name)}` t USING {STAGED} s ON {on} WHEN NOT MATCHED THEN INSERT *"
        ).collect()
    )


def _upsert(spark: SparkSession, rows: DataFrame, name: str) -> None:
    table = TABLES[name]
    create(spark, name)
    staged = newest_per(rows, table.key, ["updated_at", BATCH_ID]).select(*table.columns)
    staged.createOrReplaceTempView(STAGED)
    on = " AND ".join(f"t.{key} = s.{key}" for key in table.key)
    kept = ", ".join(
        f"t.{column} = coalesce(s.{column}, t.{column})"
        for column in table.columns
        if column not in table.key
    )
    sql = (
        f"MERGE INTO delta.`{lake.table_path(name)}` t USING {STAGED} s ON {on} "
        f"WHEN MATCHED AND s.updated_at > t.updated_at THEN UPDATE SET {kept} WHEN NOT MATCHED THEN INSERT *"
    )
    repeat(lambda: spark.sql(sql).collect())


def _count_updates(
    batches: list[dict[str, Any]], history: str | None, clean: DataFrame
) -> list[dict[str, Any]]:
    """Items and users: a batch's rows in silver are its distinct updates; a second row for the same update is a duplicate."""
    key = ("item_id", "updated_at") if history else ("user_id", "updated_at")
    rows = clean.select(BATCH_ID, *key).distinct().groupBy(BATCH_ID).count().collect()
    distinct = {row[BATCH_ID]: row["count"] for row in rows}
    return [finished(row, distinct.get(row[BATCH_ID], 0)) for row in batches]


def create(spark: SparkSession, name: str) -> None:
    """The empty table by its contract, once."""
    if lake.exists(name):
        return
    table = TABLES[name]
    partition = f" PARTITIONED BY ({', '.join(table.partition)})" if table.partition else ""
    properties = ", ".join(
        f"'{key}' = '{value}'"
        for key, value in {**table.properties, "delta.enableDeletionVectors": "false"}.items()
    )
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS delta.`{lake.table_path(name)}` ({table.ddl}) USING DELTA{partition} TBLPROPERTIES ({properties})"
    )


def repeat(act: Callable[[], object]) -> None:
    """Another writer's commit in between is no fault: Delta says so, and the MERGE is taken again."""
    for attempt in range(1, TRIES + 1):
        try:
            act()
            return
        except Exception as error:
            if "Concurrent" not in type(error).__name__ + str(error)[:500] or attempt == TRIES:
                raise
            time.sleep(0.5 * attempt)
