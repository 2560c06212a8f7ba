"""Why items are in a list: from the sources' own evidence, never made up afterwards."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from engine.blend import Weights
from engine.interactions import PURCHASE, Catalogue, Events
from engine.sources.base import Source
from engine.state import DAY, UserState, epoch

SPEAKS_FOR = {
    "again": "personal",
    "rhythm": "personal",
    "trend": "popularity",
}  # parts that are no source's own
DEEDS = (
    "purchase",
    "cart",
    "like",
    "rating",
    "fair_rating",
    "click",
    "view",
)  # what a reason tells of a user, most telling first
TELLING, LEAST = {kind: place for place, kind in enumerate(DEEDS)}, len(DEEDS)
LEAST_BELOW = 1e-3  # of the part 'below': a smaller one is what rounding leaves


@dataclass(frozen=True)
class Kinds:
    """What a model's scores are made of, in the order in which it is told, and whose it is.

    sources: names of all. names: of the parts. source: (sources,) column of each source's own part. owner: (parts,) number of the
    source that speaks for a part which is no source's own; -1 for none.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    source: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, sources: Iterable[str], first: Sequence[str] = ()) -> Kinds:
        """first: the parts of a ranker's score, which come before the others."""
        sources = tuple(sources)
        names = tuple(dict.fromkeys((*first, *sources, "again", "below", "rules")))
        number = {name: place for place, name in enumerate(sources)}
        own = [names.index(name) for name in sources]
        speaks = [number.get(SPEAKS_FOR.get(name, ""), -1) for name in names]
        return cls(sources, names, np.array(own, np.int64), np.array(speaks, np.int64))

    def named(self, values: np.ndarray) -> list[dict[str, float]]:
        """The parts of each row of `values` (n, parts) that has them, by name."""
        return [
            {name: value for name, value in zip(self.names, row, strict=True) if value}
            for row in values.tolist()
        ]

    def written(self, values: np.ndarray, digits: int) -> list[bytes]:
        """As `named`, each as the text of a JSON object, its numbers with so many digits after the point."""
        from engine import (
            compiled,  # where it is asked for: a job that answers nobody need not load a compiler
        )

        names, name_ends = self._as_json
        text = np.empty(len(values) * (len(names) + 32 * len(self.names) + 2), np.uint8)
        ends = [0, *compiled.objects(values, digits, names, name_ends, text).tolist()]
        whole = text[: ends[-1]].tobytes()
        return [whole[start:end] for start, end in pairwise(ends)]

    @cached_property
    def _as_json(self) -> tuple[np.ndarray, np.ndarray]:
        """The names as JSON with their colons, one after the other, uint8; where each ends."""
        names = [f"{json.dumps(name)}:".encode() for name in self.names]
        return np.array(bytearray(b"".join(names)), np.uint8), np.cumsum([len(name) for name in names])

    def loudest(self, values: np.ndarray) -> np.ndarray:
        """(n, sources) int64, of each row of `values` the sources that have a part, by number, largest first, with what they speak
        for; then -1."""
        from engine import (
            compiled,  # where it is asked for: a job that answers nobody need not load a compiler
        )

        order = np.empty((len(values), len(self.sources)), np.int64)
        compiled.loudest(values, self.source, self.owner, order)
        return order

    def fill_blend(
        self,
        values: np.ndarray,
        items: np.ndarray,
        scores: np.ndarray,
        weights: Weights,
        normalised: Mapping[str, np.ndarray],
        events: Events,
    ) -> None:
        """Puts into `values` (n, parts) what adds up to the blended `scores` (n,) of items that no ranker ordered: what each source
        added, the offset as 'again' where the one user had the item, and what keeps it under the ranked ones as 'below'."""
        had = np.isin(items, events.owned().indices)
        for name, each in normalised.items():
            again, new = weights.again.get(name, 0.0), weights.new.get(name, 0.0)
            if again or new:
                values[:, self.names.index(name)] = np.where(had, again, new) * each[0, items]
        values[:, self.names.index("again")] = had * weights.offset
        below = scores - values.sum(axis=1)
        values[:, self.names.index("below")] = np.where(np.abs(below) > LEAST_BELOW, below, 0.0)


