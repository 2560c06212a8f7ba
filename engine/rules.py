"""Rules at request time: which items may be shown, and which places they get.

A rule document is data. Several hold together (the shop's, a page's, a request's): an item must pass every one of them.
What a document asks of the catalogue becomes a mask over its items once, so that a request only combines masks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aisle.columns import EVENT_TYPES
from aisle.settings import Boost
from engine.diversity import codes_of
from engine.interactions import Catalogue
from engine.metrics import top_k
from engine.state import DAY, UserState

COLUMNS = ("categories", "brand")
MASKS = 256  # of rule documents that are kept, n_items bytes each
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Values = Annotated[tuple[Name, ...], Field(max_length=1000)]
EventType = Literal[EVENT_TYPES]  # type: ignore[valid-type]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PriceRange(_Rule):
    """In the shop's currency, both ends included. An item whose price is not known is outside."""

    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Chosen(_Rule):
    """include: an item must have one of these values; empty: any, or none. exclude: it must have none of these."""

    include: Values = ()
    exclude: Values = ()


class Already(_Rule):
    """Leaves out what the user already did one of `event_types` with, in the last `days`; without `days`, ever."""

    event_types: Annotated[tuple[EventType, ...], Field(min_length=1)] = ("purchase",)
    days: float | None = Field(default=None, gt=0, le=36_500)


class Caps(_Rule):
    """The most items of one value on a page. Of a path of categories the last counts; what is unknown is not counted."""

    category: int | None = Field(default=None, ge=1)
    brand: int | None = Field(default=None, ge=1)


class Pin(_Rule):
    """An item at a position, counted from 1 over all pages; not where a rule forbids the item or a cap is full."""

    item_id: Name
    position: int = Field(ge=1, le=1000)


