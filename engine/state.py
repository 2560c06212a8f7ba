"""What is known of a user when an answer is asked for: country and history, newest event first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class UserState:
    """One user at one moment. The four lists run in parallel, newest event first.

    event_times: epoch seconds. quantities: units; may be empty where a shop has none.
    """

    user_id: str
    country: str | None = None
    item_ids: Sequence[str] = field(default_factory=tuple)
    event_types: Sequence[str] = field(default_factory=tuple)
    event_times: Sequence[int] = field(default_factory=tuple)
    quantities: Sequence[float] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        lengths = {len(self.item_ids), len(self.event_types), len(self.event_times)}
        if len(lengths) != 1 or len(self.quantities) not in (0, *lengths):
            raise ValueError(
                f"user {self.user_id!r}: a history's lists must be equally long, got {len(self.item_ids)} "
                f"items, {len(self.event_types)} types, {len(self.event_times)} times, "
                f"{len(self.quantities)} quantities"
            )

    def newest(self, events: int) -> UserState:
        """The same user with the newest `events` events alone."""
        lists = ("item_ids", "event_types", "event_times", "quantities")
        return replace(self, **{name: getattr(self, name)[:events] for name in lists})


def from_frame(histories: pd.DataFrame) -> list[UserState]:
    """States of a histories frame: user_id, country, item_ids, event_types, event_times, quantities.

    A missing list (a user without a history) is an empty one; a missing country is None.
    """
    n = len(histories)

    def column(name: str) -> Sequence:
        return histories[name].tolist() if name in histories else [None] * n

    def many(value) -> Sequence:
        return value if hasattr(value, "__len__") else ()

    return [
        UserState(
            str(user),
            country if isinstance(country, str) else None,
            many(items),
            many(types),
            many(times),
            many(quantities),
        )
        for user, country, items, types, times, quantities in zip(
            column("user_id"),
            column("country"),
            column("item_ids"),
            column("event_types"),
            column("event_times"),
            column("quantities"),
            strict=True,
        )
    ]


def epoch(moment: datetime) -> float:
    """Epoch seconds. Raises ValueError for a moment without a zone: it would be the machine's."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; pass UTC")
    return moment.timestamp()
