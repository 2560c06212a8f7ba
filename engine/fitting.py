"""Sources fitted to what was known before a moment."""

from __future__ import annotations

from collections.abc import Mapping

from engine.interactions import Catalogue, Events
from engine.recipe import Recipe
from engine.sources import FROM_EXPORTS, FROM_HISTORIES, Export
from engine.sources.base import Source


def fit_sources(
    recipe: Recipe, events: Events, catalogue: Catalogue, exports: Mapping[str, Export]
) -> dict[str, Source]:
    """Those of the recipe, by name. exports: learned models by source; a learned source without one is left out."""
    return {
        name: fit_source(name, settings, events, catalogue, exports.get(name))
        for name, settings in recipe.sources.items()
        if name in FROM_HISTORIES or name in exports
    }


def fit_source(
    name: str,
    settings: Mapping[str, float],
    events: Events,
    catalogue: Catalogue,
    export: Export | None = None,
) -> Source:
    """One source of the recipe. export: of a learned one."""
    if export is not None:
        found: Source = FROM_EXPORTS[name].fit(export, catalogue)
        return found
    fitted: Source = FROM_HISTORIES[name].fit(events, catalogue, **_whole(settings))
    return fitted


def _whole(settings: Mapping[str, float]) -> dict[str, float | int]:
    """Hyperparameters as they are: JSON has one kind of number, counts are whole."""
    return {key: int(value) if float(value).is_integer() else value for key, value in settings.items()}
