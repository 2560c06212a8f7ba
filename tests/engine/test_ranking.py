"""Features beside a count by hand, and sources that read words."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from engine.interactions import Catalogue, Events
from engine.ranking import candidates
from engine.sources.content import Content, tfidf
from engine.state import UserState
from engine.trends import Trends

NOW = datetime(2024, 6, 1, tzinfo=UTC)
DAY = 86_400
WEIGHTS = {"purchase": 1.0, "return": -1.0}


def state(user: str, *events: tuple[str, float, str]) -> UserState:
    """(item, days ago, type), newest first."""
    times = [int(NOW.timestamp() - days * DAY) for _, days, _ in events]
    return UserState(user, "Japan", [item for item, _, _ in events], [kind for _, _, kind in events], times)


@pytest.fixture
def catalogue() -> Catalogue:
    titles = ["RED MUG", "BLUE MUG", "GARDEN SPADE", "SPADE RED"]
    items = pd.DataFrame({"item_id": list("abcd"), "title": titles, "price": [1.0, 3.0, 7.0, 2.0]})
    items["categories"] = [["mug"], ["mug"], ["tool"], []]
    return Catalogue.of(items.assign(brand=None, days_since_first=50.0))


@pytest.fixture
def events(catalogue) -> Events:
    first = state(
        "u", ("a", 2, "purchase"), ("b", 2, "purchase"), ("a", 12, "purchase"), ("a", 32, "purchase")
    )
    second = state("v", ("a", 5, "return"), ("a", 6, "purchase"), ("c", 100, "purchase"))
    return Events.of([first, second, UserState("w")], catalogue.index, NOW, WEIGHTS)


def test_trends_count_buyers_by_window_and_who_came_back(events) -> None:
    found = Trends.fit(events)
    assert found.recent.tolist() == [[2, 1, 0, 0], [2, 1, 0, 0], [2, 1, 0, 0], [2, 1, 0, 0]]
    assert found.buyers.tolist() == [2, 1, 1, 0]
    assert found.again[0] == pytest.approx((1 + 1) / (2 + 8))


def test_a_pairs_rhythm_is_as_counted_by_hand(events, catalogue) -> None:
    scores = {"content": np.zeros((3, 4), np.float32)}
    found = candidates(events, scores, Trends.fit(events), catalogue, ("content", "absent"))
    rows = {(user, item): row for user, item, row in zip(found.user, found.item, found.features, strict=True)}
    assert set(found.user) == {0, 1}, "nothing to rank for who has no history"
    assert {item for user, item in rows if user == 0} == {0, 1, 2, 3}

    def told(user: int, item: int, name: str) -> float:
        return float(rows[user, item][found.names.index(name)])

    assert [told(0, 0, name) for name in ("days", "last", "first", "gap")] == [3, 2, 32, 15]
    assert told(0, 0, "overdue") == pytest.approx(2 / 15)
    assert told(0, 0, "sum_10d") == pytest.approx(0.5**0.2 + 0.5**1.2 + 0.5**3.2)
    assert told(1, 0, "sum_90d") == pytest.approx(0.5 ** (6 / 90) - 0.5 ** (5 / 90)), "a return is taken off"
    assert told(0, 1, "share_of_days") == pytest.approx(1 / 3)
    assert told(0, 2, "days") == 0
    assert np.isnan(told(0, 2, "last"))
    assert np.isnan(told(0, 0, "score_absent"))
    assert [told(0, 0, name) for name in ("events", "order_days", "since_order", "items")] == [4, 3, 2, 2]


def test_words_say_what_is_alike_and_rare_ones_say_more(catalogue, events) -> None:
    source = Content.fit(events, catalogue)
    assert source.similarity[[0], [1]] > 0
    assert source.similarity[[0], [2]] == 0, "no word in common"
    assert source.similarity.diagonal().sum() == 0
    again = Content.from_arrays(source.arrays())
    assert (again.scores(events) == source.scores(events)).all()
    evidence = source.evidence(Events.of([events.states[0]], catalogue.index, NOW, WEIGHTS), 3)
    assert evidence["alike"]


def test_tfidf_is_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    texts = ["red mug", "blue mug mug", "red spade", "garden spade blue"]
    theirs = sklearn.TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts).toarray()
    ours = tfidf([text.split() for text in texts]).toarray()
    assert np.allclose(ours, theirs, atol=1e-5)