def reasons(
    sources: Mapping[str, Source],
    kinds: Kinds,
    values: np.ndarray,
    events: Events,
    items: np.ndarray,
    catalogue: Catalogue,
    written: int | None = None,
    goal: str = PURCHASE,
) -> list[dict[str, Any]]:
    """source, evidence and parts of each item (n,) for the one user of `events`.

    written: the digits after the point of parts that are wanted as JSON, see `Kinds.written`; None for a dict.

    values: (n, parts) what adds up to each score. source: the one that added most and has evidence, with the parts of SPEAKS_FOR
    counted to theirs.
    evidence, by source: {'event_type', 'times', 'days_ago'} of what the user did with the item itself (see `deed`);
    {'item_id', 'title', 'share', 'event_type'} of the history's item that spoke loudest, with 'alike' where its words
    did, and then 'same', tags and attributes that both items have, if any; {'popular_in'} the user's country where the item is bought more than elsewhere, else None; {'taste': True}
    for the two-tower, beside the history's item, or with 'event_type' where no single one moved the score;
    {'buyers_7d', 'buyers_30d', 'trending': True} of what is bought more lately than before. 'goal' in what tells of others: what stands
    for purchases in a shop that knows none.
    """
    said = _said(sources, kinds, values, events, items)
    told = _named([evidence for _, evidence in said], catalogue, events)
    if goal != PURCHASE:
        for each in told:
            if "trending" in each or "item_id" in each:
                each["goal"] = goal
    parts: Sequence[Any] = kinds.named(values) if written is None else kinds.written(values, written)
    return [
        {"source": source, "evidence": evidence, "parts": each}
        for (source, _), evidence, each in zip(said, told, parts, strict=True)
    ]


def _said(
    sources: Mapping[str, Source], kinds: Kinds, values: np.ndarray, events: Events, items: np.ndarray
) -> list[tuple[str, dict[str, Any]]]:
    """Of each item the loudest source that has evidence, and its evidence; each source is asked once for all that it is loudest for."""
    order, depth = kinds.loudest(values), 0
    found: list[tuple[str, dict[str, Any]]] = [("popularity", {"popular_in": None}) for _ in order]
    left: Sequence[int] = range(len(order))
    while left and depth < len(kinds.sources):
        asked: dict[int, list[int]] = {}
        numbers = order[:, depth].tolist()
        for place in left:
            asked.setdefault(numbers[place], []).append(place)
        asked.pop(-1, None)
        left, depth = [], depth + 1
        for number, places in asked.items():
            name = kinds.sources[number]
            for place, evidence in zip(places, sources[name].evidences(events, items[places]), strict=True):
                if evidence is None:
                    left.append(place)
                else:
                    found[place] = name, evidence
    return found


def _named(evidences: Sequence[dict], catalogue: Catalogue, events: Events) -> list[dict[str, Any]]:
    """Rows under 'item' as id and title, and what the user did with them, from their own events."""
    state, ids = events.states[0], catalogue.item_ids
    done = deeds(state, {ids[each["item"]] for each in evidences if "item" in each})
    now = epoch(events.now)
    told = []
    for each in evidences:
        if "item" in each:
            row = each.pop("item")
            item_id = ids[row]
            if each.pop("own", False):
                each = _deed(*done.get(item_id, NOTHING), now)
            else:
                kind = done.get(item_id, NOTHING)[0]
                each = {
                    "item_id": item_id,
                    "title": catalogue.value("title", row),
                    **each,
                    "event_type": kind,
                }
        elif each.get("taste"):
            each["event_type"] = min(state.event_types, key=lambda kind: TELLING.get(kind, LEAST), default="")
        told.append(each)
    return told


NOTHING: tuple[str, list[int]] = ("", [])


def deeds(state: UserState, wanted: Collection[str]) -> dict[str, tuple[str, list[int]]]:
    """By item of `wanted`: the most telling thing that a user did with it, and when, newest first.

    It is the first of DEEDS; another kind, where a shop gave weight to it and there is no other.
    """
    found: dict[str, tuple[str, list[int]]] = {}
    for item, kind, when in zip(state.item_ids, state.event_types, state.event_times, strict=True):
        if item in wanted:
            held = found.get(item)
            if held is None or TELLING.get(kind, LEAST) < TELLING.get(held[0], LEAST):
                found[item] = kind, [when]
            elif kind == held[0]:
                held[1].append(when)
    return found


def deed(state: UserState, item_id: str, now: float) -> dict[str, Any]:
    """{'event_type', 'times', 'days_ago'}: the most telling thing a user did with an item, on how many days, and how long
    ago last. now: epoch seconds.

    >>> state = UserState("u", None, ["a", "b", "a", "a"], ["view", "view", "purchase", "purchase"], [9 * 86_400, 0, 1, 0])
    >>> deed(state, "a", 10 * 86_400.0), deed(state, "b", 0.0)["event_type"]
    ({'event_type': 'purchase', 'times': 1, 'days_ago': 10.0}, 'view')
    """
    return _deed(*deeds(state, {item_id}).get(item_id, NOTHING), now)


def _deed(kind: str, times: Sequence[int], now: float) -> dict[str, Any]:
    days = {time // DAY for time in times}
    ago = max(now - max(times), 0.0) / DAY if times else 0.0
    return {"event_type": kind, "times": len(days), "days_ago": round(float(ago), 1)}
