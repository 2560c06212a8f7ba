"""All that is known of one person, for them: from the online store, the lake, landing and the journal.

Of who was erased and came back only what is from after that; rows that have no time of their own are from before it until `maintain`
has taken those away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from aisle import erasures, lake, ledger
from aisle.columns import KINDS
from aisle.erasures import Erased
from aisle.tables import CONTRACTS
from engine.state import UserState
from serving import examples, given, segments
from serving.features import Unavailable
from serving.sessions import PREFERENCES, micros

Rows = list[dict[str, Any]]
Filters = list[tuple[str, str, object]]
ORIGIN = ("batch_id", "event_month", "ingested_at", "row_number", "set_aside_reason", "at")
UPDATES, OUTCOMES = "silver.user_updates", "ops.outcomes"
WITHOUT_TIMES = (
    "silver.users",
    "ops.evaluations",
    "gold.user_stats",
)  # of what happened: those rows are made of others


class Export(BaseModel):
    """complete: whether the online store answered; the lake's rows are there in any case."""

    model_config = ConfigDict(json_schema_extra={"example": examples.EXPORT})

    user_id: str
    complete: bool
    erased_at: str | None = Field(
        None, description="When this person was erased; what came before is not shown."
    )
    profile: dict[str, Any] = Field(description="As it is known now.")
    preferences: dict[str, list[str]]
    history: Rows = Field(description="What answers go by, newest first.")
    events: Rows = Field(
        description="Every event that is stored, newest first; what was done in their sessions before they were known, too."
    )
    sessions: list[str] = Field(description="That are known to be theirs.")
    other: dict[str, Rows] = Field(
        description="Rows of other tables, by table. The answers that were given, in `ops.recommendations`, are there at once."
    )


def state_of(service: Any, user_id: str) -> tuple[UserState, bool]:
    """What an answer would go by, and whether the online store had its say."""
    try:
        state, complete = service.histories.of(user_id), True
    except Unavailable:
        state, complete = UserState(user_id), False
    return service.sessions.merged(state, user_id, None), complete


def preferences(state: UserState) -> dict[str, list[str]]:
    """The last word on each item, newest first."""
    found: dict[str, list[str]] = {name: [] for name in PREFERENCES}
    said: set[str] = set()
    for item, kind in zip(state.item_ids, state.event_types, strict=True):
        if kind in PREFERENCES and item not in said:
            said.add(item)
            found[kind].append(item)
    return found


def of(service: Any, user_id: str) -> Export:
    """Reads every row of this person. What was erased is left out, though its rows may still lie there."""
    state, complete = state_of(service, user_id)
    erased = service.sessions.erasure(user_id)
    own: Filters = [("user_id", "=", user_id)]
    sessions = sessions_of(service, user_id)
    stored = events_of(user_id, [], erased) + _plain(_anonymous(sessions), erased)
    events = {row["event_id"]: row for row in stored}
    updates = _plain(_table(UPDATES, own), erased)
    for kind, row in landed(user_id, sessions):
        if kind == "events":
            events.setdefault(row["event_id"], row)
        else:
            updates.append(row)
    moment = erased.at if erased else 0
    kept = [row for row in events.values() if micros(row["event_time"]) > moment]
    updates = [row for row in updates if micros(row["updated_at"]) > moment]
    return Export(
        user_id=user_id,
        complete=complete,
        erased_at=erased.moment.isoformat() if erased else None,
        profile=profile_of(updates),
        preferences=preferences(state),
        history=[
            {"item_id": item, "event_type": kind, "event_time": int(second)}
            for item, kind, second in zip(state.item_ids, state.event_types, state.event_times, strict=True)
        ],
        events=sorted(kept, key=lambda row: row["event_time"], reverse=True),
        sessions=sessions,
        other={name: rows for name, rows in other(user_id, sessions, erased).items() if rows},
    )


