"""features.outcomes: what was shown joined with what people did next: `ops.recommendations` and `ops.outcomes`.

The exposure log of the API lands as `landing/exposures/<batch>/rows.parquet`; each batch is appended once. Then every list
that is not mature yet is joined anew with the events before `as_of`:

- by `request_id` and item, up to WINDOW_DAYS after it was served; an `impression` there says that it was seen;
- events without a request id, or with one of no list: same user (or session) and item, within 24 h after such an impression,
  to the newest one. An impression of that kind says so of the newest list within 24 h before it.

Served is not seen: without an impression `seen_at` is null. From WINDOW_DAYS after it was served an outcome is mature, and
stays as it is. Killed at any point it is repeated. A past `as_of` changes nothing: it would forget what came after.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aisle import clock, features, lake
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from jobs import merging

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

SHOWN, OUTCOMES = "ops.recommendations", "ops.outcomes"
KIND = "exposures"
WINDOW_DAYS = 7
ANSWER_HOURS = 24
ITEMS = "array<struct<item_id:string,position:int,source:string,score:double,propensity:double>>"
TEXTS = ("request_id", "user_id", "session_id", "model_version", "variant", "rung", "placement", "kind")
MOMENTS = {
    "seen_at": "impression",
    "clicked_at": "click",
    "viewed_at": "view",
    "carted_at": "cart",
    "purchased_at": "purchase",
    "liked_at": "like",
    "disliked_at": "dislike",
    "hidden_at": "hide",
}


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Appends new batches, joins what is not mature: {"as_of", "batches", "since"} or {"skip": why}."""
    as_of = clock.settled(context.as_of)
    built = features.built()
    if built and as_of < clock.parse(built.as_of):
        return {
            "skip": f"as_of {as_of:%Y-%m-%d} is a backfill: outcomes stand at {clock.parse(built.as_of):%Y-%m-%d}"
        }
    new = waiting()
    since = oldest_open(as_of)
    if not new and since is None:
        return {"skip": "no list was served whose outcomes are still open"}
    from aisle.spark import session

    spark = session(settings)
    if new:
        append(spark, new)
        since = oldest_open(as_of)
    if since is not None:
        join(spark, since, as_of)
    return {"as_of": as_of.isoformat(), "batches": len(new), "since": since.isoformat() if since else None}


def waiting() -> list[str]:
    """Landed batches of the exposure log that ops.recommendations does not hold, oldest name first; of which rows are left, since
    an erasure may take them all."""
    import pyarrow.parquet as pq

    folder = Path(lake.landing(KIND))
    if not folder.is_dir():
        return []
    landed = [
        each.name
        for each in sorted(folder.iterdir())
        if (each / "manifest.json").exists() and pq.read_metadata(each / "rows.parquet").num_rows
    ]
    if not landed or not lake.exists(SHOWN):
        return landed
    held = set(
        lake.read(SHOWN, columns=["batch_id"], filters=[("batch_id", "in", landed)])["batch_id"].to_pylist()
    )
    return [batch for batch in landed if batch not in held]


