"""The journal on disk: every write that the API accepted, one JSON object a line, in segments.

    $AISLE_HOME/journal/<kind>/<ms>-<writer>.jsonl    being written; its writer holds a lock on it
    $AISLE_HOME/journal/<kind>/<ms>-<writer>.landed   closed, and published as a landed batch where its kind is ingested

A line is `{"at": epoch microseconds, …}` with the columns of `bronze.<kind>` as text. A kill leaves a segment without a
lock: whoever finds it closes it. Only whole lines count; half a line was never acknowledged.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from aisle.columns import EVENT_TIME, KINDS, ROW_NUMBER, SET_ASIDE, UPDATED_AT
from aisle.erasures import Erased
from aisle.lake import home, landing
from aisle.tables import CONTRACTS

OPEN, CLOSED = ".jsonl", ".landed"
TEMPORARY = ".importing-"  # as the import names its folders: `maintain` removes what a kill left of one
BLOCK = 64 * 2**20  # bytes of JSON that are parsed at once; no line is longer


def folder(kind: str) -> Path:
    return home() / "journal" / kind


def segments(kind: str) -> list[Path]:
    """All segments of a kind, oldest first."""
    there = folder(kind)
    found = there.iterdir() if there.is_dir() else ()
    return sorted(
        (path for path in found if path.suffix in (OPEN, CLOSED) and path.name[0] != "."),
        key=lambda path: path.stem,
    )


def encoded(row: dict[str, Any]) -> bytes:
    return to_json(row) + b"\n"


class Segment:
    """A segment that this process writes. rows, size (bytes), opened (monotonic s): what decides when it is closed."""

    def __init__(self, kind: str):
        folder(kind).mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{secrets.token_hex(4)}{OPEN}"
        self.kind, self.path = kind, folder(kind) / name
        hidden = self.path.with_name(f".{name}")
        self.file = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        os.rename(hidden, self.path)  # under its name only when it is locked: nobody takes it for a dead one
        sync_folder(self.path.parent)
        self.rows = self.size = 0
        self.opened = time.monotonic()

    def write(self, lines: list[bytes]) -> None:
        """Appends lines, or, where the disk is full, none of them. Raises OSError."""
        left = memoryview(b"".join(lines))
        try:
            while left:
                left = left[os.write(self.file, left) :]
        except OSError:
            os.ftruncate(self.file, self.size)
            raise
        self.rows += len(lines)
        self.size = os.fstat(self.file).st_size

    def take_back(self, rows: int, size: int) -> None:
        """Back to what it was: rows and bytes. Raises OSError."""
        os.ftruncate(self.file, size)
        self.rows, self.size = rows, size

    def sync(self) -> None:
        os.fdatasync(self.file)

    def let_go(self) -> None:
        os.close(self.file)


def sync_folder(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def whole_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Rows from a byte offset on, and the offset after the last whole line. A segment that is gone has none."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return [], offset
    end = text.rfind(b"\n") + 1
    rows: list[dict[str, Any]] = from_json(b"[" + b",".join(text[:end].split(b"\n")[:-1]) + b"]")
    return rows, offset + end


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether an open segment is ours to close: nobody writes it any more, and nobody else closed it meanwhile."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path.exists()
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def close(path: Path, kind: str, erased: dict[str, Erased]) -> Path:
    """Publishes a segment as a landed batch, where its kind is ingested, and renames it; done twice it is done once.

    erased: by user; what they did before their erasure is not landed any more. The caller holds the segment.
    """
    if path.stat().st_size and kind != "erasures":
        publish(path, kind, erased)
    closed = path.with_suffix(CLOSED)
    os.rename(path, closed)
    sync_folder(path.parent)
    return closed


def batch_of(path: Path, kind: str) -> str:
    """The landed batch that a segment becomes."""
    return sha256(f"{kind}\n{path.stem}".encode()).hexdigest()[:16]


def publish(path: Path, kind: str, erased: dict[str, Erased]) -> None:
    """The segment as `lake/landing/<kind>/<batch>`, whole or not at all, in the format that `aisle import` writes."""
    import pyarrow.parquet as pq

    batch = batch_of(path, kind)
    final = landing(kind) / batch
    if (final / "manifest.json").exists():
        return
    rows = kept(read(path, kind), kind, erased)
    if not rows.num_rows:
        return
    manifest = {**described(rows, kind), "batch_id": batch, "kind": kind, "file": path.stem}
    staged = final.parent / f"{TEMPORARY}{batch}"
    shutil.rmtree(staged, ignore_errors=True)  # of who was killed here before: the segment is ours alone now
    staged.mkdir(parents=True)
    pq.write_table(as_landed(rows, kind), staged / "rows.parquet", compression="zstd")
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    for name in ("rows.parquet", "manifest.json"):
        with (staged / name).open("rb") as file:
            os.fsync(file.fileno())
    os.rename(staged, final)
    sync_folder(final.parent)


def read(path: Path, kind: str):
    """A segment as an Arrow table: at (int64) and the contract's columns as text; other kinds as they come."""
    import pyarrow as pa
    import pyarrow.json as pj

    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if not whole:
        return pa.table({"at": pa.array([], pa.int64())})
    columns = {name: pa.string() for name in CONTRACTS.get(kind, ())}
    schema = pa.schema({"at": pa.int64(), **columns})
    return pj.read_json(
        pa.BufferReader(whole),
        read_options=pj.ReadOptions(block_size=min(BLOCK, len(whole) + 1)),
        parse_options=pj.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore" if columns else "infer"
        ),
    )


