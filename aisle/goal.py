"""What a shop's lists should bring about: purchases, or in a shop that knows none, the strongest thing that its people do.

A site of ratings has no purchase, a portal that counts clicks has neither. What is learnt and judged there is the next rung
of LADDER. Said once: what is popular (gold.item_stats), labels, the truth of every window and what somebody "has" go by it.
"""

from __future__ import annotations

from collections.abc import Collection

from aisle import lake
from aisle.columns import FAIR_RATING, RATING
from aisle.settings import Settings

PURCHASES = ("purchase",)
LADDER = (PURCHASES, (RATING, "like"), ("cart",), ("click",), ("view",))  # strongest first
SILVER = "silver.interactions"


def of_shop(settings: Settings, version: int) -> tuple[str, ...]:
    """`training.goal` where it is set; else those of the strongest rung that a known user ever did. `version`: of silver.interactions.

    Purchases where nobody did any of them: who asks for those says what is missing.
    """
    if settings.training.goal:
        return tuple(settings.training.goal)
    if version < 0:
        return PURCHASES
    for rung in LADDER:
        there = _there(rung, version)
        if there:
            return there
    return PURCHASES


def _there(rung: Collection[str], version: int) -> tuple[str, ...]:
    """Those of a rung that a known user did with an item."""
    wanted: list[tuple[str, str, object]] = [("event_type", "in", list(rung))]
    found = lake.read(
        SILVER, columns=["event_type", "user_id", "item_id"], filters=wanted, at_version=version
    )
    some = set(found.drop_null()["event_type"].unique().to_pylist())
    return tuple(kind for kind in rung if kind in some)


def settled(settings: Settings, version: int) -> Settings:
    """The settings with the goal of the shop at hand written out: see `towards`."""
    return towards(settings, of_shop(settings, version))


def towards(settings: Settings, goal: Collection[str]) -> Settings:
    """The settings of a shop with this goal: its strongest event weighs what a purchase would, the others as before beside it.

    Sources that weigh counts against a constant (a ridge, a prior) then see what they see in a shop that sells.
    """
    training, goal = settings.training, list(goal)
    if goal == list(PURCHASES):
        return settings.model_copy(update={"training": training.model_copy(update={"goal": goal})})
    most = max((training.event_weights.get(kind, 0.0) for kind in goal), default=0.0)
    whole = training.event_weights.get(PURCHASES[0], 0.0) or 1.0
    scale = whole / most if most > 0 else 1.0
    weights = {kind: weight * scale for kind, weight in training.event_weights.items()}
    changed = {"goal": goal, "event_weights": weights, "unclicked_weight": training.unclicked_weight * scale}
    return settings.model_copy(update={"training": training.model_copy(update=changed)})


def had(goal: Collection[str]) -> tuple[str, ...]:
    """The kinds of events in a history after which a user has an item: the goal's, and what was rated so so is known as well."""
    return (*goal, FAIR_RATING) if RATING in goal else tuple(goal)