def oldest_open(as_of: datetime) -> datetime | None:
    """When the oldest list before `as_of` was served whose outcomes are not mature; None where there is none.

    A list of which every item has a mature outcome, or that has no item, is none of them: an empty page, or one told already.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not lake.exists(SHOWN):
        return None
    served = lake.read(SHOWN, columns=["served_at"], filters=[("served_at", "<", as_of)])["served_at"]
    # A list that came in late, such as from a segment of a process that was killed, is older than mature ones.
    left = served.filter(pc.invert(pc.is_in(served, pc.unique(_mature(["served_at"])["served_at"]))))
    ripe = pa.scalar(as_of - timedelta(days=WINDOW_DAYS), served.type)
    oldest = _oldest_untold(pc.unique(left.filter(pc.less_equal(left, ripe))).to_pylist())
    return oldest or pc.min(left.filter(pc.greater(left, ripe))).as_py()


def _mature(columns: list[str], *filters: tuple[str, str, object]) -> pa.Table:
    if not lake.exists(OUTCOMES):
        return lake.arrow_schema(OUTCOMES).empty_table().select(columns)
    return lake.read(OUTCOMES, columns=columns, filters=[("mature", "=", True), *filters])


def _oldest_untold(moments: list[datetime]) -> datetime | None:
    """The oldest of these moments at which a list was served that has an item without a mature outcome."""
    import pyarrow.compute as pc

    if not moments:
        return None
    columns = ("request_id", "served_at", "item_ids")
    lists = lake.read(SHOWN, columns=columns, filters=[("served_at", "in", moments)]).combine_chunks()
    if not len(lists):
        return None
    items = lists["item_ids"].chunk(0)
    pairs = lists.select(["request_id", "served_at"]).take(pc.list_parent_indices(items))
    pairs = pairs.append_column("item_id", pc.list_flatten(items))
    requests = pc.unique(lists["request_id"]).to_pylist()
    told = _mature(["request_id", "item_id"], ("request_id", "in", requests))
    return pc.min(pairs["served_at"].filter(pc.invert(pc.is_in(_keys(pairs), _keys(told))))).as_py()


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(rows["request_id"], rows["item_id"], "\n")


def append(spark: SparkSession, batches: list[str]) -> None:
    """The batches' rows into ops.recommendations, in one commit."""
    merging.create(spark, SHOWN)
    paths = {batch: str(Path(lake.landing(KIND)) / batch / "rows.parquet") for batch in batches}
    frames = [received(spark.read.parquet(path), batch) for batch, path in paths.items()]
    rows = frames[0]
    for frame in frames[1:]:
        rows = rows.unionByName(frame)
    merging.committed(lambda: rows.write.format("delta").mode("append").save(lake.table_path(SHOWN)))


def received(rows: DataFrame, batch: str) -> DataFrame:
    """Landed rows, texts all, in the columns of ops.recommendations. An empty text is no value; an erased row no list."""
    from pyspark.sql import functions as F

    shown = rows.where("request_id != ''").withColumn("shown", F.from_json("items", ITEMS))
    names = {"item_ids": "item_id", "positions": "position", "sources": "source", "scores": "score"}
    names["propensities"] = "propensity"
    return shown.select(
        *(F.when(F.col(name) != "", F.col(name)).alias(name) for name in TEXTS),
        F.col("served_at").cast("timestamp").alias("served_at"),
        F.from_json("experiments", "map<string,string>").alias("experiments"),
        *(F.col(f"shown.{field}").alias(name) for name, field in names.items()),
        F.lit(batch).alias("batch_id"),
    ).select(*TABLES[SHOWN].columns)


def join(spark: SparkSession, since: datetime, as_of: datetime) -> None:
    """Upserts the outcomes of what was served in [since, as_of)."""
    from pyspark.sql import functions as F

    def read(name: str) -> DataFrame:
        if not lake.exists(name):
            return spark.createDataFrame([], TABLES[name].ddl)
        return spark.read.format("delta").load(lake.table_path(name))

    served = (F.col("served_at") >= F.lit(since)) & (F.col("served_at") < F.lit(as_of))
    happened = (F.col("event_time") >= F.lit(since)) & (F.col("event_time") < F.lit(as_of))
    found = transform(read(SHOWN).where(served), read("silver.interactions").where(happened), as_of)
    merging.create(spark, OUTCOMES)
    done = read(OUTCOMES).where("mature").select("request_id", "item_id")
    merging.upsert(spark, found.join(done, ["request_id", "item_id"], "left_anti"), OUTCOMES)


def transform(shown: DataFrame, events: DataFrame, as_of: datetime) -> DataFrame:
    """Rows of ops.outcomes, one a list and item. shown: of ops.recommendations; events: of silver.interactions, before `as_of`."""
    from pyspark.sql import functions as F

    lists = one_per_item(shown)
    kinds = events.where(F.col("event_type").isin(*MOMENTS.values()) & F.col("item_id").isNotNull()).select(
        F.col("event_id"),
        F.col("event_type"),
        F.col("event_time"),
        F.coalesce("user_id", "session_id").alias("actor"),
        F.col("item_id"),
        F.col("request_id").alias("named"),
        (F.col("price").cast("double") * F.coalesce("quantity", F.lit(1.0))).alias("amount"),
    )
    by_request = kinds.join(
        lists.select(F.col("request_id").alias("named"), "item_id", "served_at"), ["named", "item_id"]
    ).where(F.col("event_time") <= F.col("served_at") + F.expr(f"INTERVAL {WINDOW_DAYS} DAYS"))
    by_request = by_request.select(F.col("named").alias("request_id"), "item_id", *_OF_EVENT)
    unnamed = kinds.join(by_request.select("event_id"), "event_id", "left_anti")
    seen = _seen(lists, unnamed, by_request)
    matched = by_request.withColumn("matched_by", F.lit("request")).unionByName(
        _after(unnamed, seen).withColumn("matched_by", F.lit("item"))
    )
    return _told(lists, matched, as_of)


