"""Who was erased, and when: the tombstones that the API wrote, which `maintain` takes the rows away by.

They lie in `$AISLE_HOME/journal/erasures`, one JSON object a line: `{"at", "user_id", "sessions"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from aisle.lake import home


@dataclass(frozen=True)
class Erased:
    """at: epoch microseconds; what was known until then is gone. sessions: ids that were known to be this person's."""

    user_id: str
    at: int
    sessions: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: dict[str, Any]) -> Erased:
        return cls(row["user_id"], int(row["at"]), tuple(row.get("sessions") or ()))

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1e6, UTC)


def folder() -> Path:
    return home() / "journal" / "erasures"


def merged(rows: Iterable[Erased]) -> dict[str, Erased]:
    """By user, the newest with the sessions of all.

    >>> merged([Erased("u", 5, ("a",)), Erased("u", 9, ("b",))])["u"]
    Erased(user_id='u', at=9, sessions=('a', 'b'))
    """
    found: dict[str, Erased] = {}
    for row in rows:
        held = found.get(row.user_id, row)
        sessions = tuple(dict.fromkeys((*held.sessions, *row.sessions)))
        found[row.user_id] = Erased(row.user_id, max(held.at, row.at), sessions)
    return found


def done_file() -> Path:
    return folder().with_name("erased.json")


def is_done(person: Erased) -> bool:
    """Whether `maintain` has taken away this person's rows of before, from the tables whose rows have no time as well."""
    file = done_file()
    until: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}  # by SHA-256 of the id
    return until.get(sha256(person.user_id.encode()).hexdigest(), 0) >= person.at


def read() -> dict[str, Erased]:
    """Everybody who was erased, by id. Half a line at a file's end was never acknowledged."""
    there = folder()
    files = sorted(path for path in there.iterdir() if path.name[0] != ".") if there.is_dir() else []
    texts = [path.read_text(encoding="utf-8") for path in files]
    lines = [line for text in texts for line in text[: text.rfind("\n") + 1].splitlines() if line]
    return merged(Erased.of(json.loads(line)) for line in lines)
