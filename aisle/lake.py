"""Where state lies, and quick access to Delta tables without Spark.

Layout under AISLE_HOME: ``lake/<layer>/<table>``, ``lake/landing/<kind>/<batch_id>``, ``feast/``, ``mlflow/``,
``airflow/``, ``releases/``, ``reports/``, ``run/`` (pids and ports), ``logs/``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aisle.errors import NotThere
from aisle.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as pa_dataset


def project_root() -> Path:
    """The checkout: where conf/, data/ and jars/ lie."""
    return Path(__file__).resolve().parent.parent


def home() -> Path:
    """AISLE_HOME, or ``.aisle`` in the checkout."""
    return Path(os.environ.get("AISLE_HOME") or project_root() / ".aisle").expanduser().absolute()


def table_path(name: str) -> str:
    """The path (or s3 URI, by AISLE_LAKE) of a table, which must be one of ``aisle.tables``."""
    if name not in TABLES:
        raise NotThere(f"no table named {name!r}; the tables are {', '.join(TABLES)}")
    root = os.environ.get("AISLE_LAKE") or str(home() / "lake")
    return f"{root.rstrip('/')}/{name.replace('.', '/')}"


def landing(kind: str) -> Path:
    return home() / "lake" / "landing" / kind


def exists(name: str) -> bool:
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(table_path(name))


def version(name: str) -> int:
    """The Delta version of a table; -1 where it was never written."""
    from deltalake import DeltaTable

    return DeltaTable(table_path(name)).version() if exists(name) else -1


def read(
    name: str,
    columns: Sequence[str] | None = None,
    filters: list[tuple[str, str, object]] | None = None,
    at_version: int | None = None,
) -> pa.Table:
    """Rows of a table as Arrow, without Spark. `filters` are (column, op, value), joined by AND.

    Raises NotThere where the table was never written.
    """
    from deltalake import DeltaTable

    if not exists(name):
        raise NotThere(
            f"table {name} is empty: nothing was written to {table_path(name)} yet; run the DAGs first"
        )
    table = DeltaTable(table_path(name), version=at_version)
    wanted = list(columns) if columns else None
    if not filters:
        return table.to_pyarrow_table(columns=wanted)
    rows = table.to_pyarrow_dataset()
    return _filtered(rows, wanted or rows.schema.names, filters)


def _filtered(
    rows: pa_dataset.Dataset, columns: list[str], filters: list[tuple[str, str, object]]
) -> pa.Table:
    """Files that a Delta delete wrote anew hold their texts as views, which Arrow does not compare within a file: their rows are
    filtered batch by batch instead, of the files that may have some.
    """
    import pyarrow as pa
    from pyarrow.parquet import filters_to_expression

    condition = filters_to_expression(filters)
    try:
        return rows.to_table(columns=columns, filter=condition)
    except pa.ArrowNotImplementedError:
        needed = list(dict.fromkeys([*columns, *(column for column, _, _ in filters)]))
        parts = [
            pa.Table.from_batches([batch]).filter(condition).select(columns)
            for fragment in rows.get_fragments(filter=condition)
            for batch in fragment.to_batches(schema=rows.schema, columns=needed)
        ]
        empty = pa.schema([rows.schema.field(column) for column in columns]).empty_table()
        return pa.concat_tables([empty, *parts])


def read_frame(name: str, **kwargs) -> pd.DataFrame:
    """`read`, as a pandas frame."""
    return read(name, **kwargs).to_pandas()


def append(name: str, rows: pd.DataFrame | list[dict]) -> None:
    """Append to an ``ops`` table without Spark. Columns are put in the order and types of ``aisle.tables``."""
    import pyarrow as pa
    from deltalake import write_deltalake

    if not isinstance(rows, list):
        rows = rows.to_dict("records")
    schema = arrow_schema(name)
    write_deltalake(table_path(name), pa.Table.from_pylist(rows, schema=schema), mode="append")


_ARROW = {
    "string": "string",
    "double": "float64",
    "bigint": "int64",
    "int": "int32",
    "boolean": "bool_",
}


def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of a table; timestamps are UTC microseconds, lists and maps of strings or numbers."""
    import pyarrow as pa

    def kind(text: str) -> pa.DataType:
        if text == "timestamp":
            return pa.timestamp("us", tz="UTC")
        if text.startswith("decimal"):
            precision, scale = text[8:-1].split(",")
            return pa.decimal128(int(precision), int(scale))
        if text.startswith("array<"):
            return pa.list_(kind(text[6:-1]))
        if text.startswith("map<"):
            return pa.map_(pa.string(), pa.string())
        return getattr(pa, _ARROW[text])()

    return pa.schema([(column, kind(text)) for column, text in TABLES[name].columns.items()])


def workdir(stage: str, run_id: str) -> Path:
    """The folder that the steps of one run of a stage share; named by the run, safe to reuse on a retry."""
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in run_id)
    folder = home() / "runs" / stage / safe
    folder.mkdir(parents=True, exist_ok=True)
    return folder
