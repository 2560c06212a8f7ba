"""Discovery slots through the ladder: filters, exclusions, caps and pins hold in them, and the log says what they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aisle.settings import Final
from engine.discovery import DEPTH, MARK
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.rules import Pin, Rules
from engine.state import UserState, from_frame
from serving.asking import Ask
from serving.ladder import climb
from serving.making import work
from serving.rulebook import EMPTY, RuleBook
from serving.view import View
from tests.engine.shop import CUT
from tests.engine.test_discovery import FIRST, SLOTS, shop

ASK = Ask(k=DEPTH)


@pytest.fixture(scope="module")
def view() -> View:
    return View.of(Recommender.fit(*shop(), CUT, Recipe(final=Final(discovery_slots=SLOTS))))


@pytest.fixture(scope="module")
def state() -> UserState:
    return from_frame(shop()[1])[0]


def listed(view: View, ask: Ask, state: UserState, book: RuleBook = RuleBook()) -> list[str]:
    found = climb(view, ask, state, book)
    return [each.item_id for each in found.told(found.rows(1, ask.k))]


def test_the_list_is_the_engine_s_and_log_and_answer_say_which_places_are_slots(view, state) -> None:
    made = work(view, ASK, state, EMPTY)
    found = view.recommender.recommend(state, DEPTH, CUT)
    assert [each.item_id for each in made.shown] == [each.item_id for each in found]
    sources = [each.source for each in made.shown]
    assert sources[FIRST:] == [MARK] * SLOTS
    assert MARK not in sources[:FIRST]
    assert all(each.propensity == 1.0 for each in made.shown)
    slots = json.loads(made.json)[FIRST:]
    assert all(each["reason"]["evidence"][MARK] and each["reason"]["source"] != MARK for each in slots)
    assert all(each["reason"]["text"] for each in slots)


def test_a_shorter_first_page_has_none_and_the_second_has_them(view, state) -> None:
    whole = listed(view, ASK, state)
    found = climb(view, Ask(k=10), state)
    pages = [found.rows(1, 10), found.rows(2, 10, frozenset(found.rows(1, 10)))]
    ids = view.recommender.catalogue.item_ids
    assert [ids[row] for page in pages for row in page] == whole
    marked = [[MARK in each.reason["evidence"] for each in found.told(page)] for page in pages]
    assert marked == [[False] * 10, [False] * 7 + [True] * SLOTS]


def test_rules_hold_in_the_slots(view, state) -> None:
    slots = listed(view, ASK, state)[FIRST:]
    without = listed(view, ASK, state, RuleBook(all=Rules(exclude=tuple(slots))))
    assert not set(slots) & set(without)
    assert len(without) == DEPTH
    pinned = listed(view, ASK, state, RuleBook(all=Rules(pins=(Pin(item_id="i004", position=19),))))
    assert pinned[18] == "i004"
    hidden = UserState(
        state.user_id,
        state.country,
        [slots[0], *state.item_ids],
        ["hide", *state.event_types],
        [state.event_times[0] + 60, *state.event_times],
    )
    assert slots[0] not in listed(view, ASK, hidden)


def test_who_is_not_known_has_none(view) -> None:
    made = work(view, ASK, UserState("", "Japan"), EMPTY)
    assert made.rung in ("segment", "popular")
    assert MARK not in {each.source for each in made.shown}


def test_a_session_of_one_event_has_them(view) -> None:
    one = UserState("", "Japan", ["i003"], ["purchase"], [int(CUT.timestamp()) - 60])
    made = work(view, ASK, one, EMPTY, known=False)
    assert made.rung == "session"
    assert [each.source for each in made.shown].count(MARK) == SLOTS


def test_diversity_and_slots_together(state) -> None:
    final = Final(discovery_slots=SLOTS, strength=0.3, similar_by="item_item")
    view = View.of(Recommender.fit(*shop(), CUT, Recipe(final=final)))
    made = work(view, ASK, state, EMPTY)
    found = view.recommender.recommend(state, DEPTH, CUT)
    assert [each.item_id for each in made.shown] == [each.item_id for each in found]
    assert [each.source for each in made.shown][FIRST:] == [MARK] * SLOTS
    assert len(np.unique([each.item_id for each in made.shown])) == DEPTH
