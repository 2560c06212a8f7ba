"""How a recommender is made: everything but the data. A gated recipe is refitted by giving it newer data."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aisle import goal
from aisle.columns import FAIR_RATING, LOW_RATING, RATING
from aisle.settings import Final, Settings
from engine.blend import Weights
from engine.interactions import Counting
from engine.sources import FROM_EXPORTS, NEEDED, require_sound

# Chosen on Online Retail's validation window; `engine.tuning.choose` replaces them for the shop at hand.
START = Weights(
    again={"popularity": 1.05, "personal": 0.7, "linear": 0.35},
    new={"popularity": 0.5, "item_item": 0.2, "linear": 0.75},
    offset=9.0,
)


# What a shop gets unless its settings say otherwise; the others are for large or sequential catalogues (docs/engine.md).
USUAL = ("popularity", "personal", "item_item", "linear", "content")


def _defaults(names: Iterable[str] = USUAL) -> dict[str, dict[str, float]]:
    return {name: {} for name in names}


class Recipe(BaseModel):
    """Frozen and JSON-able.

    cut: data from then on was not seen; None before the fit. sources: hyperparameters by source, beyond its
    defaults.
    event_weights: by event type, negative for dislikes; never_again, bought and unclicked_*: see interactions.Counting. weights: of the
    blend. ranked: whether a ranker may be learnt over it. repeat: whether what a user bought may be recommended again; None before the
    shop was asked. final: the last stage, see engine.diversity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 7
    cut: datetime | None = None
    feature_service: str = "retrieval_v1"
    event_weights: dict[str, float] = Field(default_factory=lambda: {"purchase": 1.0, "return": -1.0})
    never_again: list[str] = Field(default_factory=lambda: ["hide", "dislike"])
    unclicked_impressions: int = 3
    unclicked_weight: float = -0.1
    bought: list[str] = Field(default_factory=lambda: ["purchase"])
    sources: dict[str, dict[str, float]] = Field(default_factory=lambda: _defaults((*USUAL, *FROM_EXPORTS)))
    ranked: bool = True
    repeat: bool | None = None
    weights: Weights = START
    final: Final = Final()

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """A recipe of before ratings counted by their value: a fair one weighs what a rating did, a low one is a dislike."""
        weights = values.get("event_weights") if isinstance(values, dict) else None
        if not weights or RATING not in weights or LOW_RATING in weights:
            return values
        new = {FAIR_RATING: weights[RATING], LOW_RATING: weights.get("dislike", 0.0), **weights}
        never = list(values.get("never_again", ["hide", "dislike"]))
        never += [LOW_RATING] if "dislike" in never and LOW_RATING not in never else []
        return {**values, "event_weights": new, "never_again": never}

    @property
    def goal(self) -> str:
        """What a reason says that others did: "purchase", or what stands for it, the most telling kind first."""
        return self.bought[0] if self.bought else goal.PURCHASES[0]

    @property
    def counting(self) -> Counting:
        return Counting(self.never_again, self.unclicked_impressions, self.unclicked_weight, self.bought)

    @classmethod
    def of(cls, settings: Settings) -> Recipe:
        """The recipe that the settings ask for, before its blend was chosen, with the sources that are NEEDED in any case.

        Raises SettingsError for hyperparameters that a source does not have.
        """
        training = settings.training
        require_sound(training.source_settings)
        asked = tuple(dict.fromkeys(training.sources))
        sources = _defaults((*(name for name in USUAL if name in NEEDED and name not in asked), *asked))
        sources["popularity"] = {"days": float(settings.features.popularity_days)}
        for name, given in training.source_settings.items():
            if name in sources:
                sources[name] = {**sources[name], **given}
        return cls(
            seed=training.seed,
            event_weights=dict(training.event_weights),
            ranked=training.ranker == "learn",
            repeat={"learn": None, "always": True, "never": False}[training.repeat],
            never_again=training.never_again,
            unclicked_impressions=training.unclicked_impressions,
            unclicked_weight=training.unclicked_weight,
            bought=list(goal.had(training.goal or goal.PURCHASES)),
            sources=sources,
            final=training.final,
        )
