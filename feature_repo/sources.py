"""The gold tables as Feast reads them: Delta, with as_of as the time at which a row is known."""

from __future__ import annotations

from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.table_format import DeltaFormat

from aisle.columns import AS_OF
from aisle.lake import table_path
from aisle.tables import TABLES
from feature_repo.entities import OWNER


def gold(name: str) -> SparkSource:
    """The source over ``gold.<name>``; its path depends on AISLE_HOME or AISLE_LAKE."""
    table = TABLES[f"gold.{name}"]
    return SparkSource(
        name=f"gold_{name}",
        path=table_path(table.name),
        table_format=DeltaFormat(),
        timestamp_field=AS_OF,
        description=f"{table.doc[0].upper()}{table.doc[1:]}.",
        tags={"layer": "gold", "format": "delta"},
        owner=OWNER,
    )
