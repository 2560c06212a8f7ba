"""Candidate sources: each scores every item for every user, from its own evidence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from aisle.errors import SettingsError
from aisle.settings import SourceName
from engine.sequence import SequenceExport
from engine.sources.content import Content
from engine.sources.factors import Factors
from engine.sources.graph import Graph
from engine.sources.item_item import ItemItem
from engine.sources.linear import Linear
from engine.sources.next_bought import NextBought
from engine.sources.people import People
from engine.sources.personal import Personal
from engine.sources.popularity import Popularity
from engine.sources.sequence import Sequence
from engine.sources.trending import Trending
from engine.sources.two_tower import TwoTower
from engine.towers import TowerExport

# A model that was learnt elsewhere, as arrays.
Export = TowerExport | SequenceExport

# Those that are fitted from histories alone, in the order in which they are written down.
FROM_HISTORIES: dict[str, Any] = {
    source.name: source
    for source in (
        Popularity,
        Personal,
        ItemItem,
        Linear,
        NextBought,
        Content,
        Graph,
        Factors,
        People,
        Trending,
    )
}
# Those that are fitted from the export of a learned model.
FROM_EXPORTS: dict[str, Any] = {source.name: source for source in (TwoTower, Sequence)}
# What answers without a history, and "similar items", are always there.
NEEDED = frozenset({Popularity.name, ItemItem.name})


def hyperparameters(name: str) -> dict[str, float]:
    """A source's, with their defaults, from the signature of its fit; none of a learned one."""
    there = inspect.signature((FROM_HISTORIES | FROM_EXPORTS)[name].fit).parameters.values()
    return {each.name: each.default for each in there if isinstance(each.default, (int, float))}


def require_sound(settings: Mapping[SourceName, Mapping[str, float]]) -> None:
    """Raises SettingsError that lists all that no fit would take. settings: hyperparameters by source."""
    faults = [
        f"training.source_settings.{name}.{key} = {value:g}: {fault}"
        for name, given in settings.items()
        for key, value in given.items()
        if (fault := _fault(name, key, value))
    ]
    if faults:
        raise SettingsError("; ".join(faults))


def _fault(name: str, key: str, value: float) -> str:
    known = hyperparameters(name)
    if not known and name in FROM_EXPORTS:
        return f"{name} is learned before it is a source, and takes its settings from [training] itself"
    if key not in known:
        return f"{name} has no such parameter; it has {', '.join(known) or 'none'}"
    if isinstance(known[key], int) and not float(value).is_integer():
        return f"a whole number is needed, such as {known[key]}"
    if value < 0 or (value == 0 and ("days" in key or (isinstance(known[key], int) and key != "seed"))):
        return f"it must be above zero, such as {known[key]:g}"
    return ""
