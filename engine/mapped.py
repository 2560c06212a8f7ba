"""Files used where they lie on disk: checked in pieces first, then mapped into memory.

What is mapped is the system's cache of the file, which it takes back where memory is short, and brings back as it is read. So a server
holds of a release what its questions read, and two of them side by side while one is swapped for the other. A mapping keeps the file
that was checked: who writes a bundle puts new files in the place of old ones (`engine.bundle.write`) and never writes into one.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

import numpy as np

from engine.pauses import breathe

PIECE = 1 << 20  # bytes of a file that are read and hashed at once


def read(file: Path) -> tuple[np.ndarray, str]:
    """A file's bytes, (n,) uint8 over a private mapping, and their SHA-256. Raises OSError, also for one that changes meanwhile.

    Neither reading nor hashing keeps other threads waiting: in pieces through one buffer, and without the interpreter's lock.
    """
    digest, piece = hashlib.sha256(), bytearray(PIECE)
    with file.open("rb", buffering=0) as opened:
        size, written = _state(opened.fileno())
        while count := opened.readinto(piece):
            digest.update(memoryview(piece)[:count])
            breathe()
        # Private, not read-only: what is compiled for arrays takes read-only ones for another kind. A write would stay in this process.
        held = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) if size else b""
        if _state(opened.fileno()) != (size, written):
            raise OSError(f"{file.name} was written to while it was read")
    return np.frombuffer(held, np.uint8), digest.hexdigest()


def _state(descriptor: int) -> tuple[int, int]:
    """Bytes of an open file, and when it was written to last."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


def unload(array: np.ndarray) -> None:
    """Takes the pages of an array out of this process's memory, where it lies in a mapped file: who reads it next brings back what
    they read. Nothing happens to an array of another kind.
    """
    held = _under(array)
    if held is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = (
        array.__array_interface__["data"][0] - np.frombuffer(held, np.uint8).__array_interface__["data"][0]
    )
    start = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (first + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    for some in range(start, end, PIECE):
        held.madvise(mmap.MADV_DONTNEED, some, min(PIECE, end - some))
        breathe()


def _under(array: np.ndarray) -> mmap.mmap | None:
    """The mapping in which an array lies; None for one that owns its memory, or shares another array's."""
    held: object = array
    while isinstance(held, np.ndarray | memoryview):
        held = held.base if isinstance(held, np.ndarray) else held.obj
    return held if isinstance(held, mmap.mmap) else None
