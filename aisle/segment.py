"""The segment of a user: what `features.segment` names of them. As it comes their country; else their language or one of their attributes.

Everything that goes by country goes by it: the column `country` of gold.user_stats, the feature of that name, a user's state, and what is
popular among people alike.
"""

from __future__ import annotations

from typing import NamedTuple

PATTERN = r"^(country|language|attributes\.\S(.*\S)?)$"


class Segment(NamedTuple):
    """column: of the table of users. key: of its map; None where the column is the segment."""

    column: str
    key: str | None

    @classmethod
    def of(cls, setting: str) -> Segment:
        """
        >>> Segment.of("country"), Segment.of("attributes.price.tier")
        (Segment(column='country', key=None), Segment(column='attributes', key='price.tier'))
        """
        column, _, key = setting.partition(".")
        return cls(column, key or None)
