"""The SQL of a mapping file, judged before it makes a row: each text is one expression, holds, and gives one value a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from aisle.errors import BadMapping
from jobs.mapping import Mapping, close, column, group_by, lines

MULTIPLIERS = ("unnest", "unlist", "generate_subscripts")


def check(con: duckdb.DuckDBPyConnection, mapping: Mapping, columns: list[str], path: Path) -> None:
    """Binds every expression against the table ``lines``. Raises BadMapping that names each that does not hold."""
    faults, names = [], list(columns)
    for number, (name, sql) in enumerate(mapping.define.items()):
        if name.lower() in {each.lower() for each in columns}:
            faults.append(f"define.{name} is already a column of the file: name it otherwise")
        faults += _fault(con, f"define.{name}", sql, lines(mapping, number), names)
        names.append(name)
    if not faults:
        for place, sql, group in _expressions(mapping, names):
            faults += _fault(con, place, sql, lines(mapping), names, group)
    if faults:
        raise BadMapping(f"{path}: {'; '.join(faults)}. The file has: {', '.join(columns)}")


def blamed(
    con: duckdb.DuckDBPyConnection, mapping: Mapping, columns: list[str], path: Path
) -> BadMapping | None:
    """Which expression fails on the file's values, asked after the whole has failed; None where each works alone."""
    tried = [
        (f"define.{name}", sql, lines(mapping, n), "") for n, (name, sql) in enumerate(mapping.define.items())
    ]
    names = [*columns, *mapping.define]
    tried += [(place, sql, lines(mapping), group) for place, sql, group in _expressions(mapping, names)]
    for place, sql, table, group in tried:
        try:
            con.execute(f"SELECT count(v) FROM (SELECT CAST(({sql}) AS VARCHAR) AS v FROM {table}{group})")
        except duckdb.Error as error:
            words = str(error).splitlines()[0].rstrip(".")
            return BadMapping(
                f"{path}: {place} = {sql!r}: {words}. try_cast(… AS …) is null where a value does not fit"
            )
    return None


def _expressions(mapping: Mapping, names: list[str]) -> Iterator[tuple[str, str, str]]:
    """(place in the file, SQL, GROUP BY) of every expression, in the way it will be used."""
    by = group_by(mapping)
    if mapping.source.time:
        yield "source.time", column(mapping.source.time, names), ""
    for number, text in enumerate(mapping.group_by, 1):
        yield f"group_by {number}", text, ""
    for name, text in mapping.columns.items():
        yield f"columns.{name}", column(text, names), by
    for number, rule in enumerate(mapping.event_type, 1):
        if rule.when:
            yield f"event_type rule {number}", rule.when, by
    for number, rule in enumerate(mapping.set_aside, 1):
        yield f"set_aside rule {number}", rule.when, by


def _fault(
    con: duckdb.DuckDBPyConnection, place: str, sql: str, table: str, names: list[str], group: str = ""
) -> list[str]:
    """What is wrong with one expression, in a line; nothing where it can be bound."""
    shape = _shape_fault(con, sql)
    if shape:
        return [f"{place} = {sql!r} {shape}"]
    try:
        con.execute(f"EXPLAIN SELECT {'' if group else '_row, '}({sql}) FROM {table}{group}")
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        if '"_row"' in first:
            return [f"{place} = {sql!r} sums up several lines: say which with group_by = [...]"]
        unknown = first.split('"')[1] if first.count('"') >= 2 else ""
        return [f"{place} = {sql!r}: {first}{close(unknown, names) if unknown else ''}"]
    return []


def _shape_fault(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Why a text is not one expression that gives one value a row. Its syntax tree tells; nothing is run."""

    def tree(text: str) -> dict[str, Any]:
        return json.loads(con.execute("SELECT json_serialize_sql(?)", [f"SELECT ({text})"]).fetchone()[0])

    parsed = tree(sql)
    if parsed["error"]:
        return f"is no single SQL expression: {parsed['error_message'].rstrip('!')}"
    (node, alone) = (each["statements"][0]["node"] for each in (parsed, tree("1")))
    picked, _ = node.pop("select_list"), alone.pop("select_list")
    if len(parsed["statements"]) > 1 or len(picked) > 1 or node != alone or _uses(picked, "class", "STAR"):
        return "is more than one expression: write a single value"
    if any(_uses(picked, "function_name", name) for name in MULTIPLIERS):
        return "gives several rows for one line (unnest): take one value of the list, or to_json(list)"
    return ""


def _uses(tree: Any, key: str, value: str) -> bool:
    """Whether a syntax tree has such a node, subqueries left out."""
    if isinstance(tree, list):
        return any(_uses(each, key, value) for each in tree)
    if not isinstance(tree, dict) or tree.get("class") == "SUBQUERY":
        return False
    return str(tree.get(key, "")).lower() == value.lower() or any(
        _uses(each, key, value) for each in tree.values()
    )
