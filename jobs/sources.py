"""Reading a foreign file into DuckDB: the table ``lines`` of text columns and ``_row``, and what could not be read.

A file that is not what it claims to be raises BadFile; a single malformed line is kept in ``malformed`` instead.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import duckdb

from aisle.errors import BadFile, BadMapping, DiskFull
from jobs import delimited
from jobs.mapping import Origin, identifier, quoted, scanned

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
GZIP = b"\x1f\x8b"
DISGUISES = {
    b"PAR1": "is a Parquet file: name it .parquet",
    b"PK\x03\x04": "is an Excel workbook or a zip archive: save it as CSV, or unpack it",
    GZIP: "is compressed by gzip: give its name the ending .gz as well, or unpack it first",
}
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ID_ENDINGS = ("id", "no", "nr", "number", "code", "key", "sku")
CHUNK = 1 << 20
BATCH_LINES = 10_000
LONGEST_LINE = 16_000_000  # characters of a line of JSON; a longer one is no line but another format


def file_format(path: Path) -> str:
    """csv, json or parquet, by the file's name. Raises BadFile where there is no such file or format."""
    if not path.is_file():
        raise BadFile(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}: give a CSV, JSON lines or Parquet file"
        )
    if text_ending(path) not in FORMATS:
        raise BadFile(
            f"{path}: {path.suffix or 'no ending'} says no format; name it {', '.join(FORMATS)}, or with .gz behind where gzip packed text"
        )
    if path.stat().st_size == 0:
        raise BadFile(f"{path} is empty")
    form = FORMATS[text_ending(path)]
    _look(path, form)
    return form


