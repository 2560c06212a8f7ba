"""What a rating says: the kind that it counts as in a history, by its value. Said once, for Spark and for the API.

In silver a rating is a rating, with its value. Histories carry kinds and no values, so there a low rating and a fair one are of
kinds of their own: what somebody gave one star is no reason to show them more of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aisle.columns import FAIR_RATING, LOW_RATING, RATING
from aisle.settings import Ingest

ROUNDING = 1e-9  # of the scale's length: 0.3 of 0 to 1 is not 0.3 in doubles


@dataclass(frozen=True)
class Bounds:
    """low: the highest value that is low. good: the lowest one that is good; what lies between is fair.

    >>> bounds = Bounds(low=2.0, good=3.75)
    >>> [bounds.kind_of("rating", value) for value in (1, "2.0", 2.5, "4", None)], bounds.kind_of("view", 1)
    (['low_rating', 'low_rating', 'fair_rating', 'rating', 'rating'], 'view')
    """

    low: float
    good: float

    @classmethod
    def of(cls, limits: Ingest) -> Bounds:
        length = limits.max_rating - limits.min_rating
        low, good = limits.low_rating + ROUNDING, limits.good_rating - ROUNDING
        return cls(limits.min_rating + low * length, limits.min_rating + good * length)

    def kind_of(self, event_type: str, value: float | str | None) -> str:
        """The kind that an event counts as. A rating without a value counts as a good one."""
        if event_type != RATING or value is None:
            return event_type
        number = float(value)
        return LOW_RATING if number <= self.low else FAIR_RATING if number < self.good else RATING

    @property
    def kind_sql(self) -> str:
        """The same in SQL, over the columns event_type and value."""
        return (
            f"CASE WHEN event_type <> '{RATING}' THEN event_type WHEN value <= {self.low!r}D THEN '{LOW_RATING}' "
            f"WHEN value < {self.good!r}D THEN '{FAIR_RATING}' ELSE event_type END"
        )
