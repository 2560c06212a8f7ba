"""When things were bought, by silver: where the windows that training learns from and is judged on may end, and how long they are.

Where a shop knows no purchases, what stands for them (aisle.goal) is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from aisle import clock, lake, ratings
from aisle.columns import RATING
from aisle.goal import PURCHASES
from aisle.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

SILVER = "silver.interactions"


def first(version: int, settings: Settings | None = None) -> datetime | None:
    """The day on which a known user first bought something, its midnight; None where nobody did. `version`: of silver.interactions."""
    days = _days(version, settings=settings) if version >= 0 else np.array([])
    return days[0].astype("datetime64[us]").item().replace(tzinfo=UTC) if len(days) else None


LEARN_DAYS = 28  # of purchases before validation: less teaches no taste, where a shop is that old


@dataclass(frozen=True)
class WindowDays:
    """test, validation: of the windows; learn: at least before them."""

    test: int
    validation: int
    learn: int = LEARN_DAYS

    @classmethod
    def of(cls, settings: Settings, since: datetime | None, end: datetime) -> WindowDays:
        """As the settings say; in a shop whose purchases reach back less far, a third of it each, in proportion.

        As asked as well where there are not three days: who asks for windows says what is missing.
        """
        asked = cls(settings.training.test_days, settings.training.validation_days)
        whole = asked.test + asked.validation + asked.learn
        there = (end - since).days if since else 0
        if there < 3 or there >= whole:
            return asked
        test, validation = (max(1, there * days // whole) for days in (asked.test, asked.validation))
        return cls(test, validation, there - test - validation)


def window_days(settings: Settings, version: int, end: datetime) -> WindowDays:
    """Of the shop at hand. `version`: of silver.interactions."""
    return WindowDays.of(settings, first(version, settings), end)


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
        days = _days(version, since, settings)  # the newest first: a shop that sells is read no further
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


def _days(version: int, since: datetime | None = None, settings: Settings | None = None) -> np.ndarray:
    """Days with a purchase of a known user, ascending datetime64[D], UTC."""
    found = bought(version, settings, since)["event_time"].to_numpy()
    return np.unique(found.astype("datetime64[D]"))


def bought(
    version: int,
    settings: Settings | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """event_time, user_id, item_id of the shop's goal in [since, until): without settings its purchases; of ratings the good ones.

    A guest's purchase teaches nothing and is left out. settings: with `training.goal` as `aisle.goal.settled` writes it out.
    """
    import pyarrow.compute as pc

    wanted = list((settings.training.goal if settings else None) or PURCHASES)
    filters: list[tuple[str, str, object]] = [("event_type", "in", wanted)]
    filters += [("event_time", ">=", since)] if since else []
    filters += [("event_time", "<", until)] if until else []
    columns, told = ["event_time", "user_id", "item_id"], ["event_type", "value"]
    rated = settings is not None and RATING in wanted
    found = lake.read(
        SILVER, columns=[*columns, *(told if rated else [])], filters=filters, at_version=version
    )
    if rated and settings is not None:
        good = pc.fill_null(pc.greater_equal(found["value"], ratings.Bounds.of(settings.ingest).good), True)
        found = found.filter(pc.or_(pc.not_equal(found["event_type"], RATING), good)).select(columns)
    return found.drop_null()
