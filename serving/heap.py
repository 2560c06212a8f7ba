"""A process's memory around a release: its objects are not looked through again and again, and go in pieces when it is served no more.

A release is some hundred thousand Python objects that live until the next one. CPython's collector of the oldest generation visits
them all, for tenths of a second in which no request is answered. `gc.freeze` takes them out of its sight: docs.python.org/3/library/gc.html.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

WHOLE = 10  # releases after which all is looked through once: what requests left in circles would add up
GENERATIONS = (
    2_000,
    10,
    10_000,
)  # allocations, then collections of the younger, between two of each generation
PIECE = 4096  # cells of a list that go at once: less than a millisecond
BYTES = 2**20  # of an array after which there is a rest: the system takes its pages back one by one
REST = 0.002  # seconds between two pieces
ARENAS = 2  # of the C library: each thread of a pool would fill one of its own, of which nothing goes back
ALONE = (
    4 * 2**20
)  # bytes from which a piece of memory comes from the system and goes back to it, whatever was freed before
KEPT = 64 * 2**20  # bytes at the heap's end that stay with the process
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
_settled = itertools.count(1)


def seldom() -> None:
    """Young objects are looked through as ever, all of them hardly ever: thousands of lists that are kept for the next question would
    hold up the requests for a tenth of a second again and again, and there is nothing to find. What a request leaves in circles
    dies young."""
    gc.set_threshold(*GENERATIONS)


def sparing() -> None:
    """Before the process has threads: what a release leaves free lies in few places. Nothing where the C library has no such word.

    Left alone, glibc takes ever larger arrays from where small objects lie once one of them was freed, and such a place does not go
    back while a single small object is in it.
    """
    told = getattr(ctypes.CDLL(None), "mallopt", None)
    if told:
        for word, value in ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, ALONE), (M_TRIM_THRESHOLD, KEPT)):
            told(word, value)


def trim() -> None:
    """Gives back to the system what is free between objects; some tens of milliseconds, without the interpreter's lock."""
    told = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if told:
        told(ctypes.c_size_t(0))


def settle() -> None:
    """Called when a release has settled in: sets aside what it left, and gives back what the one before left free; now and then
    collects what requests and older ones left."""
    if next(_settled) % WHOLE == 0:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    trim()


@contextmanager
def undisturbed() -> Iterator[None]:
    """While a release is made: nothing half made is looked through, and what is made is set aside at once."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def let_go(whole: Iterable[Any]) -> int:
    """Frees what nobody else holds of these objects, piece by piece, with rests for whoever answers. Returns how many pieces."""
    pieces = _pieces(whole)
    del whole
    count = len(pieces)
    while pieces:
        piece = pieces.popleft()  # what holds others goes before them, so that each goes on its own
        if isinstance(piece, list) and sys.getrefcount(piece) == 2:
            while len(piece) > PIECE:
                del piece[-PIECE:]
                time.sleep(REST)
        elif isinstance(piece, dict) and sys.getrefcount(piece) == 2:
            while len(piece) > PIECE:
                for key in list(itertools.islice(piece, PIECE)):
                    del piece[key]
                time.sleep(REST)
        large = isinstance(piece, pd.DataFrame) or (isinstance(piece, np.ndarray) and piece.nbytes > BYTES)
        del piece
        if large:
            time.sleep(REST)
    return count


def _pieces(whole: Iterable[Any]) -> deque[Any]:
    """What these objects hold, each once, holders before what they hold."""
    found: deque[Any] = deque()
    seen: set[int] = set()
    queue = deque(whole)
    while queue:
        each = queue.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        within = _within(each)
        if within is not None:
            found.append(each)
            queue.extend(within)
    return found


def _within(each: Any) -> Iterable[Any] | None:
    """What an object of a release holds; None for one that is not worth a piece of its own."""
    if isinstance(each, list | np.ndarray | pd.DataFrame):
        return ()
    if isinstance(each, Mapping) and type(each) is dict:
        first = next(iter(each.values()), None)
        return () if isinstance(first, str | int | float | type(None)) else list(each.values())
    if isinstance(each, tuple):
        return each
    ours = type(each).__module__.partition(".")[0] in ("engine", "serving")
    return (
        list(vars(each).values()) if hasattr(each, "__dict__") and (ours or sparse.issparse(each)) else None
    )
