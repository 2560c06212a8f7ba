"""Time as an argument: parsing `as_of`, and what it is when nobody says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aisle import lake
from aisle.errors import NotThere, SettingsError


def parse(text: str) -> datetime:
    """An ISO date or timestamp as UTC.

    >>> parse("2011-11-12").isoformat()
    '2011-11-12T00:00:00+00:00'
    """
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise SettingsError(
            f"{text!r} is no ISO date or time; write 2011-11-12 or 2011-11-12T08:00:00Z"
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def midnight_after(moment: datetime) -> datetime:
    """The first midnight UTC that is not before `moment`; features stand on whole days."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == moment else day + timedelta(days=1)


def newest_as_of(limit: datetime | None = None) -> datetime:
    """The day after the newest event in silver, by the ingest ledger: the data's own clock. Never later than `limit`'s day.

    Raises NotThere before the first ingest.
    """
    if not lake.exists("ops.batches"):
        raise NotThere("no data yet: `aisle import events FILE`, then `aisle run ingest`")
    import pyarrow.compute as pc

    newest = pc.max(lake.read("ops.batches", columns=["newest_event"])["newest_event"]).as_py()
    if newest is None:
        raise NotThere("no event has reached silver yet: see `aisle status`")
    found = midnight_after(newest)
    return min(found, midnight_after(limit)) if limit else found
