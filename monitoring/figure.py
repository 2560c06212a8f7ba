"""One monitored figure: a row of `ops.drift`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEFT_OUT: Final = "left out"


@dataclass(frozen=True)
class Figure:
    """One column's figure. value: None where the column was left out, with `why` (shown, not stored)."""

    column: str
    test: str
    value: float | None
    threshold: float | None
    drifted: bool
    n_current: int
    n_reference: int
    why: str = ""
