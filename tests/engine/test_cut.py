"""A long history loses what says least first, and nothing that stands until something newer is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisle.columns import EVENT_TYPES
from aisle.settings import Settings
from engine.cut import Cut

History = list[tuple[str, str]]  # item and type, newest first

cuts = st.integers(1, 12).flatmap(
    lambda length: st.builds(Cut, st.just(length), st.integers(0, length), st.integers(0, 8))
)
histories = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(EVENT_TYPES)), max_size=40)


def cut_down(history: History, cut: Cut) -> History:
    return [
        history[place] for place in cut.kept([each[0] for each in history], [each[1] for each in history])
    ]


@given(histories, cuts)
def test_a_short_history_stays_and_a_long_one_is_bounded(history: History, cut: Cut) -> None:
    kept = cut_down(history, cut)
    if len(history) <= cut.length:
        assert kept == history
    else:
        assert cut.length <= len(kept) <= cut.length + cut.lasting


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(EVENT_TYPES), st.booleans()), max_size=40),
    cuts,
)
def test_cut_and_cut_again_with_newer_ones_is_cut_once(told: list[tuple[str, str, bool]], cut: Cut) -> None:
    """Whatever comes in between, too: the store's history is cut before the API lays the rest over it."""
    whole = [((item, str(place)), kind) for place, (item, kind, _) in enumerate(told)]
    stored = [each for each, (_, _, known) in zip(whole, told, strict=True) if known]
    names = [item for (item, _), _ in stored]
    left = {stored[place][0] for place in cut.kept(names, [kind for _, kind in stored])}
    over = [each for each, (_, _, known) in zip(whole, told, strict=True) if not known or each[0] in left]
    once = [whole[place] for place in cut.kept([item for (item, _), _ in whole], [kind for _, kind in whole])]
    twice = [over[place] for place in cut.kept([item for (item, _), _ in over], [kind for _, kind in over])]
    assert twice == once


@pytest.mark.parametrize(
    "kind", ["purchase", "cart", "return", "rating", "like", "dislike", "hide", "undo", "unrate"]
)
def test_what_stands_outlasts_any_number_of_views(kind: str) -> None:
    cut = Cut(5, 2, 10)
    history = [("v", "view")] * 50 + [("a", kind), ("b", kind), ("a", kind)]
    assert cut_down(history, cut) == [("v", "view")] * 5 + [("a", kind), ("b", kind)]


def test_the_last_word_counts() -> None:
    history = [("v", "view")] * 5 + [("a", "undo"), ("a", "hide"), ("b", "like"), ("b", "dislike")]
    assert cut_down(history, Cut(5, 2, 10))[5:] == [("a", "undo"), ("b", "like")]


def test_the_newest_of_what_stands_are_kept() -> None:
    history = [("v", "view")] * 5 + [(f"i{number}", "purchase") for number in range(9)]
    assert cut_down(history, Cut(5, 2, 3))[5:] == [("i0", "purchase"), ("i1", "purchase"), ("i2", "purchase")]


def test_impressions_have_room_of_their_own_and_what_others_leave() -> None:
    shown, bought = [("s", "impression")] * 20, [("b", "purchase")] * 20
    cut = Cut(10, 4, 0)
    assert cut_down(shown + bought, cut) == shown[:4] + bought[:6]
    assert cut_down(bought + shown, cut) == bought[:6] + shown[:4]
    assert cut_down(shown + bought[:3], cut) == shown[:7] + bought[:3]
    assert cut_down(shown[:2] + bought, cut) == shown[:2] + bought[:8]


def test_a_shop_of_purchases_and_returns_keeps_its_newest(settings: Settings) -> None:
    """As before there were kinds, and of the rest what stands."""
    cut = Cut.of(settings.features)
    assert cut == Cut(500, 200, 2000)
    history = [(f"i{number % 7}", "purchase" if number % 5 else "return") for number in range(900)]
    assert cut_down(history, cut) == history[:500]
