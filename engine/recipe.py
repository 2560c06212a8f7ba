"""How a recommender is made: everything but the data. A gated recipe is refitted by giving it newer data."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from aisle.settings import Settings
from engine.blend import Weights
from engine.sources import FROM_HISTORIES

# Chosen on Online Retail's validation window; `engine.tuning.choose` replaces them for the shop at hand.
START = Weights(
    again={"popularity": 1.05, "personal": 0.7, "linear": 0.35},
    new={"popularity": 0.5, "item_item": 0.2, "linear": 0.75},
    offset=9.0,
)


def _defaults() -> dict[str, dict[str, float]]:
    return {name: {} for name in FROM_HISTORIES}


class Recipe(BaseModel):
    """Frozen and JSON-able.

    cut: data from then on was not seen; None before the fit. sources: hyperparameters by source, beyond its
    defaults.
    event_weights: by event type, negative for dislikes. weights: of the blend.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 7
    cut: datetime | None = None
    feature_service: str = "retrieval_v1"
    event_weights: dict[str, float] = Field(default_factory=lambda: {"purchase": 1.0, "return": -1.0})
    sources: dict[str, dict[str, float]] = Field(
        default_factory=lambda: dict[str, dict[str, float]]({name: {} for name in FROM_HISTORIES})
    )
    weights: Weights = START

    @classmethod
    def of(cls, settings: Settings) -> Recipe:
        """The recipe that the settings ask for, before its blend was chosen."""
        sources = _defaults()
        sources["popularity"] = {"days": float(settings.features.popularity_days)}
        return cls(
            seed=settings.training.seed, event_weights=dict(settings.training.event_weights), sources=sources
        )
