"""Sequence models for a row of windows: each saw what its window's histories hold, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from engine.interactions import Catalogue, Events
from engine.recipe import Recipe
from engine.sources.sequence import Sequence as SequenceSource
from engine.state import from_frame
from engine.tuning import truth_matrix
from engine.windows import Window
from training import sequence
from training.sequence import Learned, Weights
from training.sequence_model import SequenceSettings, fits

CONTINUED_EPOCHS = 3  # of weights that know all but the newest days
Say = Callable[[str], None]


def with_sequence(
    windows: Sequence[Window],
    validation: int,
    recipe: Recipe,
    settings: SequenceSettings,
    say: Say = print,
) -> list[Window]:
    """The windows with a sequence model each; as they are where it cannot be learnt (see `sequences`)."""
    try:
        learnt = sequences(windows, validation, recipe, settings, say)
    except ValueError as error:
        say(f"no sequence model: {error}")
        return list(windows)
    return [
        replace(window, exports={**window.exports, SequenceSource.name: each.export})
        for window, each in zip(windows, learnt, strict=True)
    ]


def sequences(
    windows: Sequence[Window],
    validation: int,
    recipe: Recipe,
    settings: SequenceSettings,
    say: Say = print,
    weights: Weights | None = None,
) -> list[Learned]:
    """A sequence model a window. validation: the place of the one that chooses the number of epochs; the others are learnt as long.

    weights: to go on from; they saw nothing from the first window's `at` on. Raises ValueError where no user has two events, or
    nothing tells their order.
    """
    judged = windows[validation]
    if not any(times is not None and len(set(times)) > 1 for times in judged.histories["event_times"]):
        raise ValueError("all events of a user are of one moment")
    first = one(judged, recipe, settings, say, weights, _judge(judged, recipe))
    settings = replace(settings, epochs=max(first.kept, 1))
    return [first if window is judged else one(window, recipe, settings, say, weights) for window in windows]


def continued(
    weights: Weights | None, window: Window, recipe: Recipe, settings: SequenceSettings, say: Say = print
) -> Learned:
    """The model of an earlier moment, continued on a window's histories; learnt anew, `settings.epochs` long, where there is none
    of this form.

    Raises ValueError as `sequences` does.
    """
    if weights is not None and fits(weights, settings):
        settings = replace(settings, epochs=min(CONTINUED_EPOCHS, settings.epochs))
    return one(window, recipe, settings, say, weights)


def one(
    window: Window,
    recipe: Recipe,
    settings: SequenceSettings,
    say: Say = print,
    weights: Weights | None = None,
    judge: sequence.Judge | None = None,
) -> Learned:
    """The model of one window, its lines of progress under its day. weights: see `sequence.fit`."""
    return sequence.fit(
        _events(window, recipe, window.histories),
        Catalogue.of(window.items),
        settings,
        judge=judge,
        start=weights if weights is not None and fits(weights, settings) else None,
        progress=lambda line: say(f"sequence up to {window.at:%Y-%m-%d}: {line}"),
    )


def _events(window: Window, recipe: Recipe, histories: pd.DataFrame) -> Events:
    index = Catalogue.of(window.items).index
    return Events.of(from_frame(histories), index, window.at, recipe.event_weights, recipe.counting)


def _judge(window: Window, recipe: Recipe) -> sequence.Judge:
    buyers = window.buyers(len(window.histories), recipe.seed)
    truth = truth_matrix(window.truth, from_frame(buyers), Catalogue.of(window.items))
    return sequence.Judge(_events(window, recipe, buyers), truth)
