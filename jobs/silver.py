"""ingest.silver: checked batches into silver, typed, one row per key, by MERGE; then the ledger's last word on each batch.

Every MERGE is by key and repeats without effect. A row carries the batch that first brought it, so the counts of a batch are
taken from the tables and come out the same after a crash between the MERGE and the ledger:
duplicates = rows in - set aside - quarantined - rows in silver.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aisle import clock, lake, ledger
from aisle.columns import BATCH_ID, EVENT_MONTH, INGESTED_AT, KINDS, ROW_NUMBER, SET_ASIDE
from aisle.errors import BatchRejected, NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import CONTRACTS, TABLES
from jobs import merging
from jobs.bronze import held, replay_bound
from jobs.leftovers import removed_when_full

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SUMS = ("rows_in", "silver", "duplicates", "quarantined", "set_aside")
CONFLICT = "event_id already stands for another time"
MOMENTS = {"events": "event_time", "items": "updated_at", "users": "updated_at"}
UPDATES = {
    "items": ("silver.item_history", "silver.items"),
    "users": ("silver.user_updates", "silver.users"),
}


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Merges what is checked, or again what `ingest.bronze` named as replayed, of which only the rows of the replayed time.

    Returns as_of and the sums of the run: of a replay those of its rows, of which `silver` are the ones that had gone.
    Raises BatchRejected for what `ingest.check` refused, after the others were merged.
    """
    upstream = context.params.get("upstream") or {}
    replayed = upstream.get("ingest.bronze", {}).get("replayed")
    refused = upstream.get("ingest.check", {}).get("refused") or []
    span = Span.of(context) if replayed else None
    with ledger.writing(), removed_when_full():
        wanted = (
            [row for row in ledger.latest().values() if row[BATCH_ID] in replayed]
            if replayed
            else ledger.with_status(ledger.CHECKED)
        )
        if not wanted:
            _fail_for(refused)
            return {"skip": "no checked batch"}
        from aisle.spark import session

        spark = session(settings)
        kinds = {kind: [row for row in wanted if row["kind"] == kind] for kind in KINDS}
        # Tables of their own, so the kinds go side by side: a MERGE of few rows is mostly waiting.
        with ThreadPoolExecutor(len(kinds)) as pool:
            parts = [
                pool.submit(merge, spark, kind, batches, span) for kind, batches in kinds.items() if batches
            ]
            done = [row for part in parts for row in part.result()]
        if refused and not replayed:
            # A failed run tells nobody. The next one finds them unfinished, merges them without effect and tells features.
            done = [{**row, "status": ledger.CHECKED} for row in done]
        ledger.record(done, context.run_id)
    _fail_for(refused)
    try:
        newest = clock.newest_as_of(context.as_of).isoformat()
    except NotThere:  # items or users came before the first event: nothing to make features of yet
        newest = None
    sums = _replayed(done) if replayed else {name: sum(row[name] for row in done) for name in SUMS}
    return {"as_of": newest, "batches": len(done), "emit": newest is not None and not replayed, **sums}


def _fail_for(refused: list[str]) -> None:
    if refused:
        raise BatchRejected("; ".join(refused))


@dataclass(frozen=True)
class Span:
    """A time [since, until); None: open. An update of an item or a user belongs where its `updated_at` does."""

    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, context: StepContext) -> Span:
        return cls(*(replay_bound(context.params.get(name)) for name in ("replay_since", "replay_until")))

    def within(self, rows: DataFrame, kind: str) -> DataFrame:
        from pyspark.sql import functions as F

        moment = F.col(MOMENTS[kind])
        found = rows if self.since is None else rows.where(moment >= F.lit(self.since))
        return found if self.until is None else found.where(moment < F.lit(self.until))

    def standing(self, kind: str, names: list[str]) -> Counter[str]:
        """Rows that silver has within, by the batch that brought them."""
        table = UPDATES[kind][0] if kind in UPDATES else "silver.interactions"
        filters: list[tuple[str, str, object]] = [(BATCH_ID, "in", names)]
        filters += [(MOMENTS[kind], ">=", self.since)] if self.since else []
        filters += [(MOMENTS[kind], "<", self.until)] if self.until else []
        return Counter(lake.read(table, columns=[BATCH_ID], filters=filters)[BATCH_ID].to_pylist())


