"""A recommender on disk: numbers as .npz, tables as Parquet, the rest as JSON, and a manifest of SHA-256.

No pickle is written or read. Every byte that is used is checked against the manifest first; the same
recommender gives the same bytes, so that a bundle's digest names it. Arrays are used where they lie on disk (`engine.mapped`): a
server loads a release beside the one that answers, and each copy of it would be hundreds of megabytes more and a pause.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aisle.errors import BundleRejected
from engine import mapped
from engine.npz import pack_arrays, unpack_arrays
from engine.pauses import breathe

__all__ = [
    "digest",
    "pack_arrays",
    "pack_frame",
    "pack_json",
    "read",
    "rejecting",
    "unpack_arrays",
    "unpack_frame",
    "write",
]

MANIFEST = "manifest.json"
FORMAT = 1
_NAME = re.compile(r"[a-z0-9_]+\.(npz|parquet|json|txt)")
ROWS = 4096  # of a table that become Python objects at once: a millisecond, in which no other thread runs


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files, then their manifest last: a folder without one is no bundle. A file that is there already is replaced, and
    not written to: a server may have it mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        beside = folder / f".{name}.{os.getpid()}"
        beside.write_bytes(content)
        os.replace(beside, folder / name)
    listed = {
        name: {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])} for name in files
    }
    body = {"format": FORMAT, "files": dict(sorted(listed.items()))}
    (folder / MANIFEST).write_text(json.dumps(body, indent=2) + "\n")


def read(folder: Path) -> dict[str, np.ndarray]:
    """The files that the manifest names as uint8, all checked. Raises BundleRejected that lists every fault."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleRejected(
            f"{folder / MANIFEST} cannot be read ({error}); stage the version again"
        ) from None
    if version != FORMAT:
        raise BundleRejected(f"{folder} has format {version!r}, this release reads {FORMAT}; train it again")
    found, faults = {}, []
    for name, digest in listed.items():
        if not _NAME.fullmatch(name):
            faults.append(f"{name!r} is no name of a bundle's file")
        elif not (folder / name).is_file():
            faults.append(f"{name} is missing")
        else:
            try:
                found[name], read_digest = mapped.read(folder / name)
            except OSError as error:
                faults.append(f"{name} cannot be read ({error})")
                continue
            if read_digest != digest:
                faults.append(f"{name} does not match its SHA-256")
    if faults:
        raise BundleRejected(f"bundle {folder}: {'; '.join(faults)}; stage the version again")
    return found


@contextmanager
def rejecting(folder: Path, name: str) -> Iterator[None]:
    """Turns what reading one file raises into a BundleRejected that names it."""
    try:
        yield
    except KeyError as error:
        raise BundleRejected(
            f"bundle {folder}: {name} is missing or lacks {error}; train the version again"
        ) from None
    except (ValueError, TypeError, OSError, IndexError) as error:
        raise BundleRejected(
            f"bundle {folder}: {name} cannot be read ({error}); train the version again"
        ) from None


def digest(folder: Path) -> str:
    """SHA-256 of the manifest, which names every other byte of the bundle."""
    return hashlib.sha256((Path(folder) / MANIFEST).read_bytes()).hexdigest()


def pack_frame(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def unpack_frame(content: np.ndarray | bytes) -> pd.DataFrame:
    """Raises ValueError or OSError for what is no table."""
    table = pq.read_table(pa.BufferReader(pa.py_buffer(content)))
    some = []
    for start in range(0, table.num_rows, ROWS):
        some.append(table.slice(start, ROWS).to_pandas())
        breathe()
    return pd.concat(some, ignore_index=True) if some else table.to_pandas()


def pack_json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
