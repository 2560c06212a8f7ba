"""One user's path beside the batch path: the same numbers, the same candidates, the same leaves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from engine import compiled, vector_sources
from engine.blend import normalise
from engine.index import Indexed
from engine.interactions import Events
from engine.metrics import top_k
from engine.one_user import OneUser, best_rows, sheet_of
from engine.ranking import DEPTH, union
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.factors import Factors
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, WEIGHTS, frames, tower
from training.ranking import Examples, learn

SOURCES = (
    "popularity",
    "personal",
    "item_item",
    "linear",
    "next_bought",
    "content",
    "graph",
    "factors",
    "people",
)
DAY = 86_400


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    items, histories, truth = frames()
    recipe = Recipe(event_weights=WEIGHTS, sources={name: {} for name in (*SOURCES, "two_tower")})
    model = Recommender.fit(items, histories, CUT, recipe, {"two_tower": tower()})
    ranker = learn([Examples.of(model, histories, truth, CUT, 1000, 7)], 7)
    assert ranker is not None
    return model.with_ranker(ranker)


@pytest.fixture(scope="module")
def states() -> list[UserState]:
    found = from_frame(frames()[1])[:30]
    back = UserState(
        "back",
        "Japan",
        ["item 03"] * 3,
        ["return", "purchase", "purchase"],
        [int(CUT.timestamp()) - DAY * day for day in (1, 2, 3)],
    )
    return [*found, back, UserState("one", None, ["item 07"], ["purchase"], [int(CUT.timestamp()) - 60])]


def test_a_user_alone_scores_as_among_others(fitted, states) -> None:
    together = fitted.scores(states, CUT)
    for state, row in zip(states, together, strict=True):
        alone = fitted.rank(state, CUT)
        assert alone.scored.leaves is not None, "the way of one user was not taken"
        np.testing.assert_allclose(alone.scores, row, atol=2e-4, err_msg=state.user_id)


def test_candidates_and_features_are_the_batch_paths(fitted, states) -> None:
    for state in states:
        plain = fitted.events([state], CUT)
        alone, among = fitted.rank(state, CUT).scored, fitted._scored(plain)
        assert alone.candidates.item.tolist() == among.candidates.item.tolist()
        np.testing.assert_allclose(alone.candidates.features, among.candidates.features, rtol=1e-3, atol=1e-4)


def test_the_trees_leaves_and_scores_are_lightgbms(fitted, states) -> None:
    found = fitted.rank(states[0], CUT).scored.candidates
    scores, leaves = fitted.ranking.reached(found)
    assert np.array_equal(leaves, fitted.ranker.model.predict(found.features, pred_leaf=True))
    np.testing.assert_array_equal(scores, fitted.ranker.scores(found))


def test_sums_of_a_history_are_those_of_many(fitted, states) -> None:
    for state in states:
        plain = fitted.events([state], CUT)
        alone = OneUser.over(plain)
        for name in ("tastes", "matrix"):
            for half_life in (None, 30.0):
                wanted = getattr(plain, name)(half_life).toarray()
                np.testing.assert_allclose(getattr(alone, name)(half_life).toarray(), wanted, rtol=1e-6)
        assert np.array_equal(alone.owned().toarray(), plain.owned().toarray())
        assert np.array_equal(alone.days().toarray(), plain.days().toarray())


@pytest.mark.parametrize("repeat", [True, False])
def test_the_best_of_many_rows_with_ties(fitted, states, repeat: bool) -> None:
    rng = np.random.default_rng(3)
    scores = np.round(rng.normal(size=(4, len(fitted.catalogue))), 0).astype(np.float32)
    events = OneUser.over(fitted.events(states[:1], CUT))
    _, wanted = union(events, {str(row): each[None] for row, each in enumerate(scores)}, repeat)
    assert best_rows(scores, events.owned().indices, repeat).tolist() == wanted.tolist()


@pytest.mark.usefixtures("alone")
def test_what_is_compiled_beforehand_is_what_a_request_asks_for(tmp_path, fitted, states) -> None:
    """Else the first request of a machine would wait ten seconds for the compiler."""
    fitted.save(tmp_path / "bundle")
    model = Recommender.load(tmp_path / "bundle")
    compiled.warm()
    loops = {name: each for name, each in vars(compiled).items() if hasattr(each, "signatures")}
    before = {name: set(each.signatures) for name, each in loops.items()}
    for state in states:
        ranked = model.rank(state, CUT)
        model.told(ranked, np.arange(20), exact=False)
    after = {name: {*each.signatures} - before[name] for name, each in loops.items()}
    assert not {name: each for name, each in after.items() if each}


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_the_best_of_long_rows_with_ties_and_what_must_not_be_shown(digits: int) -> None:
    rng = np.random.default_rng(5)
    rows = np.round(rng.normal(size=(3, 5003)), digits).astype(np.float32)
    rows[1, 100:] = rows[2] = -np.inf
    owned = rng.choice(5003, 90, replace=False)
    wanted = set()
    for row in rows:
        among = np.lexsort((np.arange(5003), -row))
        among = among[np.isfinite(row[among])]
        wanted |= {*among[:DEPTH].tolist(), *among[~np.isin(among, owned)][:DEPTH].tolist()}
    assert best_rows(rows, owned, True).tolist() == sorted(wanted | {*owned.tolist()})


def test_the_best_of_a_long_row_are_found_in_blocks() -> None:
    rng = np.random.default_rng(3)
    for scores in (
        rng.normal(size=(2, 30_011)),
        np.round(rng.normal(size=(2, 30_011)), 1),
        np.zeros((2, 30_011)),
    ):
        scores[0, 5] = np.nan
        clean = np.where(np.isnan(scores), -np.inf, scores)
        wanted = np.argsort(-clean, axis=1, kind="stable")[:, :40]
        assert top_k(scores, 40).tolist() == wanted.tolist()


def test_behind_an_index_what_is_found_has_its_exact_scores(fitted, states, monkeypatch) -> None:
    monkeypatch.setattr(vector_sources, "INDEXED_FROM", 1)
    model = Recommender(fitted.recipe, fitted.catalogue, fitted.sources, fitted.trends, fitted.ranker)
    assert set(model.indexed) == {"factors", "two_tower"}
    for state in states:
        exact, found = fitted.rank(state, CUT), model.rank(state, CUT)
        np.testing.assert_allclose(found.scores, exact.scores, atol=5e-3, err_msg=state.user_id)


def test_a_narrow_rule_has_its_candidates_looked_for_among_what_it_leaves(
    fitted, states, monkeypatch
) -> None:
    monkeypatch.setattr(vector_sources, "INDEXED_FROM", 1)
    model = Recommender(fitted.recipe, fitted.catalogue, fitted.sources, fitted.trends, fitted.ranker)
    allowed = np.zeros(len(model.catalogue), bool)
    allowed[[3, 30]] = True
    found = model.rank(states[0], CUT, allowed).scored.candidates
    assert found.item.tolist() == [3, 30]


def test_under_a_rule_that_leaves_what_the_user_likes_least_its_best_are_found() -> None:
    """None of it is above the mean of all items: what was not found there must not pass for average."""
    taken, left = 7_000, 5_000  # more are left than are all multiplied
    liked = np.tile(np.float32([1.0, 0.0]), (taken, 1))
    others = np.column_stack([np.linspace(-2.0, -1.0, left), np.zeros(left)]).astype(np.float32)
    items = np.vstack([liked, others])
    source = Factors(items, 0.1, 1.0, 0.0, 60.0)
    index = {str(row): row for row in range(len(items))}
    state = UserState("u", None, ["3"], ["purchase"], [int(CUT.timestamp()) - DAY])
    events = OneUser.over(Events.of([state], index, CUT, WEIGHTS))
    model = SimpleNamespace(
        sources={"factors": source}, cold=None, indexed={"factors": Indexed.of(items)}, ranker=None
    )
    allowed = np.arange(len(items)) >= taken
    rows = sheet_of(cast(Recommender, model), events, allowed).rows
    assert best_rows(rows, events.owned().indices, True, allowed).min() > len(items) - 500


def test_a_new_price_is_ranked_as_if_it_had_always_been(fitted, states) -> None:
    fitted.warm()
    frame = fitted.catalogue.frame.assign(price=fitted.catalogue.frame["price"].astype(float) * 3)
    over = replace(fitted.catalogue, frame=frame)
    laid = fitted.over(over, {"price"})
    anew = Recommender(fitted.recipe, over, fitted.sources, fitted.trends, fitted.ranker)
    assert laid.cold is fitted.cold
    assert np.array_equal(laid.ranking.of_items, anew.ranking.of_items)
    np.testing.assert_array_equal(laid.rank(states[0], CUT).scores, anew.rank(states[0], CUT).scores)
    gone = fitted.over(replace(fitted.catalogue, gone=(3,)), ())
    assert gone.ranking is fitted.ranking
    assert not np.isfinite(gone.rank(states[0], CUT).scores[3])


def test_scores_that_are_not_finite_are_left_to_the_batch_path(fitted, states) -> None:
    class Broken:
        name = "content"

        def scores(self, events) -> np.ndarray:
            found = np.zeros((events.n_users, events.n_items), np.float32)
            found[:, 4] = -np.inf
            return found

    sources = {**fitted.sources, "content": Broken()}
    model = Recommender(fitted.recipe, fitted.catalogue, sources, fitted.trends)
    model.__dict__["cold"] = None
    ranked = model.rank(states[0], CUT)
    assert ranked.scored.leaves is None
    np.testing.assert_allclose(ranked.scores, model.scores(states[:1], CUT)[0], rtol=1e-5)


def test_rows_that_tie_up_to_rounding_say_nothing() -> None:
    assert not normalise(np.full((1, 1001), 0.1, np.float32)).any()
