"""Every lake table, as the real loop wrote it, against its contract in aisle/tables.py: columns, types, key, partition."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aisle.tables import TABLES, Table

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]
ARROW = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "decimal(18,2)": pa.decimal128(18, 2),
}


def kind_of(found: pa.DataType) -> str:
    """The Spark SQL name of an Arrow type."""
    if pa.types.is_map(found):
        return f"map<{kind_of(found.key_type)},{kind_of(found.item_type)}>"
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return f"array<{kind_of(found.value_type)}>"
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return "string"
    return next(name for name, arrow in ARROW.items() if arrow == found)


@pytest.fixture(params=TABLES.values(), ids=TABLES.keys())
def written(shop: dict[str, str], request: pytest.FixtureRequest) -> tuple[Table, DeltaTable]:
    table: Table = request.param
    layer, name = table.name.split(".")
    path = Path(shop["AISLE_HOME"]) / "lake" / layer / name
    return table, DeltaTable(str(path))


def test_columns_and_types_are_the_contracts(written: tuple[Table, DeltaTable]) -> None:
    table, found = written
    schema = found.to_pyarrow_dataset().schema
    assert {field.name: kind_of(field.type) for field in schema} == table.columns


def test_it_is_partitioned_as_declared_and_has_its_properties(written: tuple[Table, DeltaTable]) -> None:
    table, found = written
    metadata = found.metadata()
    assert tuple(metadata.partition_columns) == table.partition
    assert table.properties.items() <= metadata.configuration.items()


def test_a_key_is_whole_and_names_one_row(written: tuple[Table, DeltaTable]) -> None:
    table, found = written
    rows = found.to_pyarrow_table(columns=list(table.key)) if table.key else None
    if rows is None:
        assert table.name.split(".")[0] in ("bronze", "quarantine", "ops"), "only what appends has no key"
        return
    assert rows.num_rows, f"the loop wrote nothing into {table.name}"
    assert not any(rows[column].null_count for column in table.key)
    assert rows.group_by(list(table.key)).aggregate([]).num_rows == rows.num_rows
