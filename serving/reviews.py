"""What a user said of an item and stands, and what it is after a change: a review is an event of type rating, and so is its change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aisle.columns import RATING, UNRATE
from serving import export
from serving.merge_patch import OF_A_REVIEW
from serving.received import event_row
from serving.row import text_of
from serving.sessions import micros


def standing(service: Any, user_id: str, item_id: str) -> dict[str, Any] | None:
    """The user's newest rating of the item, as `Export.events` tells it; None where there is none, or it was taken back.

    Read from lake, landing and journal: seconds on a large lake. Of before an erasure nothing is known.
    """
    erased = service.sessions.erasure(user_id)
    told = export.events_of(
        user_id, [("item_id", "=", item_id), ("event_type", "in", [RATING, UNRATE])], erased
    )
    told += [
        row for kind, row in export.landed(user_id, []) if kind == "events" and row.get("item_id") == item_id
    ]
    said = [
        (micros(row["event_time"]), row["event_type"] == UNRATE, row)
        for row in told
        if row["event_type"] in (RATING, UNRATE)
    ]
    at, taken_back, newest = max(said, key=lambda each: each[:2], default=(0, True, {}))
    return None if taken_back or at <= (erased.at if erased else 0) else newest


def revised(known: Mapping[str, Any], changed: Mapping[str, str]) -> dict[str, str]:
    """The rating with what changed, as an event of now, or of just after one that lies ahead. changed: text by field, empty: cleared."""
    words = dict(known.get("properties") or {})
    words |= {name: changed[name] for name in OF_A_REVIEW if name in changed}
    words = {name: text for name, text in words.items() if text or name not in OF_A_REVIEW}
    after = datetime.fromtimestamp(micros(known["event_time"]) / 1e6, UTC) + timedelta(milliseconds=1)
    row = {
        "event_type": RATING,
        "user_id": known["user_id"],
        "item_id": known["item_id"],
        "value": changed.get("value", text_of(float(known["value"]))),
        **({"properties": json.dumps(words, ensure_ascii=False)} if words else {}),
    }
    return {**event_row(row), "event_time": text_of(max(after, datetime.now(UTC)))}
