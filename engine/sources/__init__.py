"""Candidate sources: each scores every item for every user, from its own evidence."""

from __future__ import annotations

from typing import Any

from engine.sources.content import Content
from engine.sources.item_item import ItemItem
from engine.sources.linear import Linear
from engine.sources.personal import Personal
from engine.sources.popularity import Popularity

# Those that are fitted from histories alone, in the order in which they are written down.
FROM_HISTORIES: dict[str, Any] = {
    source.name: source for source in (Popularity, Personal, ItemItem, Linear, Content)
}
