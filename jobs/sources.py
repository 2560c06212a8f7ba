"""Reading a foreign file into DuckDB: the table ``lines`` of text columns and ``_row``, and what could not be read.

A file that is not what it claims to be raises BadFile; a single malformed line is kept in ``malformed`` instead.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
from pathlib import Path

import duckdb

from aisle.errors import BadFile, BadMapping, DiskFull
from jobs.mapping import identifier, quoted

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = (",", ";", "\t", "|")
CHUNK = 1 << 20


def file_format(path: Path) -> str:
    """csv, json or parquet, by the file's name. Raises BadFile where there is no such file or format."""
    if not path.is_file():
        raise BadFile(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}: give a CSV, JSON lines or Parquet file"
        )
    if path.suffix.lower() not in FORMATS:
        raise BadFile(f"{path}: {path.suffix or 'no ending'} says no format; name it {', '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise BadFile(f"{path} is empty")
    return FORMATS[path.suffix.lower()]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def as_utf8(path: Path, encoding: str, folder: Path) -> Path:
    """The file itself if it is clean UTF-8, or a copy in UTF-8. Raises BadFile naming the line of a wrong byte or NUL."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        plain = codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        raise BadMapping(
            f"source.encoding = {encoding!r} is no encoding; write utf-8, latin-1, cp1252 or utf-16"
        ) from None
    copy, lines = folder / f"utf8{path.suffix}", 0
    with (
        path.open("rb") as raw,
        open("/dev/null", "w") if plain else copy.open("w", encoding="utf-8", newline="") as out,
    ):
        while True:
            chunk = raw.read(CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line = lines + bytes(error.object[: error.start]).count(b"\n") + 1
                raise BadFile(
                    f'{path}: line {line} is not {encoding}; say what it is in a mapping: [source] encoding = "latin-1"'
                ) from None
            if "\0" in text:
                line = lines + text[: text.index("\0")].count("\n") + 1
                raise BadFile(
                    f"{path}: line {line} holds a NUL byte: it is damaged, or no text of encoding {encoding}"
                )
            lines += text.count("\n")
            if not plain:
                out.write(text)
            if not chunk:
                return path if plain else copy


def read(con: duckdb.DuckDBPyConnection, path: Path, encoding: str, folder: Path) -> list[str]:
    """Fills the tables ``lines`` (_row, text columns) and ``malformed`` (line, text, fault); the foreign columns' names."""
    con.execute("CREATE TABLE malformed (line BIGINT, text VARCHAR, fault VARCHAR)")
    form = file_format(path)
    try:
        if form == "parquet":
            columns = _read_parquet(con, path)
        else:
            readable = as_utf8(path, encoding, folder)
            columns = _read_csv(con, readable, path) if form == "csv" else _read_json(con, readable, path)
    except duckdb.Error as error:
        raise wrong_file(error, path) from None
    if (
        not con.execute("SELECT count(*) FROM lines").fetchone()[0]
        and not con.execute("SELECT count(*) FROM malformed").fetchone()[0]
    ):
        raise BadFile(f"{path} has a header and no rows")
    return columns


def wrong_file(error: duckdb.Error, path: Path) -> Exception:
    """What a DuckDB error says of the file, in one line."""
    text = " ".join(str(error).split())
    if "No space left" in text:
        return DiskFull(f"no room left while importing {path}: free some and repeat; nothing was landed")
    return BadFile(f"{path} cannot be read as {FORMATS[path.suffix.lower()]}: {text[:300]}")


def _read_parquet(con: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    scan = f"read_parquet({quoted(path)}, binary_as_string=true, file_row_number=true)"
    kinds = {
        name: kind
        for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
        if name != "file_row_number"
    }
    columns = _told_apart(list(kinds), path)
    texts = ", ".join(f"{_as_text(name, kind)} AS {identifier(name)}" for name, kind in kinds.items())
    con.execute(f"CREATE TABLE lines AS SELECT file_row_number + 1 AS _row, {texts} FROM {scan}")
    return columns


def _as_text(name: str, kind: str) -> str:
    """A typed Parquet value as text: lists and maps as JSON, moments in UTC."""
    column = identifier(name)
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({column}) AS VARCHAR)"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"CAST({column} AT TIME ZONE 'UTC' AS VARCHAR)"
    return f"CAST({column} AS VARCHAR)"


def _read_csv(con: duckdb.DuckDBPyConnection, readable: Path, path: Path) -> list[str]:
    """The delimiter is the one that splits the header into most names; rejected lines are kept with their fault."""
    with readable.open(encoding="utf-8-sig", newline="") as text:
        header = text.readline()
    delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))
    columns = _told_apart(
        [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])], path
    )
    kinds = "{" + ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in columns) + "}"
    con.execute(
        f"CREATE TABLE lines AS SELECT row_number() OVER () AS _row, * FROM read_csv({quoted(readable)}, auto_detect=false, "
        f"header=true, delim={quoted(delimiter)}, quote='\"', escape='\"', columns={kinds}, store_rejects=true, rejects_limit=0)"
    )
    con.execute(
        "INSERT INTO malformed SELECT line, any_value(csv_line), any_value(error_message) FROM reject_errors GROUP BY line ORDER BY line"
    )
    return columns


def _read_json(con: duckdb.DuckDBPyConnection, readable: Path, path: Path) -> list[str]:
    """Each line an object; the columns are the names that occur in any of them."""
    con.execute(
        f"CREATE TEMP TABLE raw AS SELECT row_number() OVER () AS _row, line FROM read_csv({quoted(readable)}, auto_detect=false, "
        "header=false, delim='\x01', quote='', escape='', columns={'line': 'VARCHAR'}, max_line_size=16000000)"
    )
    con.execute("ALTER TABLE raw ADD COLUMN fine BOOLEAN")
    con.execute(
        "UPDATE raw SET fine = json_valid(line) AND json_type(line) = 'OBJECT' WHERE trim(line) <> ''"
    )
    con.execute("INSERT INTO malformed SELECT _row, line, 'not a JSON object' FROM raw WHERE NOT fine")
    found = con.execute(
        "SELECT DISTINCT unnest(json_keys(line)) AS name FROM raw WHERE fine ORDER BY name"
    ).fetchall()
    if not found:
        raise BadFile(f"{path} has no line that is a JSON object with names")
    columns = _told_apart([name for (name,) in found], path)
    places = ", ".join(quoted(f'$."{name}"') for name in columns)
    picked = ", ".join(f"found[{number}] AS {identifier(name)}" for number, name in enumerate(columns, 1))
    con.execute(
        f"CREATE TABLE lines AS SELECT _row, {picked} FROM "
        f"(SELECT _row, json_extract_string(line, [{places}]) AS found FROM raw WHERE fine)"
    )
    con.execute("DROP TABLE raw")
    return columns


def _told_apart(columns: list[str], path: Path) -> list[str]:
    """Column names that can be told apart. Raises BadFile otherwise."""
    lower = [name.lower() for name in columns]
    twice = sorted({name for name in columns if lower.count(name.lower()) > 1})
    if not all(columns) or twice:
        raise BadFile(
            f"{path}: {'columns named twice: ' + ', '.join(twice) if twice else 'a column has no name'}"
        )
    return columns
