"""Whose an anonymous session was: what a visitor did before they logged in is theirs, for the tables of users in gold.

`silver.session_users` names the user of every session that has events of exactly one user and events of nobody near the first of
those: `features.gold` brings it up to date before it builds. The events themselves stay as they came, so that a session in which a
second user turns up is nobody's again, and an erasure takes the anonymous rows of a person's sessions along.

A row says what is known from `linked_at` on, the first event that named both. Up to then the visitor was nobody, so a point in time
before it does not see their anonymous events as the user's: training never sees tomorrow's log-in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from aisle import lake
from jobs import merging

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

LINKS = "silver.session_users"
KNOWN_AT = "known_at"
NAMED = "user_id IS NOT NULL AND session_id IS NOT NULL"
ANONYMOUS = "user_id IS NULL AND session_id IS NOT NULL"


def any_named(version: int) -> bool:
    """Whether an event of silver names a session and a user; without Spark, and done with the first one found."""
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    rows = DeltaTable(lake.table_path("silver.interactions"), version=version).to_pyarrow_dataset()
    both = pc.field("user_id").is_valid() & pc.field("session_id").is_valid()
    return bool(rows.scanner(columns=["session_id"], filter=both).head(1).num_rows)


def bring_up_to_date(spark: SparkSession, version: int, days: float) -> None:
    """`silver.session_users` as silver.interactions at `version` says it. Repeating it changes nothing.

    A shop whose events never name both pays for one look at two columns.
    """
    if not lake.exists(LINKS) and not any_named(version):
        return
    events = (
        spark.read.format("delta").option("versionAsOf", version).load(lake.table_path("silver.interactions"))
    )
    found = links(events, days).persist()
    try:
        if lake.exists(LINKS) or not found.isEmpty():
            merging.create(spark, LINKS)
            merging.become(spark, found, LINKS)
    finally:
        found.unpersist()


def links(events: DataFrame, days: float) -> DataFrame:
    """(session_id, user_id, linked_at) of the sessions of one user that have anonymous events within `days` of `linked_at`."""
    named = (
        events.where(NAMED)
        .groupBy("session_id")
        .agg(
            F.min("user_id").alias("user_id"),
            F.max("user_id").alias("other"),
            F.min("event_time").alias("linked_at"),
        )
        .where("user_id = other")
        .drop("other")
    )
    anonymous = events.where(ANONYMOUS).select("session_id", "event_time")
    near = named.join(anonymous, "session_id").where(F.lit(days > 0) & _near(F.col("event_time"), days))
    return near.select("session_id", "user_id", "linked_at").distinct()


def stitched(events: DataFrame, found: DataFrame | None, days: float) -> DataFrame:
    """Events of users, those of their anonymous sessions among them, with KNOWN_AT: the time from which they are known as theirs.

    found: rows of LINKS; None: nobody's session is known.
    """
    if found is None:
        return events.where("user_id is not null").withColumn(KNOWN_AT, F.col("event_time"))
    named = found.select("session_id", F.col("user_id").alias("owner"), "linked_at")
    joined = events.join(named, "session_id", "left")
    theirs = F.col("user_id").isNull() & F.col("owner").isNotNull() & _near(F.col("event_time"), days)
    late = F.when(theirs, F.greatest("event_time", "linked_at")).otherwise(F.col("event_time"))
    rows = joined.withColumn(KNOWN_AT, late).withColumn(
        "user_id", F.when(theirs, F.col("owner")).otherwise(F.col("user_id"))
    )
    return rows.where("user_id is not null").select(*events.columns, KNOWN_AT)


def _near(moment: Column, days: float) -> Column:
    span = F.lit(timedelta(days=days))
    return moment.between(F.col("linked_at") - span, F.col("linked_at") + span)
