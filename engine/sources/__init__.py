"""Candidate sources: each scores every item for every user, from its own evidence."""

from __future__ import annotations

from typing import Any

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
from engine.sources.two_tower import TwoTower
from engine.towers import TowerExport

# A model that was learnt elsewhere, as arrays.
Export = TowerExport | SequenceExport

# Those that are fitted from histories alone, in the order in which they are written down.
FROM_HISTORIES: dict[str, Any] = {
    source.name: source
    for source in (Popularity, Personal, ItemItem, Linear, NextBought, Content, Graph, Factors, People)
}
# Those that are fitted from the export of a learned model.
FROM_EXPORTS: dict[str, Any] = {source.name: source for source in (TwoTower, Sequence)}
# What answers without a history, and "similar items", are always there.
NEEDED = frozenset({Popularity.name, ItemItem.name})
