"""Rules at request time as data: what a document may say, with every contradiction of it told.

Several documents hold together (the shop's, a page's, a request's): an item must pass every one of them. What they ask of
items is read by `engine.assortment`, what they ask of places by `engine.places`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from aisle.checked import Checked
from aisle.columns import EVENT_TYPES, RATING, RATINGS
from aisle.settings import Boost
from engine.state import DAY, UserState

MOST_BOOST = 1_000_000  # scores are single precision
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Values = Annotated[tuple[Name, ...], Field(max_length=1000)]
EventType = Literal[EVENT_TYPES]  # type: ignore[valid-type]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _a_range(min: float | None, max: float | None) -> Sequence[str]:
    return [f"min {min} is above max {max}"] if min is not None and max is not None and min > max else ()


class PriceRange(_Rule, Checked):
    """In the shop's currency, both ends included. An item whose price is not known is outside."""

    min: float | None = Field(default=None, ge=0)
    max: float | None = Field(default=None, ge=0)

    between = (_a_range,)


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


def _pinned_once(pins: tuple[Pin, ...], exclude: tuple[str, ...]) -> Sequence[str]:
    if not pins:
        return ()
    faults = []
    for what, values in (
        ("position", [str(pin.position) for pin in pins]),
        ("item", [pin.item_id for pin in pins]),
    ):
        twice = sorted({each for each in values if values.count(each) > 1})
        faults += [f"pins: {what} {each} is pinned twice" for each in twice]
    faults += [f"pins: {each.item_id!r} is excluded" for each in pins if each.item_id in exclude]
    return ["; ".join(faults)] if faults else ()


def _categories_apart(categories: Chosen) -> Sequence[str]:
    return _apart("categories", categories) if categories.exclude else ()


def _brands_apart(brands: Chosen) -> Sequence[str]:
    return _apart("brands", brands) if brands.exclude else ()


def _apart(name: str, chosen: Chosen) -> list[str]:
    both = sorted({*chosen.include} & {*chosen.exclude})
    return [f"{name}: {each!r} is included and excluded" for each in both]


def _boosted_within(boosts: tuple[Boost, ...]) -> Sequence[str]:
    if not boosts:
        return ()
    columns = sorted({boost.column for boost in boosts} - {"item_id", "brand", "categories"})
    faults = [f"boosts: column {each!r} is none of item_id, brand, categories" for each in columns]
    if any(max(boost.times, abs(boost.add)) > MOST_BOOST for boost in boosts):
        faults.append(f"boosts: times and add go up to {MOST_BOOST:,}")
    return faults


class Rules(_Rule, Checked):
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

    between = (_pinned_once, _categories_apart, _brands_apart, _boosted_within)

    @property
    def of_items(self) -> tuple:
        """What of the document is the same for every request, as the key of its mask; a shop's sliders ask for other prices each time."""
        return self.in_stock, self.categories, self.brands


def had(state: UserState, rules: Sequence[Rules], now: float) -> set[str]:
    """Items that `already` of one of the documents leaves out. now: epoch seconds."""
    found: set[str] = set()
    for already in filter(None, (each.already for each in rules)):
        since = -np.inf if already.days is None else now - already.days * DAY
        kinds = {*already.event_types, *(RATINGS if RATING in already.event_types else ())}
        if kinds.isdisjoint(state.event_types):
            continue
        found |= {
            item
            for item, kind, time in zip(state.item_ids, state.event_types, state.event_times, strict=True)
            if kind in kinds and time >= since
        }
    return found