def other(user_id: str, sessions: list[str], erased: Erased | None) -> dict[str, Rows]:
    """Rows of the other tables, and the answers that are on their way into theirs."""
    own: Filters = [("user_id", "=", user_id)]
    since = erased.moment if erased else None
    moments = {UPDATES: "updated_at", OUTCOMES: "served_at"}
    found = {
        UPDATES: _table(UPDATES, own),
        OUTCOMES: given.of_table(OUTCOMES, user_id, sessions),
    }
    later = {
        name: [row for row in rows if since is None or row[moments[name]] > since]
        for name, rows in found.items()
    }
    later[given.SHOWN] = given.answers(user_id, sessions, since)
    if erased is None or erasures.is_done(erased):
        later |= {name: _table(name, own) for name in WITHOUT_TIMES}
    return {name: _plain(rows, None) for name, rows in later.items()}


def sessions_of(service: Any, user_id: str) -> list[str]:
    """Sessions that are this person's alone: by what came in lately, and by silver. None of before an erasure."""
    live = service.sessions
    found = {each for each in live.sessions_of(user_id) if live.user_of(each) == user_id}
    if not live.erasure(user_id):
        known = {row["session_id"] for row in _table("silver.session_users", [("user_id", "=", user_id)])}
        found |= {each for each in known if live.user_of(each) in (None, user_id)}
    return sorted(found)


def events_of(user_id: str, among: Filters, erased: Erased | None) -> Rows:
    """Of this person in silver. among: further filters."""
    return _plain(_table("silver.interactions", [("user_id", "=", user_id), *among]), erased)


def _anonymous(sessions: list[str]) -> Rows:
    """Events of nobody in these sessions."""
    rows = _table("silver.interactions", [("session_id", "in", sessions)]) if sessions else []
    return [row for row in rows if row["user_id"] is None]


def profile_of(updates: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The last word on each field, as silver folds them."""
    found: dict[str, Any] = {}
    for row in sorted(updates, key=lambda row: row["updated_at"]):
        found |= {name: value for name, value in row.items() if value is not None and name != "user_id"}
    return found


def _table(name: str, own: Filters) -> Rows:
    if name not in lake.TABLES or not lake.exists(name):
        return []
    rows: Rows = lake.read(name, filters=own).to_pylist()
    return rows


def landed(user_id: str, sessions: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of events and users that silver does not have yet: of batches that are not done, and of open segments.

    Those of the user, and those of nobody in these sessions.
    """

    theirs = given.theirs(user_id, sessions)
    done = {batch for batch, row in ledger.latest().items() if row["status"] == ledger.SILVER}
    found = []
    for kind, batch in ledger.landed():
        if batch not in done and kind in KINDS:
            path = lake.landing(kind) / batch / "rows.parquet"
            names = pq.read_schema(path).names
            wanted = [[("user_id", "=", user_id)]] if "user_id" in names else []
            wanted += [[("session_id", "in", sessions)]] if sessions and "session_id" in names else []
            rows = pq.read_table(path, filters=wanted).to_pylist() if wanted else []
            found += [(kind, typed(row, kind)) for row in _plain(filter(theirs, rows), None)]
    for kind in ("events", "users"):
        for path in segments.segments(kind):
            if path.suffix == segments.OPEN:
                rows = filter(theirs, segments.whole_lines(path)[0])
                found += [(kind, typed(row, kind)) for row in _plain(rows, None)]
    return found


def typed(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """A landed row, which is text, with the values that silver will have."""
    return {name: _read(value, CONTRACTS[kind].get(name, "string")) for name, value in row.items()}


def _read(text: Any, kind: str) -> Any:
    if kind.startswith(("array", "map")):
        return json.loads(text)
    if kind == "boolean":
        return text == "true"
    if kind == "int":
        return int(float(text))
    return float(text) if kind == "double" or kind.startswith("decimal") else text


def _plain(rows: Iterable[dict[str, Any]], erased: Erased | None) -> Rows:
    """As JSON can say it, without columns that are about the row and not the person, and without empty ones."""
    return [
        {name: _value(value) for name, value in row.items() if name not in ORIGIN and value is not None}
        for row in rows
        if not (
            erased and "ingested_at" in row and row["ingested_at"] and row["ingested_at"] <= erased.moment
        )
    ]


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)  # an Arrow map
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, (str, int, float, bool, list, dict)) else str(value)