def kept(rows, kind: str, erased: dict[str, Erased]):
    """Without what erased people did before their erasure, and nobody in their sessions; what another user did there stays."""
    if not erased or "user_id" not in rows.column_names or not rows.num_rows:
        return rows
    sessions = {session: each.at for each in erased.values() for session in each.sessions}
    users = rows["user_id"].to_pylist()
    of_sessions = rows["session_id"].to_pylist() if "session_id" in rows.column_names else [None] * len(users)
    mask = [
        at > (sessions.get(session, 0) if not user else erased[user].at if user in erased else 0)
        for user, session, at in zip(users, of_sessions, rows["at"].to_pylist(), strict=True)
    ]
    return rows if all(mask) else rows.filter(mask)


def as_landed(rows, kind: str):
    """In the columns of a landed batch: those of the contract, row_number from 1 on, set_aside_reason."""
    import pyarrow as pa

    if kind not in KINDS:
        return rows
    numbers = pa.array(range(1, rows.num_rows + 1), pa.int64())
    found = rows.drop_columns(["at"]).append_column(ROW_NUMBER, numbers)
    return found.append_column(SET_ASIDE, pa.nulls(rows.num_rows, pa.string()))


def described(rows, kind: str) -> dict[str, Any]:
    """What the manifest says of the rows. landed_at: the newest row's acceptance, later than none of them."""
    import pyarrow.compute as pc

    told: dict[str, Any] = {"oldest": None, "newest": None}
    moment = EVENT_TIME if kind == "events" else UPDATED_AT
    if moment in rows.column_names:  # ISO texts of one form: their order is that of the times
        told = {"oldest": pc.min(rows[moment]).as_py(), "newest": pc.max(rows[moment]).as_py()}
    return {
        **told,
        "rows": rows.num_rows,
        "set_aside": {},
        "malformed": 0,
        "outside_window": 0,
        "ids": "sender",
        "time_sha256": None,
        "source": "api",
        "mapping": "",
        "since": None,
        "until": None,
        "file_sha256": "",
        "mapping_sha256": "",
        "landed_at": datetime.fromtimestamp(pc.max(rows["at"]).as_py() / 1e6, UTC).isoformat(),
    }
