"""Which events of a long history are kept: the cut counts by kind.

`gold.user_history` (jobs.user_history has the rule as Spark's own expression, and a test holds it against this one), what the API lays
over it and the command's sessions are all cut so, training's histories with them.

- A history of `length` events or fewer stays as it is.
- What only says that an item was in sight (PASSING) is cut first, down to `passing` events, then the oldest of the others.
- What stands until something newer is said (LASTING) is kept beyond that: of each item and topic the newest event, for the newest
  `lasting` of such pairs. So a hidden item stays hidden, and what was bought stays bought, whatever came since.

Cutting what was cut before, with newer or older events beside it, gives what cutting everything at once gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aisle.columns import TAKES_BACK
from aisle.settings import Features

PASSING = ("impression", "search")
# Topics by type. What somebody says of an item and takes back is one topic: the last word counts.
LASTING: Mapping[str, str] = MappingProxyType(
    {
        **{kind: kind for kind in ("purchase", "return", "cart")},
        **{kind: undo for undo, kinds in TAKES_BACK.items() for kind in (undo, *kinds)},
    }
)


@dataclass(frozen=True)
class Cut:
    """length: events. passing: of them, at most where there are more than `length`. lasting: pairs of item and topic."""

    length: int
    passing: int
    lasting: int

    @classmethod
    def of(cls, features: Features) -> Cut:
        length = features.history_length
        return cls(length, int(length * features.history_impressions), features.history_lasting)

    def kept(self, item_ids: Sequence[str], event_types: Sequence[str]) -> Sequence[int]:
        """Places of the events that are kept, ascending. Both lists are one history, newest first.

        >>> cut = Cut(length=2, passing=1, lasting=9)
        >>> kinds = ["impression", "impression", "view", "view", "purchase", "view", "purchase"]
        >>> cut.kept(["a", "a", "a", "b", "b", "c", "b"], kinds)
        [0, 2, 4]
        """
        if len(event_types) <= self.length:
            return range(len(event_types))
        counting, beyond = self._parted(event_types)
        more = self._lasting(item_ids, event_types, counting, beyond)
        return sorted([*counting, *more]) if more else counting

    def _parted(self, event_types: Sequence[str]) -> tuple[Sequence[int], Sequence[int]]:
        """Places of the `length` events that count, and of the others that are too many, without those of PASSING."""
        n = len(event_types)
        if not any(kind in event_types for kind in PASSING):
            return range(self.length), range(self.length, n)
        passing = [place for place, kind in enumerate(event_types) if kind in PASSING]
        others = [place for place, kind in enumerate(event_types) if kind not in PASSING]
        most = min(len(passing), max(self.passing, self.length - len(others)))
        start = self.length - most
        return sorted([*passing[:most], *others[:start]]), others[start:]

    def _lasting(
        self,
        item_ids: Sequence[str],
        event_types: Sequence[str],
        counting: Sequence[int],
        beyond: Sequence[int],
    ) -> list[int]:
        """Places of what stands among those `beyond`: of each item and topic the newest event, if none that counts is newer.

        It begins with what is beyond, mostly the few events that fresh ones pushed there: the API asks at every answer.
        """
        newest: dict[tuple[str, str], int] = {}
        for place in reversed(beyond):
            topic = LASTING.get(event_types[place])
            if topic:
                newest[item_ids[place], topic] = place
        many = len(event_types) > self.lasting  # only then it matters how many others there are
        asked = {item for item, _ in newest}
        said = {
            (item_ids[place], LASTING.get(event_types[place]))
            for place in counting
            if many or item_ids[place] in asked
        }
        room = max(self.lasting - sum(topic is not None for _, topic in said), 0) if many else None
        return sorted(place for pair, place in newest.items() if pair not in said)[:room]
