"""What the sources say of items that nobody bought yet, by way of those that they read like."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from engine.cold import NEIGHBOURS, Cold
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.content import Content
from engine.state import from_frame
from engine.trends import Trends
from tests.engine.shop import CUT, frames
from tests.engine.test_new_items import NEW, shop_items


def trends(buyers: list[float]) -> Trends:
    bought = np.array(buyers, np.float32)
    return Trends(np.tile(bought / 2, (4, 1)), bought, bought / 100)


def content(similarity: list[list[float]]) -> Content:
    return Content(sparse.csr_array(np.array(similarity, np.float32)), 60.0)


def test_a_new_item_gets_the_weighted_scores_of_what_it_reads_like() -> None:
    alike = content([[0, 0.1, 0.3, 0], [0.1, 0, 0.9, 0], [0.3, 0.9, 0, 0], [0, 0, 0, 0]])
    cold = Cold.of(alike, trends([8, 4, 0, 0]))
    assert cold.items.tolist() == [2]  # nobody knows what 3 is like
    scores = np.array([[4.0, 2.0, 0.0, 0.0]], np.float32)
    filled = cold.fill("linear", scores)
    np.testing.assert_allclose(filled, [[4.0, 2.0, 0.25 * 4 + 0.75 * 2, 0.0]], rtol=1e-6)
    assert scores[0, 2] == 0.0  # what a source said stays as it was
    np.testing.assert_array_equal(cold.fill("personal", scores), scores)
    told = cold.trends(trends([8, 4, 0, 0]))
    np.testing.assert_allclose(told.buyers, [8, 4, 0.25 * 8 + 0.75 * 4, 0], rtol=1e-6)


def test_no_more_than_the_nearest_speak_and_never_another_new_item() -> None:
    n = NEIGHBOURS + 5
    cold = Cold.of(
        content((0.2 + np.random.default_rng(3).random((n, n))).tolist()), trends([0, 0] + [1] * (n - 2))
    )
    assert np.diff(cold.alike.indptr).tolist() == [NEIGHBOURS] * 2
    assert not cold.alike.toarray()[:, :2].any()


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    return Recommender.fit(shop_items(), frames()[1], CUT, Recipe())


def test_scores_of_what_was_bought_do_not_move(fitted: Recommender) -> None:
    grown = fitted.with_items(NEW)
    states, n = from_frame(frames()[1]), len(fitted.catalogue)
    for name, scores in grown.normalised_scores(grown.events(states, CUT)).items():
        before = fitted.normalised_scores(fitted.events(states, CUT))[name]
        order = np.argsort(before, axis=1, kind="stable")
        np.testing.assert_array_equal(np.argsort(scores[:, :n], axis=1, kind="stable"), order, err_msg=name)


def test_a_new_cup_is_offered_to_who_buys_cups_sooner_than_what_reads_like_nothing(
    fitted: Recommender,
) -> None:
    grown = fitted.with_items(NEW)
    cups = from_frame(frames()[1])[:40:2]
    scores = grown.scores(cups, CUT)
    cup, stranger = (grown.catalogue.index[item] for item in ("a new cup", "stranger"))
    assert (scores[:, cup] > scores[:, stranger]).all()


def test_no_words_no_likeness() -> None:
    recipe = Recipe(sources={"popularity": {}, "item_item": {}})
    fitted = Recommender.fit(shop_items(), frames()[1], CUT, recipe)
    assert fitted.cold is None
    assert (
        len(fitted.with_items(pd.DataFrame({"item_id": ["x"], "title": ["Red Cup"]})).catalogue)
        == len(fitted.catalogue) + 1
    )
