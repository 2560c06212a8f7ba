"""The recommender's answers: what is asked for, why, and never nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine import explain
from engine import scoring as module
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from engine.tuning import choose
from engine.windows import Window
from tests.engine.shop import CUT, frames, tower


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    items, histories, _ = frames()
    return Recommender.fit(items, histories, CUT, Recipe(), {"two_tower": tower()})


@pytest.fixture(scope="module")
def states() -> list[UserState]:
    return from_frame(frames()[1])


def test_an_answer_has_k_different_items_best_first_with_reasons(fitted, states) -> None:
    found = fitted.recommend(states[0], 10, CUT)
    assert len({each.item_id for each in found}) == 10
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for each in found:
        assert sum(each.reason["parts"].values()) == pytest.approx(each.score, rel=1e-4)
        assert each.reason["source"] in fitted.sources
        assert each.reason["evidence"]


def test_a_favourite_is_explained_by_the_users_own_purchases(fitted, states) -> None:
    first = fitted.recommend(states[0], 1, CUT)[0]
    bought = [
        t for item, t in zip(states[0].item_ids, states[0].event_times, strict=True) if item == first.item_id
    ]
    evidence = first.reason["evidence"]
    assert first.reason["source"] == "personal"
    assert evidence["event_type"] == "purchase"
    assert evidence["times"] == len({t // 86_400 for t in bought})
    assert evidence["days_ago"] == pytest.approx((CUT.timestamp() - max(bought)) / 86_400, abs=0.06)


def test_what_was_only_viewed_is_not_told_as_bought(states) -> None:
    items, histories, _ = frames()
    weights = {"purchase": 1.0, "cart": 0.5, "view": 0.1}
    model = Recommender.fit(items, histories, CUT, Recipe(event_weights=weights))
    bought = list(dict.fromkeys(states[0].item_ids))
    others = [item for item in items["item_id"] if item not in bought][:2]
    hour = int(CUT.timestamp()) - 3600
    state = UserState("v", None, [others[0], others[0], others[1]], ["cart", "view", "view"], [hour] * 3)
    told = {each.item_id: each.reason for each in model.recommend(state, len(items), CUT)}
    own = {item: explain.deed(state, item, CUT.timestamp()) for item in others}
    assert [own[item]["event_type"] for item in others] == ["cart", "view"]
    assert [told[item]["evidence"] for item in others] == [own[item] for item in others]
    named = [each["evidence"] for each in told.values() if "item_id" in each["evidence"]]
    assert named
    assert {(each["item_id"], each["event_type"]) for each in named} <= {
        (others[0], "cart"),
        (others[1], "view"),
    }


def test_something_new_is_explained_by_an_item_of_the_history(fitted, states) -> None:
    found = fitted.recommend(states[0], 40, CUT)
    named = [each.reason["evidence"] for each in found if each.reason["source"] == "linear"]
    assert named
    assert {each["item_id"] for each in named} <= set(states[0].item_ids)
    assert all(each["title"] == each["item_id"].title() for each in named)


def test_who_is_unknown_gets_what_is_popular_there(fitted) -> None:
    for country in ("Germany", "Atlantis", None):
        found = [each.item_id for each in fitted.recommend(UserState("x", country), 5, CUT)]
        assert found == [each.item_id for each in fitted.popular(country, 5)]


def test_excluded_items_are_left_out_and_unknown_ones_do_no_harm(fitted, states) -> None:
    first = fitted.recommend(states[0], 3, CUT)
    again = fitted.recommend(states[0], 3, CUT, exclude=[first[0].item_id, "nowhere"])
    assert again[0].item_id == first[1].item_id


def test_deleted_items_are_never_shown() -> None:
    items, histories, _ = frames()
    gone = set(items["item_id"][:20])
    fitted = Recommender.fit(items.assign(deleted=items["item_id"].isin(gone)), histories, CUT, Recipe())
    ids, _ = fitted.batch(from_frame(histories), 40, CUT)
    assert not gone & set(ids.ravel())
    with pytest.raises(KeyError):
        fitted.item("item 00")


def test_broken_weights_are_named_and_their_items_not_shown(states) -> None:
    items, histories, _ = frames()
    vectors = tower().item_vectors.copy()
    vectors[3] = np.nan
    recipe = Recipe()
    recipe = recipe.model_copy(
        update={"weights": replace(recipe.weights, again={"two_tower": 1.0}, new={"two_tower": 1.0})}
    )
    fitted = Recommender.fit(
        items, histories, CUT, recipe, {"two_tower": replace(tower(), item_vectors=vectors)}
    )
    assert any("two_tower.item_vectors" in fault for fault in fitted.faults())
    ids, _ = fitted.batch(states, 40, CUT)
    assert "item 03" not in ids


def test_a_model_that_is_all_nan_still_answers(states) -> None:
    items, histories, _ = frames()
    recipe = Recipe()
    recipe = recipe.model_copy(
        update={"weights": replace(recipe.weights, again={"two_tower": 1.0}, new={"two_tower": 1.0})}
    )
    vectors = np.full_like(tower().item_vectors, np.nan)
    broken = replace(tower(), item_vectors=vectors, layers=[(k * np.nan, b, a) for k, b, a in tower().layers])
    fitted = Recommender.fit(items, histories, CUT, recipe, {"two_tower": broken})
    assert fitted.recommend(states[0], 5, CUT) == fitted.popular(states[0].country, 5)


def test_a_batch_says_what_single_questions_say(fitted, states, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 7 * 40)
    ids, scores = fitted.batch(states, 5, CUT)
    assert ids.shape == scores.shape == (len(states), 5)
    for row in (0, 6, 7, len(states) - 1):
        assert ids[row].tolist() == [each.item_id for each in fitted.recommend(states[row], 5, CUT)]


def test_an_empty_batch_is_empty(fitted) -> None:
    ids, scores = fitted.batch([], 5, CUT)
    assert ids.shape == (0, 5)
    assert len(scores) == 0


def test_new_only_shows_nothing_that_the_user_had(fitted, states) -> None:
    ids, scores = fitted.batch(states, 40, CUT, new_only=True)
    for state, row, values in zip(states, ids, scores, strict=True):
        assert not set(state.item_ids) & set(row)
        assert ((row == "") == np.isneginf(values)).all()


def test_similar_items_are_of_the_same_taste_and_not_the_item(fitted) -> None:
    found = [each.item_id for each in fitted.similar("item 05", 10)]
    assert "item 05" not in found
    assert all(item < "item 20" for item in found)
    with pytest.raises(KeyError):
        fitted.similar("nowhere", 3)


def test_many_threads_get_the_same_answer(fitted, states) -> None:
    alone = [fitted.recommend(state, 5, CUT) for state in states[:16]]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda state: fitted.recommend(state, 5, CUT), states[:16])) == alone


def test_the_choice_of_a_blend_beats_its_parts_and_is_repeatable() -> None:
    items, histories, truth = frames(CUT - timedelta(days=28))
    recipe, _ = choose(Window(CUT - timedelta(days=28), items, histories, truth), Recipe())
    assert recipe.cut is None
    again, _ = choose(Window(CUT - timedelta(days=28), items, histories, truth), Recipe())
    assert recipe == again
    with pytest.raises(ValueError, match="no blend to choose"):
        choose(Window(CUT, items, histories, truth.iloc[:0]), Recipe())


def test_no_items_is_an_error_that_says_so() -> None:
    items, histories, _ = frames()
    with pytest.raises(ValueError, match="no item to recommend"):
        Recommender.fit(items.assign(deleted=True), histories, CUT, Recipe())
