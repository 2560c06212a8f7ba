"""A shop keeps the sources that serve it, says whether people buy again, and its ranker learns from every earlier window."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine import tuning
from engine.recipe import USUAL, Recipe
from engine.recommender import Recommender
from engine.sources import FROM_HISTORIES, NEEDED
from engine.state import from_frame
from engine.windows import Window
from tests.engine.shop import CUT, frames
from training.learned import with_sequence
from training.selection import select
from training.sequence_model import SequenceSettings

MONTH = timedelta(days=28)
EVERY = {name: {} for name in FROM_HISTORIES}


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    """Oldest first; the last validates."""
    return [Window(CUT - n * MONTH, *frames(CUT - n * MONTH)) for n in (2, 1, 0)]


def test_a_source_beyond_the_usual_ones_has_to_be_worth_it(windows, monkeypatch) -> None:
    recipe = Recipe(sources=EVERY)
    monkeypatch.setattr(tuning, "WORTH", 10.0)
    monkeypatch.setattr(tuning, "FINDS", 10.0)
    chosen, fitted = tuning.choose(windows[-1], recipe, select=True)
    assert set(chosen.sources) == set(fitted.sources) == set(USUAL) >= NEEDED
    monkeypatch.setattr(tuning, "WORTH", -10.0)
    chosen, _ = tuning.choose(windows[-1], recipe, select=True)
    assert set(chosen.sources) == set(EVERY)


def test_a_shop_where_nobody_buys_again_gets_nothing_twice(windows) -> None:
    """Learnt from what was bought, never assumed; and a setting overrules it."""
    window = windows[-1]
    again, fitted = tuning.choose(window, Recipe())
    assert again.repeat is True
    had = {state.user_id: set(state.item_ids) for state in from_frame(window.histories)}
    first = [item not in had.get(user, ()) for user, item in window.truth[["user_id", "item_id"]].values]
    only_new = Window(window.at, window.items, window.histories, window.truth[np.array(first)])
    never, fitted = tuning.choose(only_new, Recipe())
    assert never.repeat is False
    states = from_frame(window.histories)
    ids, _ = fitted.batch(states, 10, CUT)
    assert not any(set(shown) & had[state.user_id] for shown, state in zip(ids, states, strict=True))
    assert tuning.choose(only_new, Recipe(repeat=True))[0].repeat is True


def test_the_ranker_learns_from_all_earlier_windows_and_needs_one(windows) -> None:
    said: list[str] = []
    recipe, choice, judged = select(windows[:-1], windows[-1], Recipe(), 100, say=said.append)
    assert judged.recipe.cut == CUT
    assert choice.figures, "the ranker was judged beside the blend"
    assert any("bought again" in line for line in said)
    assert select([], windows[-1], Recipe(), 100)[1].ranker is None
    fitted = Recommender.fit(windows[-1].items, windows[-1].histories, CUT, recipe, ranker=choice.ranker)
    assert len(fitted.batch(from_frame(windows[-1].histories), 5, CUT)[0])


def test_a_ranker_that_is_switched_off_is_not_learnt(windows) -> None:
    said: list[str] = []
    _, choice, judged = select(windows[:-1], windows[-1], Recipe(ranked=False), 100, say=said.append)
    assert (choice.ranker, choice.judged, judged.ranker) == (None, None, None)
    assert said[-1] == "no ranker: training.ranker is 'never'"


def test_with_one_event_each_or_all_at_once_there_is_no_sequence_model(windows) -> None:
    said: list[str] = []
    lists = ["item_ids", "event_types", "event_times", "quantities"]
    short = [
        Window(
            each.at,
            each.items,
            each.histories.assign(**each.histories[lists].map(lambda row: row[:1])),
            each.truth,
        )
        for each in windows
    ]
    settings = SequenceSettings(dimension=8, epochs=1)
    assert not any(each.exports for each in with_sequence(short, 2, Recipe(), settings, said.append))
    assert any("no sequence model" in line for line in said)
    at_once = [
        replace(
            each,
            histories=each.histories.assign(
                event_times=each.histories["event_times"].map(lambda row: [7] * len(row))
            ),
        )
        for each in windows
    ]
    assert not any(each.exports for each in with_sequence(at_once, 2, Recipe(), settings, said.append))
    assert "one moment" in said[-1]
    learnt = with_sequence(windows, 2, Recipe(), settings, said.append)
    assert all("sequence" in each.exports for each in learnt)