_OF_EVENT = ("event_id", "event_type", "event_time", "amount")


def one_per_item(shown: DataFrame) -> DataFrame:
    """ops.recommendations with a row an item; of an item that a request id has twice, the first."""
    from pyspark.sql import functions as F

    own = (*TEXTS, "served_at", "experiments")
    zipped = F.explode(F.arrays_zip("item_ids", "positions", "sources", "scores", "propensities"))
    rows = shown.select(*own, zipped.alias("shown")).select(
        *own,
        F.coalesce("user_id", "session_id").alias("actor"),
        F.col("shown.item_ids").alias("item_id"),
        F.col("shown.positions").alias("position"),
        F.col("shown.sources").alias("source"),
        F.col("shown.scores").alias("score"),
        F.col("shown.propensities").alias("propensity"),
    )
    return merging.first_per(rows, ("request_id", "item_id"), ["served_at", "position"])


def _seen(lists: DataFrame, unnamed: DataFrame, by_request: DataFrame) -> DataFrame:
    """(request_id, item_id, actor, shown_at) of every impression: named ones, and those of the newest list within a day."""
    from pyspark.sql import functions as F

    named = by_request.where("event_type = 'impression'").join(
        lists.select("request_id", "item_id", "actor"), ["request_id", "item_id"]
    )
    impressions = unnamed.where("event_type = 'impression'")
    near = impressions.join(
        lists.select("request_id", "item_id", "actor", "served_at"), ["actor", "item_id"]
    ).where(
        F.col("event_time").between(
            F.col("served_at"), F.col("served_at") + F.expr(f"INTERVAL {ANSWER_HOURS} HOURS")
        )
    )
    newest = merging.first_per(
        near.withColumn("age", F.col("event_time") - F.col("served_at")), ("event_id",), ["age", "request_id"]
    )
    columns = ("request_id", "item_id", "actor", F.col("event_time").alias("shown_at"))
    return named.select(*columns).unionByName(newest.select(*columns))


def _after(unnamed: DataFrame, seen: DataFrame) -> DataFrame:
    """Events without a list of their own, given to the newest impression of the same person and item within the day before."""
    from pyspark.sql import functions as F

    near = unnamed.join(seen, ["actor", "item_id"]).where(
        F.col("event_time").between(
            F.col("shown_at"), F.col("shown_at") + F.expr(f"INTERVAL {ANSWER_HOURS} HOURS")
        )
    )
    newest = merging.first_per(
        near.withColumn("age", F.col("event_time") - F.col("shown_at")), ("event_id",), ["age", "request_id"]
    )
    return newest.select("request_id", "item_id", *_OF_EVENT)


def _told(lists: DataFrame, matched: DataFrame, as_of: datetime) -> DataFrame:
    from pyspark.sql import functions as F

    firsts = [
        F.min(F.when(F.col("event_type") == kind, F.col("event_time"))).alias(name)
        for name, kind in MOMENTS.items()
    ]
    value = F.sum(F.when(F.col("event_type") == "purchase", F.col("amount"))).alias("value")
    outcome = matched.groupBy("request_id", "item_id").agg(
        *firsts, value, F.max("matched_by").alias("matched_by")
    )
    mature = F.col("served_at") <= F.lit(as_of - timedelta(days=WINDOW_DAYS))
    rows = lists.join(outcome, ["request_id", "item_id"], "left").withColumn("mature", mature)
    return rows.select(
        *[rows[name].cast(kind).alias(name) for name, kind in TABLES[OUTCOMES].columns.items()]
    )
