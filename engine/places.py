"""From an ordering to pages: pinned items, caps a value, and what is left over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.assortment import COLUMNS, Assortment
from engine.rules import Rules

LOW = np.uint64(0xFFFFFFFF)  # the lower half of a key


def ordered(scores: np.ndarray, allowed: np.ndarray, depth: int) -> np.ndarray:
    """The best `depth` allowed rows with finite scores, best first, ties by row."""
    from engine.compiled.best import keys_of_best  # where it is asked for, as in engine.one_user

    keys = keys_of_best(np.asarray(scores, np.float32), allowed, depth)
    if len(keys) > depth:
        keys = np.partition(keys, depth)[:depth]
    keys.sort()
    return (keys & LOW).astype(np.int64)


@dataclass(frozen=True)
class Places:
    """How pages are made of an ordering: pins by place (from 0) and row, caps as (name, codes, most)."""

    pins: Mapping[int, int]
    caps: Sequence[tuple[str, np.ndarray, int]]

    @classmethod
    def of(cls, assortment: Assortment, rules: Sequence[Rules], allowed: np.ndarray) -> Places:
        """Later documents speak last about a place and an item; the smallest cap holds. Pins of what is not allowed are none."""
        wanted: dict[str, int] = {}
        for pin in (pin for each in rules for pin in each.pins):
            wanted.pop(pin.item_id, None)  # who is pinned anew speaks last about the new place as well
            wanted[pin.item_id] = pin.position - 1
        index = assortment.catalogue.index
        pins = {
            place: index[item] for item, place in wanted.items() if item in index and allowed[index[item]]
        }
        caps = []
        for name, column in zip(("category", "brand"), COLUMNS, strict=True):
            most = min((cap for each in rules if (cap := getattr(each.caps, name))), default=None)
            if most is not None and column in assortment.codes:
                caps.append((name, assortment.codes[column], most))
        return cls(pins, caps)

    @cached_property
    def _pinned(self) -> list[int]:
        return list(self.pins.values())

    @property
    def plain(self) -> bool:
        return not self.pins and not self.caps

    def page(self, order: np.ndarray, start: int, k: int, taken: frozenset[int] = frozenset()) -> list[int]:
        """Rows for the places start, …, start + k - 1. order: rows, best first. taken: shown on earlier pages.

        Shorter than k only where nothing is left that the caps let in. A pin beyond the end of a short list moves up to it.
        """
        if self.plain and not taken:
            return order[:k].tolist()
        room = _Room(self.caps)
        here = {}
        for place in sorted(self.pins):
            row = self.pins[place]
            if start <= place < start + k and row not in taken and room.takes(row):
                here[place] = row
        waiting = [row for place, row in sorted(self.pins.items()) if place >= start + k and row not in taken]
        barred = taken | set(here.values()) | set(waiting)
        others = iter([row for row in order.tolist() if row not in barred])
        found: list[int] = []
        while len(found) < k and start + len(found) in here:
            found.append(here.pop(start + len(found)))
        for row in others:
            if len(found) >= k:
                break
            if room.takes(row):
                found.append(row)
            while len(found) < k and start + len(found) in here:
                found.append(here.pop(start + len(found)))
        found += [here[place] for place in sorted(here)]
        found += [row for row in waiting if len(found) < k and room.takes(row)]
        return found[:k]


class _Room:
    """What the caps still let in on a page."""

    def __init__(self, caps: Sequence[tuple[str, np.ndarray, int]]):
        self.caps = caps
        self.counts: list[dict[int, int]] = [{} for _ in caps]

    def takes(self, row: int) -> bool:
        """Whether the row fits, and counts it if so."""
        values = [int(codes[row]) for _, codes, _ in self.caps]
        for value, counts, (_, _, most) in zip(values, self.counts, self.caps, strict=True):
            if value >= 0 and counts.get(value, 0) >= most:
                return False
        for value, counts in zip(values, self.counts, strict=True):
            if value >= 0:
                counts[value] = counts.get(value, 0) + 1
        return True
