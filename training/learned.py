"""Learned sources for a row of windows: each model saw what its window's histories hold, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.interactions import Catalogue, Events
from engine.recipe import Recipe
from engine.sources.sequence import Sequence as SequenceSource
from engine.state import from_frame
from engine.tuning import truth_matrix
from engine.windows import Window
from training import sequence
from training.sequence_model import SequenceSettings


def with_sequence(
    windows: Sequence[Window],
    validation: int,
    recipe: Recipe,
    settings: SequenceSettings,
    say: Callable[[str], None] = print,
) -> list[Window]:
    """The windows with a sequence model each; as they are where no user has two events, or nothing tells their order.

    validation: the place of the window that chooses the number of epochs; the others are learnt as long.
    """
    judged = windows[validation]
    if all(len(set(times)) < 2 for times in judged.histories["event_times"]):
        say("no sequence model: all events of a user are of one moment")
        return list(windows)
    try:
        first = _learnt(judged, recipe, settings, _judge(judged, recipe), say)
        settings = replace(settings, epochs=max(first.kept, 1))
        learnt = [
            first if window is judged else _learnt(window, recipe, settings, None, say) for window in windows
        ]
    except ValueError as error:
        say(f"no sequence model: {error}")
        return list(windows)
    return [
        replace(window, exports={**window.exports, SequenceSource.name: each.export})
        for window, each in zip(windows, learnt, strict=True)
    ]


def _learnt(window: Window, recipe: Recipe, settings: SequenceSettings, judge, say) -> sequence.Learned:
    return sequence.fit(
        _events(window, recipe, window.histories),
        Catalogue.of(window.items),
        settings,
        judge=judge,
        progress=say,
    )


def _events(window: Window, recipe: Recipe, histories) -> Events:
    index = Catalogue.of(window.items).index
    return Events.of(from_frame(histories), index, window.at, recipe.event_weights, recipe.counting)


def _judge(window: Window, recipe: Recipe) -> sequence.Judge:
    buyers = window.buyers(len(window.histories), recipe.seed)
    truth = truth_matrix(window.truth, from_frame(buyers), Catalogue.of(window.items))
    return sequence.Judge(_events(window, recipe, buyers), truth)
