"""Reasons in words name what happened, and no more."""

from __future__ import annotations

import pytest

from serving import reasons


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"event_type": "purchase", "times": 5, "days_ago": 2.3}, "You bought it 5 times, last 2 days ago"),
        ({"event_type": "purchase", "times": 1, "days_ago": 0.3}, "You bought it today"),
        ({"event_type": "view", "times": 1, "days_ago": 0.0}, "You looked at it today"),
        ({"event_type": "view", "times": 2, "days_ago": 1.2}, "You looked at it 2 times, last 1 day ago"),
        ({"event_type": "cart", "times": 1, "days_ago": 1.0}, "You put it into your cart 1 day ago"),
        ({"event_type": "like", "times": 1, "days_ago": None}, "You liked it"),
        ({"item_id": "a", "title": "A", "alike": True, "event_type": "view"}, "Like A, which you looked at"),
        (
            {"item_id": "a", "title": None, "alike": True, "event_type": "purchase"},
            "Like a, which you bought",
        ),
        ({"item_id": "a", "title": "A", "alike": True}, "Like A"),
        ({"taste": True, "event_type": "cart"}, "Like what you put into your cart before"),
        (
            {"item_id": "a", "title": "A", "taste": True, "event_type": "cart"},
            "Like A, which you put into your cart",
        ),
        ({"event_type": "wished", "times": 1, "days_ago": 3.0}, "You came across it 3 days ago"),
    ],
)
def test_a_reason_says_what_was_done(evidence: dict, said: str) -> None:
    assert reasons.words(evidence) == said


@pytest.mark.parametrize(
    ("goal", "did"),
    [
        ("rating", "liked"),
        ("like", "liked"),
        ("cart", "wanted"),
        ("click", "looked at"),
        ("view", "looked at"),
    ],
)
def test_nobody_is_said_to_have_bought_where_nobody_buys(goal: str, did: str) -> None:
    """In a shop of ratings others liked an item, in one of clicks they looked at it."""
    of = {"item_id": "a", "title": "A", "event_type": "", "goal": goal}
    assert reasons.words(of) == f"People who {did} A {did} it too"
    assert reasons.words({**of, "with": ["a", "b"]}) == (
        f"People who {did} what you are looking at, such as A, {did} it too"
    )
    assert reasons.words({"trending": True, "goal": goal}) == f"{did.capitalize()} more and more lately"
