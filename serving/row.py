"""A row that came in: judged by its model, and given as text by column of `bronze.<kind>`."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def lacking(cls, row: dict[str, Any]) -> list[tuple[str, str]]:
        """Where and what: faults that no single field has."""
        return []

    def columns(self) -> dict[str, str]:
        """What was given, as text by column; lists and objects as JSON."""
        return {name: text_of(value) for name, value in self if value is not None}


def text_of(value: Any) -> str:
    """As a column's text.

    >>> text_of(1e-05), text_of(True), text_of(["a"])
    ('0.00001', 'true', '["a"]')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, float):  # never 1e-05: not everybody reads that
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
