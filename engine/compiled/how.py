"""How a loop becomes machine code: compiled by numba once on a machine, and kept beside its file, else in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(*free: str, nogil: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator. free: what the compiler may assume of floating point numbers, as LLVM calls it, so that it takes several at once.

    nogil: lets go of the interpreter's lock meanwhile, which is for loops of milliseconds: who lets go of it a dozen times in a request
    waits a dozen times to get it back.
    """

    def done(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": nogil, "fastmath": {*free}}
        try:
            return numba.njit(function, cache=True, **options)
        except RuntimeError:  # no folder may be written to: it is compiled at every start
            return numba.njit(function, **options)

    return done
