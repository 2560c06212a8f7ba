"""Time as an argument: parsing `as_of`, and what it is when nobody says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aisle import lake
from aisle.errors import NotThere, SettingsError


def parse(text: str) -> datetime:
    """An ISO date or timestamp as UTC, in the years 1970 to 9998, of which days can be counted back and on.

    >>> parse("2011-11-12").isoformat()
    '2011-11-12T00:00:00+00:00'
    """
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise SettingsError(
            f"{text!r} is no ISO date or time; write 2011-11-12 or 2011-11-12T08:00:00Z"
        ) from None
    if not 1970 <= found.year <= 9998:
        raise SettingsError(
            f"{text!r} lies outside the years 1970 to 9998, which no data here does: give its own time"
        )
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


def settled(as_of: datetime | None) -> datetime:
    """The `as_of` that a step was told, else `newest_as_of`.

    Raises NotThere where it lies beyond the data: nothing is known of such a day, and what was written for it would stand
    before everything that comes. A lake that no ingest filled has no clock of its own, and is believed.
    """
    if as_of is None:
        return newest_as_of()
    newest = newest_as_of() if lake.exists("ops.batches") else as_of
    if as_of > newest:
        raise NotThere(
            f"as_of {as_of:%Y-%m-%d %H:%M} lies beyond the data, which ends before {newest:%Y-%m-%d}: "
            f"give {newest:%Y-%m-%d} or a day before it, or none to take the newest"
        )
    return as_of


def day_seen(moment: datetime) -> datetime:
    """The day that begins with or before `moment`, as an `as_of`: never later than `newest_as_of`, where there is data."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return min(day, newest_as_of()) if lake.exists("ops.batches") else day