class Rules(_Rule):
    """One document; as it stands here it forbids nothing."""

    in_stock: bool = Field(
        default=False, description="Leaves out what is out of stock; unknown stock is shown."
    )
    price: PriceRange | None = None
    categories: Chosen = Field(default=Chosen(), description="Any level of an item's path counts.")
    brands: Chosen = Chosen()
    exclude: Values = Field(default=(), description="Item ids that are never shown.")
    already: Already | None = None
    caps: Caps = Caps()
    pins: Annotated[tuple[Pin, ...], Field(max_length=100)] = ()
    boosts: Annotated[tuple[Boost, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Every contradiction, not the first."""
        faults = []
        for what, values in (
            ("position", [str(pin.position) for pin in self.pins]),
            ("item", [pin.item_id for pin in self.pins]),
        ):
            twice = sorted({each for each in values if values.count(each) > 1})
            faults += [f"pins: {what} {each} is pinned twice" for each in twice]
        faults += [
            f"pins: {each.item_id!r} is excluded" for each in self.pins if each.item_id in self.exclude
        ]
        for name, chosen in (("categories", self.categories), ("brands", self.brands)):
            both = sorted({*chosen.include} & {*chosen.exclude})
            faults += [f"{name}: {each!r} is included and excluded" for each in both]
        columns = sorted({boost.column for boost in self.boosts} - {"item_id", "brand", "categories"})
        faults += [f"boosts: column {each!r} is none of item_id, brand, categories" for each in columns]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def of_items(self) -> tuple:
        """What of the document is the same for every request, as the key of its mask."""
        return self.in_stock, self.price, self.categories, self.brands


@dataclass(frozen=True)
class Assortment:
    """A catalogue as rules read it. price: (n_items,) float64, NaN unknown. gone: (n_items,) bool, deleted.

    stocked: units of an item, None unknown; asked once an item, when the first rule wants it.
    rows: by column (categories, brand) and value, the rows that have it. codes: by column, see diversity.codes_of.
    May be read from many threads.
    """

    catalogue: Catalogue
    stocked: Callable[[str], int | None]
    price: np.ndarray
    gone: np.ndarray
    rows: Mapping[str, Mapping[str, np.ndarray]]
    codes: Mapping[str, np.ndarray]
    _masks: OrderedDict[tuple, np.ndarray] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        stocked: Callable[[str], int | None] = lambda item: None,
        like: Assortment | None = None,
    ) -> Assortment:
        """like: an earlier one, of which the columns that did not change are used again."""
        n, frame = len(catalogue), catalogue.frame
        price = np.full(n, np.nan)
        if "price" in frame:
            price = pd.to_numeric(frame["price"], errors="coerce").to_numpy(float)
        gone = np.zeros(n, bool)
        gone[list(catalogue.gone)] = True
        rows: dict[str, Mapping[str, np.ndarray]] = {}
        codes: dict[str, np.ndarray] = {}
        for column in (name for name in COLUMNS if name in frame):
            if like is not None and _shared(frame, like.catalogue.frame, column):
                rows[column], codes[column] = like.rows[column], like.codes[column]
            else:
                rows[column], codes[column] = _rows_of(frame[column]), codes_of(frame[column])
        return cls(catalogue, stocked, price, gone, rows, codes)

    @cached_property
    def stock(self) -> np.ndarray:
        """(n_items,) float64 units, NaN unknown."""
        units = (self.stocked(item) for item in self.catalogue.item_ids)
        return np.fromiter((np.nan if each is None else each for each in units), float, len(self.catalogue))

    def allowed(self, rules: Sequence[Rules]) -> np.ndarray:
        """(n_items,) bool of the items that every document lets through. The caller may change it."""
        found = ~self.gone
        for each in rules:
            found &= self._mask(each)
            found[self.rows_of(each.exclude)] = False
        return found

    def _mask(self, rules: Rules) -> np.ndarray:
        key = rules.of_items
        with self._lock:
            held = self._masks.get(key)
            if held is not None:
                self._masks.move_to_end(key)
                return held
        found = np.ones(len(self.catalogue), bool)
        for _, mask in self.checks(rules):
            found &= mask
        with self._lock:
            self._masks[key] = found
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return found

    def checks(self, rules: Rules) -> Iterator[tuple[str, np.ndarray]]:
        """(rule, mask of the items that pass) of what a document asks of items, without `exclude`."""
        if rules.in_stock:
            yield "in_stock", ~(self.stock <= 0)
        if rules.price and rules.price.min is not None:
            yield "price.min", self.price >= rules.price.min
        if rules.price and rules.price.max is not None:
            yield "price.max", self.price <= rules.price.max
        for name, column, chosen in (
            ("categories", "categories", rules.categories),
            ("brands", "brand", rules.brands),
        ):
            if chosen.include:
                yield f"{name}.include", self.having(column, chosen.include)
            if chosen.exclude:
                yield f"{name}.exclude", ~self.having(column, chosen.exclude)

    def having(self, column: str, values: Sequence[str]) -> np.ndarray:
        """(n_items,) bool: items with one of the values."""
        found = np.zeros(len(self.catalogue), bool)
        known = self.rows.get(column, {})
        for value in values:
            found[known.get(value, [])] = True
        return found

    def rows_of(self, items: Sequence[str]) -> list[int]:
        """Rows of the items that the catalogue knows."""
        index = self.catalogue.index
        return [index[item] for item in items if item in index]

    def boosted(self, scores: np.ndarray, rules: Sequence[Rules]) -> np.ndarray:
        """The scores as boosts move them, a copy where there are any; see settings.Boost."""
        boosts = [boost for each in rules for boost in each.boosts]
        if not boosts:
            return scores
        finite = scores[np.isfinite(scores)]
        least, found = (finite.min() if len(finite) else 0.0), scores.copy()
        for boost in boosts:
            rows = (
                np.array(self.rows_of([boost.value]), int)
                if boost.column == "item_id"
                else self.rows.get(boost.column, {}).get(boost.value, np.empty(0, int))
            )
            rows = rows[np.isfinite(found[rows])]
            found[rows] = least + (found[rows] - least) * np.float32(boost.times) + np.float32(boost.add)
        return found


def had(state: UserState, rules: Sequence[Rules], now: float) -> set[str]:
    """Items that `already` of one of the documents leaves out. now: epoch seconds."""
    found: set[str] = set()
    for already in filter(None, (each.already for each in rules)):
        since = -np.inf if already.days is None else now - already.days * DAY
        kinds = set(already.event_types)
        found |= {
            item
            for item, kind, time in zip(state.item_ids, state.event_types, state.event_times, strict=True)
            if kind in kinds and time >= since
        }
    return found


@dataclass(frozen=True)
class Places:
    """How pages are made of an ordering: pins by place (from 0) and row, caps as (name, codes, most)."""

    pins: Mapping[int, int]
    caps: Sequence[tuple[str, np.ndarray, int]]

    @classmethod
    def of(cls, assortment: Assortment, rules: Sequence[Rules], allowed: np.ndarray) -> Places:
        """Later documents speak last about a place and an item; the smallest cap holds. Pins of what is not allowed are none."""
        wanted = {pin.item_id: pin.position - 1 for each in rules for pin in each.pins}
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


def ordered(scores: np.ndarray, allowed: np.ndarray, depth: int) -> np.ndarray:
    """The best `depth` allowed rows with finite scores, best first, ties by row."""
    found = top_k(np.where(allowed, scores, -np.inf)[None], depth)[0]
    return found[found >= 0]


def _shared(frame: pd.DataFrame, before: pd.DataFrame, column: str) -> bool:
    """Whether a column is the same memory in two frames, and so the same values."""
    if column not in before or len(frame) != len(before):
        return False
    return np.shares_memory(np.asarray(frame[column]), np.asarray(before[column]))


def _rows_of(column) -> dict[str, np.ndarray]:
    """value -> rows that have it; a list's every value counts."""
    found: dict[str, list[int]] = {}
    for row, cell in enumerate(column):
        many = cell if isinstance(cell, (list, tuple, np.ndarray)) else [cell]
        for value in dict.fromkeys(
            str(each) for each in many if each is not None and each == each and each != ""
        ):
            found.setdefault(value, []).append(row)
    return {value: np.array(rows, np.int64) for value, rows in found.items()}
