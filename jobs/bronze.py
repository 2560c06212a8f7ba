"""ingest.bronze: landed batches are appended to bronze as received, and their faulty rows to quarantine with all reasons.

Killed at any point it is repeated: a batch that bronze or quarantine already holds is not appended again, and a batch
is done when its ledger row says so. With nothing pending it ends without starting Spark.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import clock, lake, ledger
from aisle.columns import BATCH_ID, INGESTED_AT, KINDS, REASONS, ROW_NUMBER, SET_ASIDE
from aisle.errors import BadFile
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import CONTRACTS, TABLES
from jobs.merging import create

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Appends what is pending. Params: run_clock (ISO), replay_since and replay_until (ISO) to repeat past batches."""
    if context.params.get("replay_since") or context.params.get("replay_until"):
        return replay(context)
    with ledger.writing():
        known = ledger.latest()
        new = [(kind, batch) for kind, batch in ledger.landed() if batch not in known]
        unfinished = [
            row[BATCH_ID] for row in known.values() if row["status"] in (ledger.BRONZE, ledger.CHECKED)
        ]
        if not new and not unfinished:
            return {"skip": "no new batches"}
        rows = _receive(settings, context, new) if new else []
        ledger.record(rows, context.run_id)
    sums = {name: sum(row[name] for row in rows) for name in ("rows_in", "quarantined", "set_aside")}
    return {"batches": unfinished + [row[BATCH_ID] for row in rows], **sums}


def replay(context: StepContext) -> dict[str, Any]:
    """The done batches with rows in [replay_since, replay_until); silver merges them again, which changes nothing it has."""
    since, until = (_bound(context.params.get(name)) for name in ("replay_since", "replay_until"))
    found = [
        batch
        for batch, row in ledger.latest().items()
        if row["status"] == ledger.SILVER and _overlaps(ledger.manifest(row["kind"], batch), since, until)
    ]
    return {"replayed": found} if found else {"skip": "no batch has rows in that interval", "replayed": []}


def _bound(text: str | None) -> datetime | None:
    return clock.parse(text) if text else None


def _overlaps(manifest: dict[str, Any], since: datetime | None, until: datetime | None) -> bool:
    if not manifest.get("oldest"):
        return True  # nobody knows: repeating is harmless, leaving out is not
    oldest, newest = clock.parse(manifest["oldest"]), clock.parse(manifest["newest"])
    return (until is None or oldest < until) and (since is None or newest >= since)


def run_clock(context: StepContext, manifest: dict[str, Any]) -> datetime:
    """The moment after which an event is from the future: as told, else the as_of, else when the batch was landed."""
    if context.params.get("run_clock"):
        return clock.parse(context.params["run_clock"])
    return context.as_of or clock.parse(manifest["landed_at"])


def _receive(settings: Settings, context: StepContext, new: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Ledger rows of the batches, after their rows are in bronze and quarantine."""
    from aisle.spark import session

    spark, rows = session(settings), []
    for kind in KINDS:
        batches = {batch: ledger.manifest(kind, batch) for each, batch in new if each == kind}
        if not batches:
            continue
        frames = {batch: landed(spark, kind, batch) for batch in batches}
        clocks = {batch: run_clock(context, manifest) for batch, manifest in batches.items()}
        append(spark, f"bronze.{kind}", frames)
        # Kept, so that a row is judged once: counted from here, and written from here where it is faulty.
        judged = {
            batch: judge(frame, kind, settings, clocks[batch]).persist() for batch, frame in frames.items()
        }
        try:
            counts = count(judged)
            faulty = {
                batch: frame.where(f"size({REASONS}) > 0")
                for batch, frame in judged.items()
                if counts[batch]["quarantined"]
            }
            if faulty:
                append(spark, f"quarantine.{kind}", faulty)
        finally:
            for frame in judged.values():
                frame.unpersist()
        for batch, manifest in batches.items():
            if manifest["rows"] != counts[batch]["rows_in"]:
                raise BadFile(
                    f"batch {batch} holds {counts[batch]['rows_in']} rows, its manifest says {manifest['rows']}: import it again"
                )
            rows.append(
                {
                    BATCH_ID: batch,
                    "kind": kind,
                    "status": ledger.BRONZE,
                    **counts[batch],
                    "silver": 0,
                    "duplicates": 0,
                }
            )
    return rows


def landed(spark: SparkSession, kind: str, batch_id: str) -> DataFrame:
    """Rows of one landed batch in the columns of bronze.<kind>. `ingested_at` is when it was landed."""
    from pyspark.sql import functions as F

    manifest = ledger.manifest(kind, batch_id)
    path = Path(lake.landing(kind)) / batch_id / "rows.parquet"
    received = spark.read.parquet(str(path))
    return received.select(
        *(F.col(name).cast("string").alias(name) for name in CONTRACTS[kind]),
        F.lit(batch_id).alias(BATCH_ID),
        ROW_NUMBER,
        F.col(SET_ASIDE).cast("string").alias(SET_ASIDE),
        F.lit(manifest["landed_at"]).cast("timestamp").alias(INGESTED_AT),
    )


def judge(received: DataFrame, kind: str, settings: Settings, moment: datetime) -> DataFrame:
    """The rows with their reasons, in the columns of quarantine.<kind>."""
    from jobs.rules import with_reasons

    return with_reasons(received, kind, settings.ingest, moment).select(*TABLES[f"quarantine.{kind}"].columns)


def append(spark: SparkSession, table: str, frames: dict[str, DataFrame]) -> None:
    """Appends, in one commit, the batches that a table does not hold yet. A batch is in it whole or not at all."""
    there = held(table, list(frames))
    missing = [frame for batch, frame in frames.items() if batch not in there]
    if not missing:
        return
    rows = missing[0]
    for frame in missing[
        1:
    ]:  # a union keeps batches in files of their own, so that their statistics skip the others
        rows = rows.unionAll(frame)
    create(spark, table)
    rows.write.format("delta").mode("append").save(lake.table_path(table))


def held(table: str, batches: list[str]) -> set[str]:
    """Which of these batches a table holds, without Spark: file statistics leave little to read."""
    if not lake.exists(table):
        return set()
    found = lake.read(table, columns=[BATCH_ID], filters=[(BATCH_ID, "in", batches)])
    return set(found[BATCH_ID].unique().to_pylist())


def count(judged: dict[str, DataFrame]) -> dict[str, dict[str, Any]]:
    """rows_in, quarantined, set_aside and reasons of each batch, in one Spark job. Several reasons of a row count as one text."""
    from pyspark.sql import functions as F

    rows = None
    for frame in judged.values():
        rows = frame if rows is None else rows.unionAll(frame)
    why = F.array_join(REASONS, "; ").alias("why")
    found = {batch: {"quarantined": Counter(), "set_aside": Counter(), "rows_in": 0} for batch in judged}
    for batch, aside, reasons, n in rows.groupBy(BATCH_ID, SET_ASIDE, why).count().collect():
        each = found[batch]
        each["rows_in"] += n
        if aside is not None:
            each["set_aside"][aside] += n
        elif reasons:
            each["quarantined"][reasons] += n
    return {
        batch: {
            "rows_in": each["rows_in"],
            "quarantined": each["quarantined"].total(),
            "set_aside": each["set_aside"].total(),
            "reasons": {"quarantined": dict(each["quarantined"]), "set_aside": dict(each["set_aside"])},
        }
        for batch, each in found.items()
    }
