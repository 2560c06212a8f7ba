"""ingest.bronze: landed batches are appended to bronze as received, and their faulty rows to quarantine with all reasons.

Killed at any point it is repeated: a batch that bronze or quarantine already holds is not appended again, and a batch
is done when its ledger row says so. With nothing pending it ends without starting Spark.
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import clock, lake, ledger
from aisle.columns import BATCH_ID, INGESTED_AT, KINDS, REASONS, ROW_NUMBER, SET_ASIDE
from aisle.errors import BadFile, SettingsError
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import CONTRACTS, TABLES
from jobs.leftovers import removed_when_full
from jobs.merging import create

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Appends what is pending. Params: run_clock (ISO), replay_since and replay_until (ISO) to repeat past batches."""
    if context.params.get("replay_since") or context.params.get("replay_until"):
        return replay(context)
    with ledger.writing(), removed_when_full():
        known = ledger.latest()
        for stray in ledger.strays():
            print(
                f"[ingest.bronze] {stray} has no manifest.json: no import made it, it is left alone",
                file=sys.stderr,
            )
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
    """The done batches with rows in [replay_since, replay_until); silver merges those rows again, which changes nothing it has."""
    since, until = (replay_bound(context.params.get(name)) for name in ("replay_since", "replay_until"))
    found = [
        batch
        for batch, row in ledger.latest().items()
        if row["status"] == ledger.SILVER and _overlaps(ledger.manifest(row["kind"], batch), since, until)
    ]
    return {"replayed": found} if found else {"skip": "no batch has rows in that interval", "replayed": []}


def replay_bound(text: str | None) -> datetime | None:
    return clock.parse(text) if text else None


def _overlaps(manifest: dict[str, Any], since: datetime | None, until: datetime | None) -> bool:
    try:
        oldest, newest = clock.parse(manifest["oldest"]), clock.parse(manifest["newest"])
    except (
        KeyError,
        AttributeError,
        SettingsError,
    ):  # none is known, or a faulty row has one like 0001-01-01
        return True  # repeating is harmless, leaving out is not
    return (until is None or oldest < until) and (since is None or newest >= since)


def run_clock(context: StepContext, manifest: dict[str, Any]) -> datetime:
    """The moment after which an event is from the future: as told, else the as_of, else when the batch was landed."""
    if context.params.get("run_clock"):
        return clock.parse(context.params["run_clock"])
    return context.as_of or clock.parse(manifest["landed_at"])


def _receive(settings: Settings, context: StepContext, new: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Ledger rows of the batches, after their rows are in bronze and quarantine. The kinds go side by side."""
    from aisle.spark import session

    spark = session(settings)
    kinds = {kind: [batch for each, batch in new if each == kind] for kind in KINDS}
    with ThreadPoolExecutor(len(kinds)) as pool:
        parts = [
            pool.submit(_receive_kind, spark, settings, context, kind, batches)
            for kind, batches in kinds.items()
            if batches
        ]
        return [row for part in parts for row in part.result()]


def _receive_kind(
    spark: SparkSession, settings: Settings, context: StepContext, kind: str, batches: list[str]
) -> list[dict[str, Any]]:
    manifests = {batch: ledger.manifest(kind, batch) for batch in batches}
    frames = {batch: landed(spark, kind, batch) for batch in batches}
    append(spark, f"bronze.{kind}", frames)
    faulty = {
        batch: judge(frame, kind, settings, run_clock(context, manifests[batch])).where(
            f"size({REASONS}) > 0"
        )
        for batch, frame in frames.items()
    }
    append(spark, f"quarantine.{kind}", faulty)
    counts = count(kind, batches)
    for batch, manifest in manifests.items():
        if manifest["rows"] != counts[batch]["rows_in"]:
            raise BadFile(
                f"batch {batch} holds {counts[batch]['rows_in']} rows, its manifest says {manifest['rows']}: import it again"
            )
    known = {"kind": kind, "status": ledger.BRONZE, "silver": 0, "duplicates": 0}
    return [{BATCH_ID: batch, **known, **counts[batch]} for batch in batches]


def rows_of(kind: str, batch_id: str) -> Path:
    """The file of a landed batch."""
    return Path(lake.landing(kind)) / batch_id / "rows.parquet"


def landed(spark: SparkSession, kind: str, batch_id: str) -> DataFrame:
    """Rows of one landed batch in the columns of bronze.<kind>. `ingested_at` is when it was landed."""
    from pyspark.sql import functions as F

    manifest = ledger.manifest(kind, batch_id)
    received = spark.read.parquet(str(rows_of(kind, batch_id)))
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


def count(kind: str, batches: list[str]) -> dict[str, dict[str, Any]]:
    """rows_in, quarantined, set_aside and reasons of each batch. Several reasons of a row count as one text.

    Without Spark: what was set aside is one column of the landed file, what is faulty lies in quarantine by now.
    """
    import pyarrow.parquet as pq

    table = f"quarantine.{kind}"
    found = lake.read(table, columns=[BATCH_ID, REASONS], filters=[(BATCH_ID, "in", batches)]).to_pylist()
    counted = {}
    for batch in batches:
        rows = pq.read_table(rows_of(kind, batch), columns=[SET_ASIDE])[SET_ASIDE]
        aside = Counter({each["values"]: each["counts"] for each in rows.value_counts().to_pylist()})
        aside.pop(None, None)
        faulty = Counter("; ".join(row[REASONS]) for row in found if row[BATCH_ID] == batch)
        counted[batch] = {
            "rows_in": len(rows),
            "quarantined": faulty.total(),
            "set_aside": aside.total(),
            "reasons": {"quarantined": dict(faulty), "set_aside": dict(aside)},
        }
    return counted
