"""When things were bought, by silver: where the windows that training learns from and is judged on may end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from aisle import clock, lake
from aisle.settings import Settings

SILVER = "silver.interactions"


def first(version: int) -> datetime | None:
    """The day on which a known user first bought something, its midnight; None where nobody did. `version`: of silver.interactions."""
    days = _days(version) if version >= 0 else np.array([])
    return days[0].astype("datetime64[us]").item().replace(tzinfo=UTC) if len(days) else None


def windows_end(as_of: datetime, settings: Settings, version: int) -> datetime:
    """The end of the newest test window that holds a purchase, behind a validation window that holds one; up to `as_of`.

    `as_of` itself, at a midnight, in a shop that sells. Where the newest events are views and clicks alone, the windows before
    them are empty, and those that end with the purchases are what can be learnt and judged. `as_of` as well where there are
    no such windows at all: who asks for them says what is missing. `version`: of silver.interactions.
    """
    end = clock.midnight_after(as_of)
    if version < 0:
        return end
    test, validation = (
        np.timedelta64(days, "D") for days in (settings.training.test_days, settings.training.validation_days)
    )
    here = np.datetime64(end.replace(tzinfo=None), "D")
    for since in (
        end - timedelta(days=settings.training.test_days + settings.training.validation_days),
        None,
    ):
        days = _days(version, since)  # the newest first: a shop that sells is read no further
        days = days[days < here]
        ends = np.unique(
            np.append(days + np.timedelta64(1, "D"), here)
        )  # a day's purchases lie before the next midnight
        tested = _held(days, ends - test, ends)
        found = ends[tested & _held(days, ends - test - validation, ends - test)]
        if here in found or (since is None and len(found)):
            return found[-1].astype("datetime64[us]").item().replace(tzinfo=UTC)
    return end


def _held(days: np.ndarray, since: np.ndarray, until: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a day lies in [since, until). days: ascending."""
    return np.searchsorted(days, since) < np.searchsorted(days, until)


def _days(version: int, since: datetime | None = None) -> np.ndarray:
    """Days with a purchase of a known user, ascending datetime64[D], UTC."""
    wanted: list[tuple[str, str, object]] = [("event_type", "=", "purchase")]
    wanted += [("event_time", ">=", since)] if since else []
    columns = [
        "event_time",
        "user_id",
        "item_id",
    ]  # a guest's purchase teaches nothing: training.dataset leaves it out
    found = lake.read(SILVER, columns=columns, filters=wanted, at_version=version).drop_null()
    return np.unique(found["event_time"].to_numpy().astype("datetime64[D]"))
