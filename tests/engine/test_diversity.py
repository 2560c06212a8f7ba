"""The last stage: boosts move, caps hold, likeness waits; off, it changes nothing."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import sparse

from aisle.settings import Boost, Final
from engine.diversity import DISLIKE_DEPTH, LastStage, codes_of, demote, rerank
from engine.interactions import Catalogue, Events
from engine.metrics import top_k
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import UserState, epoch, from_frame
from tests.engine.shop import CUT, frames

ITEMS = pd.DataFrame(
    {
        "item_id": list("abcdef"),
        "brand": ["x", "x", "x", "y", None, "y"],
        "categories": [["top", "cup"], ["top", "cup"], ["top", "tea"], ["top", "tea"], [], ["top", "cup"]],
    }
)
SCORES = np.array([[6.0, 5.0, 4.0, 3.0, 2.0, -1.0]], np.float32)


class Alike:
    """a, b and c are alike; so are d and f, a little."""

    similarity = sparse.csr_array(
        (np.array([0.9, 0.9, 0.9, 0.2], np.float32), ([0, 0, 1, 3], [1, 2, 2, 5])), shape=(6, 6)
    )


def stage(**asked) -> LastStage:
    return LastStage.of(Final(**asked), Catalogue.of(ITEMS), {"content": Alike()})


def shown(found: np.ndarray) -> str:
    return "".join("abcdef"[row] for row in found[0])


def test_off_it_is_the_plain_ranking() -> None:
    assert not Final().reorders
    scores = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    assert (stage().top(scores, 4) == top_k(scores, 4)).all()
    same = scores.copy()
    stage().boost(same)
    assert (same == scores).all()


def test_a_cap_holds_and_is_broken_only_where_nothing_else_is_left() -> None:
    assert shown(stage(caps={"brand": 1}).top(SCORES, 3)) == "ade"
    assert shown(stage(caps={"brand": 1}).top(SCORES, 6)) == "adebcf", "unknown brands are not counted"
    assert shown(stage(caps={"categories": 2}).top(SCORES, 5)) == "abcde", "a path counts as its last"
    assert shown(stage(caps={"categories": 1, "brand": 1}).top(SCORES, 3)) == "ade"


def test_boosts_move_scores_up_also_below_zero_and_show_no_hidden_item() -> None:
    scores = SCORES.copy()
    stage(boosts=[Boost(column="brand", value="y", add=10.0)]).boost(scores)
    assert scores[0].tolist() == [6.0, 5.0, 4.0, 13.0, 2.0, 9.0]
    scores = SCORES.copy() - 10
    scores[0, 0] = -np.inf
    stage(boosts=[Boost(column="categories", value="cup", times=2.0)]).boost(scores)
    assert scores[0].tolist() == pytest.approx([-np.inf, 1.0, -6.0, -7.0, -8.0, -11.0])
    scores = SCORES.copy()
    stage(boosts=[Boost(value="e", add=1.0), Boost(value="e", times=2.0)]).boost(scores)
    assert scores[0, 4] == pytest.approx(-1 + 2 * 3 + 2 * 1)


def test_likeness_waits_the_more_the_stronger_it_is_asked_for() -> None:
    assert shown(stage(strength=0.001).top(SCORES, 6)) == "abcdef"
    assert shown(stage(strength=0.5).top(SCORES, 6)) == "adefbc"
    assert shown(stage(strength=1.0).top(SCORES, 4)) == "adef"


def test_it_is_maximal_marginal_relevance() -> None:
    """The same order as the definition read out, on random similarities."""
    rng = np.random.default_rng(5)
    dense = np.triu(rng.random((40, 40)) * (rng.random((40, 40)) < 0.3), 1)
    dense = dense + dense.T
    pool = rng.permutation(40)[:25]
    relevance = {item: 1 / np.log2(2 + place) for place, item in enumerate(pool)}
    wanted: list[int] = []
    for _ in range(10):
        left = [item for item in pool if item not in wanted]
        wanted.append(
            max(left, key=lambda i: 0.6 * relevance[i] - 0.4 * max((dense[i, j] for j in wanted), default=0))
        )
    found = rerank(pool, sparse.csr_array(dense), 0.4, {}, {}, 10)
    assert pool[found].tolist() == wanted


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    whole = stage(strength=0.5, caps={"brand": 2})
    assert shown(whole.top(SCORES, 6))[:3] == shown(whole.top(SCORES, 3))


def test_what_the_shop_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="no column colour"):
        stage(caps={"colour": 2})
    with pytest.raises(ValueError, match="similar_by 'item_item' is none of"):
        stage(strength=0.5, similar_by="item_item")
    for wrong in ({"strength": 1.5}, {"caps": {"brand": 0}}, {"speed": 1}):
        with pytest.raises(ValidationError):
            Final(**wrong)


def test_codes_are_one_a_value() -> None:
    assert codes_of(pd.Series(["x", None, "y", "x", float("nan"), ""])).tolist() == [0, -1, 1, 0, -1, -1]
    assert codes_of(pd.Series([np.array(["p", "q"]), ["q"], []])).tolist() == [0, 0, -1]


def test_twenty_of_two_hundred_take_under_a_millisecond() -> None:
    """Generously: the median of many, three times over what is measured on an idle core."""
    rng = np.random.default_rng(1)
    similarity = sparse.random_array((4000, 4000), density=0.05, rng=rng, format="csr", dtype=np.float32)
    pool, codes = rng.permutation(4000)[:200], {"brand": rng.integers(20, size=4000)}
    took = []
    for _ in range(30):
        start = time.perf_counter()
        rerank(pool, similarity, 0.3, codes, {"brand": 4}, 20)
        took.append(time.perf_counter() - start)
    assert np.median(took) < 0.003


def dislikes(*rows: tuple[str, str, float]) -> Events:
    """Of one user: item, type, days ago; 300 items a0, a1, …"""
    items, kinds, ages = zip(*rows, strict=True)
    state = UserState("u", None, items, kinds, [int(epoch(CUT) - age * 86_400) for age in ages])
    index = {f"a{row}": row for row in range(300)}
    return Events.of([state], index, CUT, {"purchase": 1.0, "return": -1.0, "dislike": -1.0})


def test_a_dislike_costs_a_hundred_places_and_fades() -> None:
    before = np.linspace(300, 1, 300, dtype=np.float32)[None]
    scores = before.copy()
    demote(scores, dislikes(("a0", "dislike", 0), ("a1", "dislike", 30), ("a2", "purchase", 3)))
    span = before[0, 0] - before[0, DISLIKE_DEPTH - 1]
    assert scores[0, :4].tolist() == pytest.approx([300 - span, 299 - span / 2, 298, 297])
    taken_back = before.copy()
    demote(taken_back, dislikes(("a0", "return", 0), ("a0", "purchase", 40)))
    assert (taken_back == before).all(), "what was bought and sent back is as if nothing had been"


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    items, histories, _ = frames()
    brands = [f"brand {row % 3}" for row in range(len(items))]
    return Recommender.fit(items.assign(brand=brands), histories, CUT, Recipe())


def test_answers_batches_and_bundles_go_through_it(fitted, tmp_path) -> None:
    final = Final(
        strength=0.4, similar_by="item_item", caps={"brand": 3}, boosts=[Boost(value="item 07", add=50)]
    )
    asked = fitted.with_final(final)
    assert asked.recipe.final == Recipe.model_validate_json(asked.recipe.model_dump_json()).final
    asked.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    states = from_frame(frames()[1])
    ids, _ = asked.batch(states, 8, CUT)
    assert ids.tolist() != fitted.batch(states, 8, CUT)[0].tolist()
    for row, state in enumerate(states[:6]):
        found = asked.recommend(state, 8, CUT)
        assert [each.item_id for each in found] == ids[row].tolist()
        assert found == loaded.recommend(state, 8, CUT)
        assert found[0].item_id == "item 07"
        assert found[0].reason["parts"]["rules"] == pytest.approx(50)
        for each in found:
            assert sum(each.reason["parts"].values()) == pytest.approx(each.score, rel=1e-3)
        brands = [int(each.item_id[-2:]) % 3 for each in found]
        assert max(brands.count(each) for each in brands) <= 3
    off = asked.with_final(Final())
    assert off.batch(states, 8, CUT)[0].tolist() == fitted.batch(states, 8, CUT)[0].tolist()


def test_lists_hold_more_kinds_of_things(fitted) -> None:
    """The point of it: less alike within a list, measured by the very similarity it goes by."""
    states, like = from_frame(frames()[1]), fitted.sources["item_item"].similarity.toarray()

    def alike(recommender: Recommender) -> float:
        lists = np.vstack([recommender.top(scores, 8) for scores in recommender.chunks(states, CUT)])
        return float(np.mean([like[np.ix_(each, each)].mean() for each in lists]))

    diverse = fitted.with_final(Final(strength=0.5, similar_by="item_item"))
    assert alike(diverse) < 0.8 * alike(fitted)


def test_a_shop_that_asks_for_what_is_not_there_is_not_sound(fitted) -> None:
    assert any("colour" in fault for fault in fitted.with_final(Final(caps={"colour": 1})).faults())


def test_what_a_user_hid_is_not_shown_until_they_want_it(fitted) -> None:
    state = from_frame(frames()[1])[0]
    first = fitted.recommend(state, 3, CUT)[0].item_id

    def asked(*events: tuple[str, float]) -> list[str]:
        kinds, ages = zip(*events, strict=True)
        return [
            each.item_id
            for each in fitted.recommend(
                UserState(
                    "u",
                    state.country,
                    [first] * len(events) + list(state.item_ids),
                    [*kinds, *state.event_types],
                    [int(epoch(CUT) - age * 86_400) for age in ages] + list(state.event_times),
                ),
                len(fitted.catalogue),
                CUT,
            )
        ]

    assert first in asked(("view", 1))
    assert first not in asked(("hide", 1))
    assert first not in asked(("dislike", 1))
    assert first in asked(("purchase", 0.5), ("hide", 1))
    only = UserState("u", "Japan", [first], ["hide"], [int(epoch(CUT))])
    assert first not in [each.item_id for each in fitted.recommend(only, 39, CUT)]
