"""Rows of a request, each judged by itself, every fault of every row told; and an event as it goes into the journal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from serving.problems import shown
from serving.row import Row, text_of


@dataclass
class Judged:
    """rows: the sound ones, as models, with their places in the request. faults: [{"index", "errors"}] of the others."""

    rows: list[tuple[int, Row]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, index: int, where: str, detail: str, value: object = None) -> None:
        self.faults.append(
            {"index": index, "errors": [{"where": where, "detail": detail, "value": shown(value)}]}
        )


def judge(found: Iterable[Any], model: type[Row]) -> Judged:
    """Each row by itself: a bad one costs the others nothing."""
    judged = Judged()
    for index, row in enumerate(found):
        wrong: list[dict[str, Any]] = []
        try:
            sound = model.model_validate(row)
        except ValidationError as error:
            wrong = faults_of(error)
        if isinstance(row, dict):
            told = {fault["where"] for fault in wrong}
            wrong += [
                {
                    "where": where,
                    "detail": detail,
                    "value": None if row.get(where) is None else shown(row[where]),
                }
                for where, detail in model.lacking(row)
                if where not in told
            ]
        if wrong:
            judged.faults.append({"index": index, "errors": wrong})
        else:
            judged.rows.append((index, sound))
    return judged


def faults_of(error: ValidationError) -> list[dict[str, Any]]:
    return [
        {
            "where": ".".join(map(shown, fault["loc"])) or "row",
            "detail": fault["msg"].removeprefix("Value error, "),
            "value": None if fault["type"] == "missing" else shown(fault.get("input")),
        }
        for fault in error.errors(include_url=False, include_context=False)
    ]


def event_row(
    columns: dict[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dict[str, str]:
    """An event's columns, with an id and a time where it has none.

    A row with a time of its own gets a digest of what it says: sent again, it is the same. One without cannot be told from
    another one, and gets an id that is new.
    """
    row = dict(columns)
    if "event_id" not in row:
        said = json.dumps(row, sort_keys=True, ensure_ascii=False)
        row["event_id"] = sha256(said.encode()).hexdigest()[:32] if "event_time" in row else uuid.uuid4().hex
    row.setdefault("event_time", text_of(now()))
    row.setdefault("source", "api")
    return row