def _replayed(done: list[dict[str, Any]]) -> dict[str, int]:
    """Sums of a replay; the ledger rows themselves count whole batches."""
    rows_in, restored = (sum(row[name] for row in done) for name in ("replayed", "restored"))
    return dict.fromkeys(SUMS, 0) | {"rows_in": rows_in, "silver": restored, "duplicates": rows_in - restored}


def merge(
    spark: SparkSession, kind: str, batches: list[dict[str, Any]], span: Span | None = None
) -> list[dict[str, Any]]:
    """One kind's batches into silver; their ledger rows. With a `span` its rows only; `replayed` and `restored` count them."""
    from pyspark.sql import functions as F

    from jobs.rules import typed

    names = [row[BATCH_ID] for row in batches]
    received = _of_batches(spark, f"bronze.{kind}", names).where(f"{SET_ASIDE} IS NULL")
    if held(f"quarantine.{kind}", names):
        faulty = _of_batches(spark, f"quarantine.{kind}", names).select(BATCH_ID, ROW_NUMBER)
        received = received.join(F.broadcast(faulty), [BATCH_ID, ROW_NUMBER], "left_anti")
    clean = typed(received, kind).drop(SET_ASIDE)
    if not span:
        return _merged(spark, kind, clean, batches)
    clean, before = span.within(clean, kind), span.standing(kind, names)
    done = _merged(spark, kind, clean, batches, whole=False)
    found = {row[BATCH_ID]: row["count"] for row in clean.groupBy(BATCH_ID).count().collect()}
    restored = span.standing(kind, names) - before
    return [
        {**row, "replayed": found.get(row[BATCH_ID], 0), "restored": restored[row[BATCH_ID]]} for row in done
    ]


def _merged(
    spark: SparkSession, kind: str, clean: DataFrame, batches: list[dict[str, Any]], whole: bool = True
) -> list[dict[str, Any]]:
    if kind == "events":
        return _events(spark, clean, batches, whole)
    return _updates(spark, kind, clean, batches)


def _of_batches(spark: SparkSession, table: str, names: list[str]) -> DataFrame:
    return spark.read.format("delta").load(lake.table_path(table)).where(merging.among(BATCH_ID, names))


def _events(
    spark: SparkSession, clean: DataFrame, batches: list[dict[str, Any]], whole: bool
) -> list[dict[str, Any]]:
    """Insert-only. The months of the batch stand in the condition as literals, so that other months' files are not read.

    whole: `clean` holds all rows of the batches, so that they are counted in its months alone.
    """
    table = TABLES["silver.interactions"]
    merging.create(spark, table.name)
    months = sorted(row[EVENT_MONTH] for row in clean.select(EVENT_MONTH).distinct().collect())
    if months:
        same_month = f"t.{EVENT_MONTH} = s.{EVENT_MONTH} AND {merging.among(f't.{EVENT_MONTH}', months)}"
        with contextlib.nullcontext(clean) if ids_tell_times() else without_conflicts(spark, clean) as sound:
            first = merging.first_per(sound, table.key, [INGESTED_AT, BATCH_ID, ROW_NUMBER])
            merging.insert_new(spark, first.select(*table.columns), table.name, same_month)
    return _count_events([_with_conflicts(row, n) for row, n in _conflicts(batches)], months if whole else [])


def ids_tell_times() -> bool:
    """Whether equal ids cannot have two times: all are digests of lines, and every line's time was made in one way.

    Of all batches that ever came: a mended mapping reads a line that silver has at another time, maybe in another month,
    where a MERGE by month would not find it.
    """
    known = [batch for batch, row in ledger.latest().items() if row["kind"] == "events"]
    told = [ledger.manifest("events", batch) for batch in known]
    ways = {each.get("time_sha256") for each in told}
    return len(ways) == 1 and all(ways) and all(each.get("ids") == "derived" for each in told)


@contextlib.contextmanager
def without_conflicts(spark: SparkSession, clean: DataFrame) -> Iterator[DataFrame]:
    """The rows that `quarantine_conflicts` leaves; read several times, so kept in between."""
    kept = clean.persist()
    try:
        yield quarantine_conflicts(spark, kept)
    finally:
        kept.unpersist()


