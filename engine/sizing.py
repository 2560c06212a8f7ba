"""How large a fitted recommender gets: bytes per item, per event that it was fitted to, and per user, by source.

An upper bound from the hyperparameters, for planning before there is a model; `measured` is what a model has. The same numbers
hold on disk and in memory: a bundle's arrays are not compressed. docs/engine.md tells what comes on top of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources import FROM_HISTORIES, hyperparameters
from engine.trends import WINDOWS

ENTRY = 8  # bytes of a similarity that is kept: float32 and int32
NUMBER = 4
CHARACTER = 4  # of an id in an array
FIXED = 4_096  # of a source, whatever the shop's size: parameters, country names


@dataclass(frozen=True)
class Rate:
    """Bytes an item, an event and a user, and whatever there is of them."""

    item: float = 0.0
    event: float = 0.0
    user: float = 0.0
    fixed: float = FIXED

    def bytes(self, items: int, events: int, users: int) -> float:
        return self.item * items + self.event * events + self.user * users + self.fixed


def rates(
    recipe: Recipe, countries: int = 1, id_length: int = 12, learned: Mapping[str, int] | None = None
) -> dict[str, Rate]:
    """By source of the recipe, and trends. learned: dimension by learned model, such as {"two_tower": 64}.

    id_length: characters of the longest item id. Of users nothing is kept but their share in groups of ten or more.
    """
    found = {"trends": Rate(item=NUMBER * (len(WINDOWS) + 2))}
    for name, settings in recipe.sources.items():
        if name not in FROM_HISTORIES:
            continue
        found[name] = _rate(name, {**hyperparameters(name), **settings}, countries)
    for name, dimension in (learned or {}).items():
        # Vectors for scoring, for reading histories, and of attributes; dense layers.
        item = 3 * NUMBER * dimension + CHARACTER * id_length + 8
        found[name] = Rate(item=item, fixed=FIXED + 128 * dimension**2)
    return found


def _rate(name: str, has: Mapping[str, float], countries: int) -> Rate:
    if name == "popularity":
        return Rate(item=NUMBER + 5 * countries)
    if name == "trending":
        return Rate(item=3 * NUMBER)
    if name == "people":
        return Rate(item=NUMBER, event=ENTRY * has["partitions"] / 3, user=ENTRY * has["partitions"] / 10)
    kept = ENTRY * has.get("neighbours", 0.0)
    vectors = NUMBER * (has.get("rank", 0.0) + has.get("factors", 0.0))
    return Rate(item=kept + vectors + 2 * ENTRY if kept or vectors else NUMBER)


def measured(recommender: Recommender) -> dict[str, int]:
    """Bytes of the arrays that a bundle stores, by source and trends."""
    stored = {name: source.arrays() for name, source in recommender.sources.items()}
    stored["trends"] = recommender.trends.arrays()
    return {name: sum(array.nbytes for array in arrays.values()) for name, arrays in stored.items()}