def text_ending(path: Path) -> str:
    """The ending that says the format, in small letters.

    >>> text_ending(Path("clicks.JSONL.gz")), text_ending(Path("sales.csv"))
    ('.jsonl', '.csv')
    """
    return Path(path.stem).suffix.lower() if _packed(path) else path.suffix.lower()


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _look(path: Path, form: str) -> None:
    """Raises BadFile where the first or last bytes of a file belong to another format, or to half a Parquet file."""
    with path.open("rb") as raw:
        head = raw.read(4)
        raw.seek(-min(4, path.stat().st_size), 2)
        tail = raw.read()
    if _packed(path):
        if form == "parquet" or not head.startswith(GZIP):
            what = "Parquet, which needs no packing" if form == "parquet" else "not packed by gzip"
            raise BadFile(f"{path} is {what}: take .gz off")
        return
    if form == "parquet":
        if head != b"PAR1":
            raise BadFile(
                f"{path} does not begin as a Parquet file does: name it by what it is, or export it again"
            )
        if tail != b"PAR1":
            raise BadFile(f"{path} is cut short, a Parquet file ends in PAR1: copy or export it again")
        return
    for magic, words in DISGUISES.items():
        if head.startswith(magic):
            raise BadFile(f"{path} {words}")


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def as_utf8(path: Path, encoding: str, folder: Path) -> Path:
    """The file itself if it is clean UTF-8, or a copy in UTF-8. Raises BadFile naming the line of a wrong byte or NUL."""
    try:
        "".encode(encoding)  # hex or base64 are codecs, but none of text
        decoder = codecs.getincrementaldecoder(encoding)()
        plain = codecs.lookup(encoding).name == "utf-8"
    except (LookupError, UnicodeError):
        raise BadMapping(
            f"source.encoding = {encoding!r} is no encoding; write utf-8, latin-1, cp1252 or utf-16"
        ) from None
    plain = plain and not _packed(path)
    copy, lines = folder / f"utf8{text_ending(path)}", 0
    with (
        _opened(path) as raw,
        open("/dev/null", "w") if plain else copy.open("w", encoding="utf-8", newline="") as out,
    ):
        while True:
            try:
                chunk = raw.read(CHUNK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise BadFile(f"{path} cannot be unpacked, {error}: copy or pack it again") from None
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                done = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                line = lines + bytes(done).count(b"\n") + 1
                likely = "utf-16" if _begins(path) in UTF16 else "latin-1"
                raise BadFile(
                    f'{path}: line {line} is not {encoding}; say what it is in a mapping: [source] encoding = "{likely}"'
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


def _begins(path: Path) -> bytes:
    with _opened(path) as raw:
        return raw.read(2)


def _opened(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked."""
    return cast(BinaryIO, gzip.open(path)) if _packed(path) else path.open("rb")


def read(con: duckdb.DuckDBPyConnection, path: Path, said: Origin, folder: Path) -> list[str]:
    """Fills the tables ``lines`` (_row, text columns) and ``malformed`` (line, text, fault); the foreign columns' names."""
    con.execute("CREATE TABLE malformed (line BIGINT, text VARCHAR, fault VARCHAR)")
    form = file_format(path)
    try:
        if form == "parquet":
            columns = _read_parquet(con, path)
        else:
            readable = as_utf8(path, said.encoding, folder)
            columns = (
                _read_csv(con, readable, path, folder, said)
                if form == "csv"
                else _read_json(con, readable, path)
            )
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
    return BadFile(f"{path} cannot be read as {FORMATS[text_ending(path)]}: {text[:300]}")


def _read_parquet(con: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    scan = (
        f"read_parquet({scanned(path)}, binary_as_string=true, file_row_number=true, hive_partitioning=false)"
    )
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
    if kind in ("DOUBLE", "FLOAT") and name.lower().endswith(ID_ENDINGS):
        # A number with gaps becomes a float in pandas: 12347.0 is the customer that a CSV calls 12347. Only ids: a
        # price of 2.0 is 2.0 in a CSV too, and the id of an event is a digest of these texts.
        whole = f"abs({column}) < 9e15 AND {column} = floor({column})"
        return f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
    return f"CAST({column} AS VARCHAR)"


def _read_csv(
    con: duckdb.DuckDBPyConnection, readable: Path, path: Path, folder: Path, said: Origin
) -> list[str]:
    """The delimiter is the one that splits the header into most names; rejected lines are kept with their fault."""
    layout = delimited.layout(readable, said.header, said.delimiter)
    _told_apart(list(layout.columns), path)
    delimited.read(con, readable, path, layout, folder)
    con.execute(
        "INSERT INTO malformed SELECT line, any_value(csv_line), any_value(error_message) FROM reject_errors GROUP BY line ORDER BY line"
    )
    return list(layout.columns)


def _read_json(con: duckdb.DuckDBPyConnection, readable: Path, path: Path) -> list[str]:
    """Each line an object; the columns are the names that occur in any of them. Other lines are malformed."""
    import pyarrow as pa

    schema = pa.schema([("_row", pa.int64()), ("line", pa.string())])
    con.register("numbered", pa.RecordBatchReader.from_batches(schema, _numbered(readable, schema)))
    # In a CASE, because the conditions of an AND are all evaluated and json_type fails on what is no JSON.
    con.execute(
        "CREATE TEMP TABLE raw AS SELECT *, CASE WHEN json_valid(line) THEN "
        "json_type(line) = 'OBJECT' AND NOT list_contains(json_keys(line), '') ELSE false END AS fine FROM numbered"
    )
    con.unregister("numbered")
    con.execute(
        "INSERT INTO malformed SELECT _row, line, 'not a JSON object, or a name in it is empty' FROM raw WHERE NOT fine"
    )
    found = con.execute(
        "SELECT DISTINCT unnest(json_keys(line)) AS name FROM raw WHERE fine ORDER BY name"
    ).fetchall()
    if not found:
        raise BadFile(
            f"{path} has no line that is a JSON object with names: write one object a line, without a list around them"
        )
    columns = _told_apart([name for (name,) in found], path)
    places = ", ".join(quoted("/" + name.replace("~", "~0").replace("/", "~1")) for name in columns)
    picked = ", ".join(f"found[{number}] AS {identifier(name)}" for number, name in enumerate(columns, 1))
    con.execute(
        f"CREATE TABLE lines AS SELECT _row, {picked} FROM "
        f"(SELECT _row, json_extract_string(line, [{places}]) AS found FROM raw WHERE fine)"
    )
    con.execute("DROP TABLE raw")
    return columns


def _numbered(readable: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The lines of a file that are not blank, with their numbers; an overlong one is cut, which makes it malformed."""
    import pyarrow as pa

    with readable.open(encoding="utf-8-sig", newline="\n") as text:
        full = ((number, line.strip()) for number, line in enumerate(text, 1) if not line.isspace())
        for some in itertools.batched(full, BATCH_LINES):
            numbers = [number for number, _ in some]
            lines = [line if len(line) <= LONGEST_LINE else f"{line[:1000]} …" for _, line in some]
            yield pa.record_batch([numbers, lines], schema=schema)


def _told_apart(columns: list[str], path: Path) -> list[str]:
    """Column names that can be told apart. Raises BadFile otherwise."""
    lower = [name.lower() for name in columns]
    if "_row" in lower:
        raise BadFile(
            f"{path}: a column is named _row, which stands for the number of a line here: name it otherwise"
        )
    twice = sorted({name for name in columns if lower.count(name.lower()) > 1})
    if not all(columns) or twice:
        raise BadFile(
            f"{path}: {'columns named twice: ' + ', '.join(twice) if twice else 'a column has no name'}"
        )
    return columns
