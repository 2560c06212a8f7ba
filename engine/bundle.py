"""A recommender on disk: numbers as .npz, tables as Parquet, the rest as JSON, and a manifest of SHA-256.

No pickle is written or read. Every byte that is used is checked against the manifest first; the same
recommender gives the same bytes, so that a bundle's digest names it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.errors import BundleRejected

MANIFEST = "manifest.json"
FORMAT = 1
_NAME = re.compile(r"[a-z0-9_]+\.(npz|parquet|json|txt)")


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files, then their manifest last: a folder without one is no bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = {
        name: {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])} for name in files
    }
    body = {"format": FORMAT, "files": dict(sorted(listed.items()))}
    (folder / MANIFEST).write_text(json.dumps(body, indent=2) + "\n")


def read(folder: Path) -> dict[str, bytes]:
    """The files that the manifest names, all checked. Raises BundleRejected that lists every fault."""
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
            found[name] = (folder / name).read_bytes()
            if hashlib.sha256(found[name]).hexdigest() != digest:
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


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """.npz bytes. Raises TypeError for an array of objects, which only a pickle could hold."""
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise TypeError(f"arrays of Python objects cannot be stored: {', '.join(objects)}")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def pack_frame(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def unpack_frame(content: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(content))


def pack_json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
