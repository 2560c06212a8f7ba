"""How a loop becomes machine code: compiled by numba once on a machine, and kept beside its file, else in the user's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import numba
from numba.core.dispatcher import Dispatcher
from numba.extending import _Intrinsic as Intrinsic


def compiled(*free: str, nogil: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator. free: what the compiler may assume of floating point numbers, as LLVM calls it, so that it takes several at once.

    nogil: lets go of the interpreter's lock meanwhile, which is for loops of milliseconds: who lets go of it a dozen times in a request
    waits a dozen times to get it back.
    """

    def done(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": nogil, "fastmath": {*free}}
        try:
            found = numba.njit(function, cache=True, **options)
        except RuntimeError:  # no folder may be written to: it is compiled at every start
            return numba.njit(function, **options)
        found._cache._cache_file._source_stamp = function.stamp = stamp(function)  # type: ignore[attr-defined]
        return found

    return done


def stamp(function: Callable[..., Any]) -> str:
    """SHA-256 of a loop's file and, of other files, of the loops that it calls and the numbers that it names.

    All of it is in its machine code, and numba itself looks at the loop's own file alone: without this, what was compiled before an update
    would go on with what other files said then.
    """
    code, found = function.__code__, hashlib.sha256(Path(function.__code__.co_filename).read_bytes())
    for name in sorted({*_names(code)}):
        value = function.__globals__.get(name)
        if isinstance(value, Dispatcher):
            told = getattr(value.py_func, "stamp", "")
        elif isinstance(value, Intrinsic):
            told = hashlib.sha256(Path(value._defn.__code__.co_filename).read_bytes()).hexdigest()
        elif callable(value) or hasattr(value, "__file__"):  # of NumPy, say
            continue
        else:
            told = repr(value)
        found.update(f"\n{name}: {told}".encode())
    return found.hexdigest()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
