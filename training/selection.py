"""From windows of a shop's past to its recipe and ranker: one way for the pipeline, `aisle evaluate` and the benches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine import tuning
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.windows import Window
from training import ranking

# The way out of what `select` raises.
MORE = (
    "import more days, what people viewed and carted as well, or ids that last longer than a visit: "
    "who comes once is on no two sides of a split"
)


def select(
    earlier: Sequence[Window],
    validation: Window,
    base: Recipe,
    max_users: int,
    ranker_users: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Recipe, ranking.Choice, Recommender]:
    """The recipe that serves validation's buyers best, the ranker if it serves them better still, and who was judged.

    earlier: windows that end before validation's `at`, oldest first; the ranker learns from them, so that without one there is
    none, from `ranker_users` buyers of each window. What is returned last was fitted at validation's start and saw nothing after it. Raises ValueError where nobody
    with a history bought anything in the validation window.
    """
    recipe, at_validation = tuning.choose(validation, base, max_users, select=True)
    say(f"sources: {', '.join(recipe.sources)}; bought again: {'yes' if recipe.repeat else 'no'}")
    if not base.ranked:
        say("no ranker: training.ranker is 'never'")
        return recipe, ranking.Choice(None, {}), _priced(at_validation, validation)
    learnt: list[ranking.Window] = []
    for window in earlier:
        try:
            _, fitted = tuning.choose(window, recipe, max_users)
        except ValueError as error:
            say(f"the ranker does not learn from that window: {error}")
            continue
        learnt.append((fitted, window.histories, window.truth, window.at))
    if not learnt:
        say("no ranker: the purchases do not reach back far enough for a window before validation")
        return recipe, ranking.Choice(None, {}), _priced(at_validation, validation)
    judged = (at_validation, validation.histories, validation.truth, validation.at)
    choice = ranking.choose(learnt, judged, max_users, base.seed, ranker_users)
    for name, value in choice.figures.items():
        say(f"{name} {value:.4f}")
    return recipe, choice, _priced(at_validation.with_ranker(choice.judged), validation)


def _priced(model: Recommender, window: Window) -> Recommender:
    """With what its discovery slots go by, where it has any: blend and ranker were chosen without."""
    return model.with_discovery(window.histories) if model.recipe.final.discovery_slots else model
