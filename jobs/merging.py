"""How rows meet a Delta table by its key: picked to one row per key, inserted or upserted by MERGE, repeatable at any point.

SQL throughout, so that a session here and a Spark Connect server do the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aisle import lake
from aisle.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TRIES = 5


def among(column: str, values: list[str]) -> str:
    """SQL: the column is one of these texts.

    >>> among("batch_id", ["a", "o'b"])
    "batch_id IN ('a', 'o''b')"
    """
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def first_per(rows: DataFrame, keys: tuple[str, ...], order: list[str]) -> DataFrame:
    """One whole row per key, the first by `order`. MERGE needs one row per key of its source."""
    from pyspark.sql import functions as F

    picked = F.min_by(F.struct("*"), F.struct(*order)).alias("picked")
    return rows.groupBy(*keys).agg(picked).select("picked.*")


def last_known(rows: DataFrame, keys: tuple[str, ...], order: list[str]) -> DataFrame:
    """One row per key: of each column the last value by `order` that is not null."""
    from pyspark.sql import functions as F

    moment = F.struct(*order)
    values = [
        F.max_by(name, F.when(F.col(name).isNotNull(), moment)).alias(name)
        for name in rows.columns
        if name not in keys
    ]
    return rows.groupBy(*keys).agg(*values)


def create(spark: SparkSession, name: str) -> None:
    """The empty table by its contract, once."""
    if lake.exists(name):
        return
    table = TABLES[name]
    partition = f" PARTITIONED BY ({', '.join(table.partition)})" if table.partition else ""
    wanted = {**table.properties, "delta.enableDeletionVectors": "false"}
    properties = ", ".join(f"'{key}' = '{value}'" for key, value in wanted.items())
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS delta.`{lake.table_path(name)}` ({table.ddl}) USING DELTA{partition} "
        f"TBLPROPERTIES ({properties})"
    )


def insert_new(spark: SparkSession, rows: DataFrame, name: str, condition: str = "true") -> None:
    """Inserts the rows whose key the table does not hold. `condition`: SQL over t and s that narrows where to look."""
    _merge(spark, rows, name, condition, "WHEN NOT MATCHED THEN INSERT *")


def upsert(spark: SparkSession, rows: DataFrame, name: str) -> None:
    """Rows replace those of the same key, or are inserted."""
    _merge(spark, rows, name, "true", "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")


def become(spark: SparkSession, rows: DataFrame, name: str) -> None:
    """The table comes to hold these rows and no others; what is the same already is not written, nor told by its change feed."""
    table = TABLES[name]
    values = [column for column in table.columns if column not in table.key]
    differs = " OR ".join(f"NOT (t.{column} <=> s.{column})" for column in values)
    clauses = f"WHEN MATCHED AND ({differs}) THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT * WHEN NOT MATCHED BY SOURCE THEN DELETE"
    _merge(spark, rows, name, "true", clauses)


def _merge(spark: SparkSession, rows: DataFrame, name: str, condition: str, clauses: str) -> None:
    staged = f"staged_{name.replace('.', '_')}"  # a view a table: the kinds are merged side by side
    rows.createOrReplaceTempView(staged)
    on = " AND ".join([*(f"t.{key} = s.{key}" for key in TABLES[name].key), condition])
    merge = f"MERGE INTO delta.`{lake.table_path(name)}` t USING {staged} s ON {on} {clauses}"
    committed(lambda: spark.sql(merge).collect())


def committed(write: Callable[[], object]) -> None:
    """Runs a write that may be repeated until it is committed.

    Another writer's commit in between is no fault, such as that of a step which was killed while the Spark server went on
    with its work: Delta says so, and the write is taken again.
    """
    for attempt in range(1, TRIES + 1):
        try:
            write()
            return
        except Exception as error:
            if "Concurrent" not in type(error).__name__ + str(error)[:500] or attempt == TRIES:
                raise
            time.sleep(0.5 * attempt)
