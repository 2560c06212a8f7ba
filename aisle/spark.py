"""One place that knows how to get a Spark session.

`spark.remote` (``sc://host:port``) names a Spark Connect server: the warm one that `aisle up` starts, or a cluster's.
Empty, a session of its own runs here on local[*]. Both read the same tables through the same SQL.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from aisle.errors import MissingPrerequisite
from aisle.lake import home, project_root
from aisle.prerequisites import java_fault
from aisle.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def delta_jars() -> list[Path]:
    """The Delta jars that set-up resolved once into ``.jars/`` (or AISLE_JARS)."""
    folder = Path(os.environ.get("AISLE_JARS") or project_root() / ".jars")
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise MissingPrerequisite(f"no Delta jars in {folder}: run `make setup`, which resolves them once")
    return jars


def spark_conf(settings: Settings) -> dict[str, str]:
    """What a session or server of ours is configured with: Delta, UTC, and small shuffles for a small machine."""
    partitions = str(settings.spark.shuffle_partitions)
    return {
        "spark.jars": ",".join(map(str, delta_jars())),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": partitions,
        "spark.default.parallelism": partitions,
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
        "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.sql.warehouse.dir": str(home() / "run" / "warehouse"),
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -XX:+UseSerialGC {settings.spark.java_options}".strip(),
    }


def session(settings: Settings) -> SparkSession:
    """A session on the configured remote, else on the warm server that is up, else on this machine.

    Raises MissingPrerequisite where this machine would have to run it and has no fitting Java.
    """
    from pyspark.sql import SparkSession

    remote = settings.spark.remote or running_server()
    if remote:
        return SparkSession.builder.remote(remote).getOrCreate()
    fault = java_fault()
    if fault:
        raise MissingPrerequisite(fault)
    builder = SparkSession.builder.master(settings.spark.master).appName("aisle")
    for key, value in spark_conf(settings).items():
        builder = builder.config(key, value)
    found = builder.getOrCreate()
    found.sparkContext.setLogLevel("ERROR")
    return found


def running_server() -> str:
    """The address of the Spark Connect server that `aisle up` wrote down and that answers; empty when none."""
    import socket

    note = home() / "run" / "spark.address"
    if not note.exists():
        return ""
    remote = note.read_text().strip()
    host, _, port = remote.removeprefix("sc://").partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return remote
    except OSError:
        return ""
