"""What is made of a fitted model once, in its bundle: a server maps it into memory in place of making it beside its questions.

Nothing here says what the sources do not: a bundle without it is loaded all the same, and what is missing is made at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.index import Indexed
from engine.sources.base import Arrays
from engine.sources.item_item import ItemItem
from engine.sources.neighbours import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.recommender import Recommender

SIMILAR = "similar"  # an item's neighbours, which `ItemItem` stores by those that speak for it
INDEX = "index_"  # and the name of the source that is behind it


def made(model: Recommender) -> dict[str, Arrays]:
    """By name, of a model that is to be saved: all that there is to be made."""
    similar = model.sources.get(ItemItem.name)
    found = {SIMILAR: pack(similar.by_target)} if isinstance(similar, ItemItem) else {}
    return found | {f"{INDEX}{name}": each.arrays() for name, each in model.indexed.items()}


def held(model: Recommender) -> dict[str, Arrays]:
    """As `made`, of what is there already."""
    similar = model.sources.get(ItemItem.name)
    there = isinstance(similar, ItemItem) and "by_target" in vars(similar)
    found = {SIMILAR: pack(similar.by_target)} if there and isinstance(similar, ItemItem) else {}
    return found | {f"{INDEX}{name}": each.arrays() for name, each in vars(model).get("indexed", {}).items()}


def is_one(name: str) -> bool:
    """Whether `made` may have an array file of this name."""
    return name == SIMILAR or name.startswith(INDEX)


def put(model: Recommender, arrays: Mapping[str, Arrays]) -> None:
    """Gives a model what `made` made of it. Raises KeyError, ValueError or IndexError for what is none of it."""
    if SIMILAR in arrays and ItemItem.name in model.sources:
        vars(model.sources[ItemItem.name])["by_target"] = unpack(arrays[SIMILAR])
    indexed = {
        name.removeprefix(INDEX): Indexed.from_arrays(each)
        for name, each in arrays.items()
        if name.startswith(INDEX)
    }
    if indexed:
        vars(model)["indexed"] = indexed