def quarantine_conflicts(spark: SparkSession, clean: DataFrame) -> DataFrame:
    """Quarantines rows whose sender-given id stands for another time: two different events must not share an id.

    The time that silver knows stands, else the earliest of these batches: whatever the order and however often they
    come, the same rows are refused. Returns the others.
    """
    from pyspark.sql import functions as F

    known = spark.read.format("delta").load(lake.table_path("silver.interactions"))
    known = known.select("event_id", F.col("event_time").alias("known_time"))
    standing = (
        clean.groupBy("event_id").agg(F.min("event_time").alias("earliest")).join(known, "event_id", "left")
    )
    standing = standing.select("event_id", F.coalesce("known_time", "earliest").alias("standing_time"))
    judged = clean.join(standing, "event_id")
    clashing = judged.where("event_time <> standing_time")
    if clashing.isEmpty():
        return clean
    merging.create(spark, "quarantine.events")
    path = lake.table_path("quarantine.events")
    clashing.select(*_as_received(clashing)).write.format("delta").mode("append").save(path)
    return judged.where("event_time = standing_time").select(*clean.columns)


def _as_received(rows: DataFrame) -> list[Column]:
    """Typed event rows as text again, in the columns of quarantine.events, with the one reason."""
    from pyspark.sql import functions as F

    def column(name: str, kind: str) -> Column:
        if name == "reasons":
            return F.array(F.lit(CONFLICT))
        if name == "properties":
            return F.to_json(name)
        if name in CONTRACTS["events"]:
            return F.col(name).cast("string")
        return F.col(name) if name in rows.columns else F.lit(None).cast(kind)

    return [column(*each).alias(each[0]) for each in TABLES["quarantine.events"].columns.items()]


def _conflicts(batches: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Each batch with its rows in quarantine for a conflict: counted there, where a killed run left them."""
    found: Counter[str] = Counter()
    if lake.exists("quarantine.events"):
        filters = [(BATCH_ID, "in", [row[BATCH_ID] for row in batches])]
        for row in lake.read("quarantine.events", columns=[BATCH_ID, "reasons"], filters=filters).to_pylist():
            found[row[BATCH_ID]] += CONFLICT in (row["reasons"] or [])
    return [(row, found[row[BATCH_ID]]) for row in batches]


def _with_conflicts(row: dict[str, Any], conflicts: int) -> dict[str, Any]:
    """The ledger row with so many conflicts, instead of those that it had from an earlier run."""
    reasons = dict(row["reasons"].get("quarantined", {}))
    others = row["quarantined"] - reasons.pop(CONFLICT, 0)
    if conflicts:
        reasons[CONFLICT] = conflicts
    return {**row, "quarantined": others + conflicts, "reasons": {**row["reasons"], "quarantined": reasons}}


def _count_events(batches: list[dict[str, Any]], months: list[str]) -> list[dict[str, Any]]:
    names = [row[BATCH_ID] for row in batches]
    filters = [(BATCH_ID, "in", names)] + ([(EVENT_MONTH, "in", months)] if months else [])
    found = lake.read("silver.interactions", columns=[BATCH_ID, "event_time"], filters=filters)
    counted = found.group_by(BATCH_ID).aggregate([("event_time", "count"), ("event_time", "max")]).to_pylist()
    kept = {row[BATCH_ID]: (row["event_time_count"], row["event_time_max"]) for row in counted}
    return [finished(row, *kept.get(row[BATCH_ID], (0, None))) for row in batches]


def _updates(
    spark: SparkSession, kind: str, clean: DataFrame, batches: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Items and users: every update into their history, then what is touched folded anew from its whole history.

    The fold does not depend on the order in which updates came; a field that an update leaves out keeps its last value.
    """
    history, newest = (TABLES[name] for name in UPDATES[kind])
    (key,) = newest.key
    merging.create(spark, history.name)
    merging.create(spark, newest.name)
    told = merging.last_known(clean, history.key, [BATCH_ID, ROW_NUMBER])
    merging.insert_new(spark, told.select(*history.columns), history.name)
    whole = spark.read.format("delta").load(lake.table_path(history.name))
    touched = whole.join(clean.select(key).distinct(), key, "left_semi")
    merging.upsert(
        spark, merging.last_known(touched, newest.key, ["updated_at"]).select(*newest.columns), newest.name
    )
    filters = [(BATCH_ID, "in", [row[BATCH_ID] for row in batches])]
    first_told = Counter(lake.read(history.name, columns=[BATCH_ID], filters=filters)[BATCH_ID].to_pylist())
    return [finished(row, first_told[row[BATCH_ID]]) for row in batches]


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
