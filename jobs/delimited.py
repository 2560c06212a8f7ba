"""Reading delimited text into DuckDB, strictly: what is no row is rejected with its line, and no quote swallows rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import duckdb

from aisle.errors import BadFile, BadMapping
from jobs.mapping import identifier, quoted, scanned

DELIMITERS = (",", ";", "\t", "|")
SWALLOWED = 1000  # more line ends than this in one value are a quote that was never closed


@dataclass(frozen=True)
class Layout:
    """How a file is laid out. blank: the lines without text before its header. header: whether it has one."""

    blank: int
    delimiter: str
    columns: tuple[str, ...]
    header: bool = True


def layout(readable: Path, header: tuple[str, ...] = (), delimiter: str = "") -> Layout:
    """The first line with text is the header; the delimiter is the one that splits it into most names.

    header: the names, where the file has none; delimiter: where it is said.
    """
    blank, first = 0, ""
    with readable.open(encoding="utf-8-sig", newline="") as text:
        for number, line in enumerate(text):
            if line.strip():
                blank, first = number, line
                break
    names = {each: _names(first, each) for each in ((delimiter,) if delimiter else DELIMITERS)}
    delimiter = max(names, key=lambda each: len(names[each]))
    found = tuple(name.strip() for name in names[delimiter])
    if header and len(header) != len(found):
        raise BadMapping(
            f'[source] header names {len(header)} columns ({", ".join(header)}) and the first line has {len(found)}, taken apart by {delimiter!r}: {first.strip()[:100]}; where it is another delimiter, say it: [source] delimiter = "::"'
        )
    return Layout(blank, delimiter, header or found, not header)


def _names(line: str, delimiter: str) -> list[str]:
    """Several characters between values know no quotes."""
    if len(delimiter) > 1:
        return line.strip("\r\n").split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


def read(con: duckdb.DuckDBPyConnection, readable: Path, path: Path, layout: Layout, folder: Path) -> None:
    """Fills the table ``lines``, and ``reject_errors`` with what is no row. Raises BadFile naming a quote that stays open.

    `folder`: where a copy of the file may be made.
    """
    try:
        _scan(con, readable, layout)
    except duckdb.Error:
        alike = _alike(readable, folder)
        if alike is None:
            raise
        readable = alike
        con.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
        _scan(con, readable, layout)
    _refuse_swallowed(con, readable, path, layout)


def _scan(con: duckdb.DuckDBPyConnection, readable: Path, layout: Layout) -> None:
    kinds = "{" + ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in layout.columns) + "}"
    con.execute(
        f"CREATE TABLE lines AS SELECT row_number() OVER () AS _row, * FROM read_csv({scanned(readable)}, auto_detect=false, "
        f"header={str(layout.header).lower()}, skip={layout.blank}, delim={quoted(layout.delimiter)}, quote='\"', escape='\"', columns={kinds}, "
        "store_rejects=true, rejects_limit=0, hive_partitioning=false)"
    )


def _alike(readable: Path, folder: Path) -> Path | None:
    """A copy with one kind of line ends where a file mixes two, which DuckDB does not read; None where it does not."""
    copy, kinds = folder / f"alike{readable.suffix}", set()
    with (
        readable.open(encoding="utf-8", newline="\n") as text,
        copy.open("w", encoding="utf-8", newline="") as out,
    ):
        for line in text:
            kinds.add(line.endswith("\r\n"))
            out.write(line.replace("\r\n", "\n"))
    return copy if len(kinds) == 2 else None


def _refuse_swallowed(con: duckdb.DuckDBPyConnection, readable: Path, path: Path, layout: Layout) -> None:
    """Raises BadFile where a quote that is not closed made one value, or one malformed line, of many lines.

    A value may hold line ends. It holds other rows when all its whole lines have a row's number of delimiters.
    """
    names = [identifier(name) for name in layout.columns]
    within = f"string_split(text, chr(10))[2:-2], lambda line: len(string_split(line, {quoted(layout.delimiter)})) <> {len(layout.columns)}"
    swallows = (
        f"len(string_split(text, chr(10))) > {SWALLOWED} OR "
        f"(len(string_split(text, chr(10))) > 3 AND len(list_filter({within})) = 0)"
    )
    found = (
        con.execute(
            "SELECT line, rtrim(csv_line, chr(10)) AS text FROM reject_errors WHERE contains(text, chr(10)) AND "
            f"(error_type = 'UNQUOTED VALUE' OR {swallows}) ORDER BY line LIMIT 1"
        ).fetchone()
        or con.execute(
            f"SELECT NULL, text FROM (SELECT _row, unnest([{', '.join(names)}]) AS text FROM lines WHERE "
            f"{' OR '.join(f'contains({name}, chr(10))' for name in names)}) WHERE {swallows} ORDER BY _row LIMIT 1"
        ).fetchone()
    )
    if found:
        line, text = found
        raise BadFile(
            f"{path}: the quote that opens in line {line or _line_of(readable, text)} goes on over {text.count(chr(10)):,} line "
            'ends: close it there, or write "" where a quote is meant'
        )


def _line_of(readable: Path, value: str) -> int:
    """The line of a file in which a quoted value of several lines begins."""
    first, second, *_ = value.replace('"', '""').split("\n")
    before = ""
    with readable.open(encoding="utf-8-sig", newline="\n") as text:
        for number, line in enumerate(text):
            if before.endswith(f'"{first}\n') and line.startswith(second):
                return number
            before = line
    return 1
