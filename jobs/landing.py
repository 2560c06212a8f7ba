"""`aisle import`: a foreign file becomes one landed batch, whole or not at all. DuckDB does it; no Spark.

A batch is ``lake/landing/<kind>/<batch_id>/`` with ``rows.parquet`` (the columns of bronze.<kind> without ingested_at)
and ``manifest.json``. Its id names the file's bytes, the mapping's meaning and the window, so that the same import
is the same batch. It is written in a folder beside and renamed: a kill or a full disk leaves no half batch.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb

from aisle import ledger
from aisle.columns import EVENT_TIME, KINDS, SET_ASIDE, UPDATED_AT
from aisle.errors import BadFile, DiskFull
from aisle.lake import landing
from aisle.settings import Settings
from aisle.tables import CONTRACTS
from jobs import expressions, rated, sources
from jobs import mapping as mappings

TEMPORARY = ".importing-"
QUIET_SECONDS = 2.0
MALFORMED = {
    "events": "properties",
    "items": "attributes",
    "users": "attributes",
}  # the map that keeps a malformed line


@dataclass(frozen=True)
class ImportReport:
    """What an import did. `already`: the batch was there; `status` is then what the ledger says of it. ratings: see jobs.rated.

    otherwise: batches that have lines of the same file, read by another mapping.
    """

    batch_id: str
    kind: str
    file: str
    rows: int
    set_aside: dict[str, int]
    malformed: int
    outside_window: int
    ids: str
    already: bool
    status: str
    seconds: float
    ratings: dict[str, Any] | None = None
    otherwise: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """The report for a person, with what to do next."""
        if self.already:
            again = (
                "; it was refused then and is judged once more"
                if self.status == "rejected"
                else f" ({self.status})"
            )
            return f"{self.file} is already imported as batch {self.batch_id}{again}. Next: aisle run ingest"
        lines = [
            f"{self.kind}: {self.rows:,} rows of {self.file} landed as batch {self.batch_id} in {self.seconds:.1f} s"
        ]
        lines += [f"  set aside {count:>9,}  {reason}" for reason, count in self.set_aside.items()]
        if self.ratings:
            lines.append(rated.words(self.ratings))
        if self.malformed:
            lines.append(
                f"  malformed {self.malformed:>9,}  lines that could not be read; they go to quarantine.{self.kind}"
            )
        if self.outside_window:
            lines.append(f"  left out  {self.outside_window:>9,}  lines outside the window")
        if self.otherwise:
            lines.append(
                f"  This file came before by another mapping (batch {', '.join(self.otherwise)}). Events that silver has stay as that one read "
                "them, and these are repetitions: to read all of them anew, import into an empty AISLE_HOME"
            )
        return "\n".join([*lines, "Next: aisle run ingest"])


def import_file(
    settings: Settings,
    kind: str,
    path: Path | str,
    mapping: Path | str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ImportReport:
    """Lands the rows of a file that lie in [since, until). Raises BadFile or BadMapping, with nothing landed.

    `kind`: events, items or users. `mapping`: a TOML file (docs/importing.md); without it the header must be the contract's.
    """
    started, path = time.monotonic(), Path(path)
    if kind not in KINDS:
        raise BadFile(f"{kind!r} is no kind of rows; import {', '.join(KINDS)}")
    sources.file_format(path)
    rules = mappings.load(Path(mapping), kind, path.name) if mapping else None
    window = [moment.astimezone(UTC).isoformat() if moment else None for moment in (since, until)]
    parts = [
        kind,
        sources.fingerprint(path),
        rules.digest if rules else "",
        *[bound or "" for bound in window],
    ]
    batch_id = sha256("\n".join(parts).encode()).hexdigest()[:16]
    final = landing(kind) / batch_id
    if (final / "manifest.json").exists():
        return _already(final, path, started)
    with _temporary(final.parent, path) as folder, _progress(f"importing {path.name}"):
        manifest = _write(folder, kind, path, rules, Path(mapping) if mapping else path, window)
        manifest |= {
            "batch_id": batch_id,
            "kind": kind,
            "file": str(path.absolute()),
            "file_sha256": parts[1],
            "mapping_sha256": parts[2],
            "ratings": rated.told(folder / "rows.parquet", settings.ingest) if kind == "events" else None,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
        if not _publish(folder, final):
            return _already(final, path, started)
    return _report(manifest, path, started, already=False, status="landed")


def _already(final: Path, path: Path, started: float) -> ImportReport:
    """Not again; but a batch that was rejected is put back before the judge: the threshold may have been raised."""
    manifest = json.loads((final / "manifest.json").read_text())
    batch = manifest["batch_id"]
    row = ledger.latest().get(batch)
    status = row["status"] if row else "landed"
    if status == ledger.REJECTED:
        with ledger.writing():  # read again: a run may have judged it while we waited
            row = ledger.latest()[batch]
            if row["status"] == ledger.REJECTED:
                ledger.record([{**row, "status": ledger.BRONZE}], run_id="import")
    return _report(manifest, path, started, already=True, status=status)


def _report(manifest: dict[str, Any], path: Path, started: float, already: bool, status: str) -> ImportReport:
    known = {
        name: manifest[name]
        for name in ("batch_id", "kind", "rows", "set_aside", "malformed", "outside_window", "ids")
    }
    return ImportReport(
        **known,
        file=path.name,
        already=already,
        status=status,
        seconds=round(time.monotonic() - started, 2),
        ratings=manifest.get("ratings"),
        otherwise=[] if already else _otherwise(manifest),
    )


def _otherwise(manifest: dict[str, Any]) -> list[str]:
    """Batches that were not refused, with events of the same bytes read by another mapping; their ids are digests of lines, as these are.

    An item or a user is told anew by any later line, so that they have no such batches.
    """
    if manifest["kind"] != "events" or manifest["ids"] != "derived":
        return []
    refused = {batch for batch, row in ledger.latest().items() if row["status"] == ledger.REJECTED}
    told = [
        json.loads(each.read_text()) for each in sorted(landing(manifest["kind"]).glob("*/manifest.json"))
    ]
    return [
        each["batch_id"]
        for each in told
        if each.get("file_sha256") == manifest["file_sha256"]
        and each.get("mapping_sha256") != manifest["mapping_sha256"]
        and each.get("ids") == "derived"
        and each["batch_id"] not in refused
    ]


def _write(
    folder: Path, kind: str, path: Path, rules: mappings.Mapping | None, named: Path, window: list[str | None]
) -> dict[str, Any]:
    """Reads, maps and writes rows.parquet; returns what the manifest says of it."""
    con = duckdb.connect(
        config={"temp_directory": str(folder / "spill"), "autoinstall_known_extensions": "false"}
    )
    with con:
        con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
        columns = sources.read(con, path, rules.source if rules else mappings.Origin(), folder)
        rules, given = rules or mappings.identity(columns, kind, path.name), rules is not None
        _shut_in(con, folder)
        expressions.check(con, rules, columns, named)
        try:
            rows = f"{mappings.select(rules, columns, *window)} UNION ALL {_malformed(kind)}"
            con.execute(f"COPY ({rows}) TO {mappings.quoted(folder / 'rows.parquet')} (FORMAT parquet)")
            found = _measure(con, rules, columns, window, folder / "rows.parquet")
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise sources.wrong_file(error, path) from None
        except duckdb.Error as error:
            raise expressions.blamed(con, rules, columns, named) or sources.wrong_file(error, path) from None
    if not found["rows"]:
        raise BadFile(
            f"{path} has no rows in the window from {window[0] or 'the start'} to {window[1] or 'the end'}"
        )
    shutil.rmtree(folder / "spill", ignore_errors=True)
    for copy in ("utf8", "alike"):
        (folder / f"{copy}{sources.text_ending(path)}").unlink(missing_ok=True)
    return {
        **found,
        "source": rules.source.name,
        "mapping": named.name if given else "",
        "since": window[0],
        "until": window[1],
    }


def _shut_in(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """From here on SQL, the mapping's above all, reaches no file or address but the batch's own folder."""
    con.execute(
        f"SET allowed_directories = [{mappings.quoted(folder)}, {mappings.scanned(folder)}]; SET enable_external_access = false; "
        "SET lock_configuration = true"
    )


def _malformed(kind: str) -> str:
    """Lines that could not be read follow the others, kept as they are in a map: a row rule names them."""
    names = ["row_number", *CONTRACTS[kind], SET_ASIDE]
    kept = (
        "CAST(json_object('malformed_line', text, 'line', CAST(line AS VARCHAR), 'fault', fault) AS VARCHAR)"
    )
    number = "(SELECT coalesce(max(_row), 0) FROM lines) + row_number() OVER (ORDER BY line)"
    return f"SELECT {', '.join({'row_number': number, MALFORMED[kind]: kept}.get(name, 'NULL') for name in names)} FROM malformed"


def _measure(
    con: duckdb.DuckDBPyConnection,
    rules: mappings.Mapping,
    columns: list[str],
    window: list[str | None],
    written: Path,
) -> dict[str, Any]:
    """The manifest's counts, from the rows as written."""
    con.execute(
        f"CREATE VIEW landed AS SELECT * FROM read_parquet({mappings.scanned(written)}, hive_partitioning = false)"
    )
    moment = f"try_cast({EVENT_TIME if rules.kind == 'events' else UPDATED_AT} AS TIMESTAMPTZ)"
    rows, oldest, newest = con.execute(
        f"SELECT count(*), min({moment})::VARCHAR, max({moment})::VARCHAR FROM landed"
    ).fetchone()
    aside = con.execute(
        f"SELECT {SET_ASIDE}, count(*) FROM landed WHERE {SET_ASIDE} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    names = [*columns, *rules.define]
    within = mappings.inside(rules, names, *window)
    (outside,) = con.execute(f"SELECT count(*) FILTER (NOT {within}) FROM {mappings.lines(rules)}").fetchone()
    (malformed,) = con.execute("SELECT count(*) FROM malformed").fetchone()
    return {
        "rows": rows,
        "set_aside": dict(aside),
        "malformed": malformed,
        "outside_window": outside,
        "ids": "derived" if rules.derives_ids else "sender",
        "time_sha256": rules.time_digest,
        "oldest": oldest,
        "newest": newest,
        "landed_at": datetime.now(UTC).isoformat(),
    }


def _publish(folder: Path, final: Path) -> bool:
    """The rename that makes the batch; False where another import was first."""
    try:
        os.rename(folder, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def remove_leftovers(older_than_seconds: float) -> int:
    """Folders of imports that were killed, untouched for so long; how many there were. A living import is younger."""
    stale = [
        folder
        for kind in KINDS
        for folder in landing(kind).glob(f"{TEMPORARY}*")
        if time.time() - folder.stat().st_mtime > older_than_seconds
    ]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return len(stale)


@contextmanager
def _temporary(parent: Path, path: Path) -> Iterator[Path]:
    """A folder beside the landed batches that is gone afterwards, whatever happened."""
    folder = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        folder.mkdir()
        yield folder
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(
            f"no room left under {parent} while importing {path}: free some and repeat; nothing was landed"
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """A line that moves, for a person who has waited two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    shown = Console(stderr=True).status(text)
    timer = threading.Timer(QUIET_SECONDS, shown.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        shown.stop()
