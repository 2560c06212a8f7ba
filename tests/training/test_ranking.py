"""The ranker is learnt from the past of each window alone, repeats itself, and is taken only where it serves better."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from engine.ranker import PARTS
from engine.ranking import SCORE, names_of
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import from_frame
from tests.engine.shop import CUT, frames
from training import ranking
from training.ranking import Examples

MONTH = timedelta(days=28)


def window(cut, shop=frames):
    """A recommender fitted at a cut, the histories as of it, what was bought after it, and the cut."""
    items, histories, truth = shop(cut)
    return Recommender.fit(items, histories, cut, Recipe()), histories, truth, cut


@pytest.fixture(scope="module")
def before():
    return window(CUT - MONTH)


@pytest.fixture(scope="module")
def validation():
    return window(CUT)


@pytest.fixture(scope="module")
def ranker(before):
    return ranking.learn([Examples.of(*before, 100, 7)], 7)


def test_examples_see_only_what_was_known_before_their_cut(before, validation) -> None:
    """The same features come out whatever happened after the cut; a history that knows it is refused, and so are sources that do."""
    fitted, histories, truth, cut = before
    found = Examples.of(*before, 100, 7)
    assert found.features.shape == (len(found.label), len(names_of(found.sources)))
    assert found.groups.sum() == len(found.label)
    changed = truth.assign(item_id=np.roll(truth["item_id"], 5))
    compared = relabelled = 0
    for state in from_frame(ranking._buyers(histories, truth, 100, 7)):
        (one, label, _), (other, another, _) = (
            Examples._of_some(fitted, [state], bought, cut) for bought in (truth, changed)
        )
        if len(one) and len(other):  # who hit nothing in one of them is no example there
            np.testing.assert_array_equal(one, other, err_msg="features depend on what was bought later")
            compared += len(one)
            relabelled += int((label != another).sum())
    assert compared > 100
    assert relabelled > 0
    with pytest.raises(ValueError, match="the cut is"):
        Examples.of(fitted, validation[1], truth, cut, 100, 7)
    with pytest.raises(ValueError, match="would have seen what they are asked for"):
        Examples.of(validation[0], histories, truth, cut, 100, 7)


def test_some_examples_are_of_people_who_have_done_little(before, monkeypatch) -> None:
    """A quarter of the buyers once more with their newest events alone, the same ones each time."""
    fitted = before[0]
    with_short = Examples.of(*before, 100, 7)
    monkeypatch.setattr(ranking, "SHORT_SHARE", 0.0)
    without = Examples.of(*before, 100, 7)
    assert 0 < len(with_short.groups) - len(without.groups) < len(without.groups) / 2
    np.testing.assert_array_equal(with_short.features[: len(without.label)], without.features)
    events = with_short.features[len(without.label) :, names_of(fitted.sources).index("events")]
    assert set(events) <= set(range(1, ranking.SHORT_MOST + 1))


def test_the_same_examples_and_seed_give_the_same_ranker(before, ranker) -> None:
    assert ranking.learn([Examples.of(*before, 100, 7)], 7).text == ranker.text


def test_too_few_examples_give_none(before) -> None:
    assert ranking.learn([Examples.of(*before, 2, 7)], 7) is None


def test_the_shop_gets_whichever_serves_validation_better(before, validation) -> None:
    choice = ranking.choose([before], validation, 100, 7)
    gains = [
        choice.figures[f"validation/ranker/{column}/ndcg@10"]
        / choice.figures[f"validation/blend/{column}/ndcg@10"]
        - 1
        for column in ("all", "new")
    ]
    assert (choice.ranker is not None) == (sum(gains) > 0)
    hopeless = before[2].assign(item_id=np.random.default_rng(0).permutation(before[2]["item_id"]))
    assert ranking.choose([(*before[:2], hopeless, before[3])], validation, 100, 7).ranker is None


def test_a_ranked_answer_adds_up_and_survives_the_bundle(validation, ranker, tmp_path) -> None:
    fitted, histories, *_ = validation
    ranked = fitted.with_ranker(ranker)
    ranked.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    states = from_frame(histories)
    for state in states[:5]:
        found = ranked.recommend(state, 12, CUT)
        assert found == loaded.recommend(state, 12, CUT)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        for each in found:
            assert sum(each.reason["parts"].values()) == pytest.approx(each.score, abs=1e-3)
            assert each.reason["source"] in fitted.sources
    asked, by_parts = ranked.rank(states[0], CUT), 0
    for each in ranked.told(asked, ranked.top(asked.scores[None], 12)[0]):
        by_feature = ranked.parts_by_feature(asked, ranked.catalogue.index[each.item_id])
        sums: dict[str, float] = {}
        for name, part in by_feature.items():
            owner = PARTS.get(name, name.removeprefix(SCORE))
            sums[owner] = sums.get(owner, 0.0) + part
        if by_feature:
            assert set(by_feature) <= {*ranker.names, "base"}
            assert {name: part for name, part in sums.items() if part} == pytest.approx(each.reason["parts"])
            by_parts += 1
    assert by_parts
    ids, _ = ranked.batch(states, 12, CUT)
    assert ids[0].tolist() == [each.item_id for each in ranked.recommend(states[0], 12, CUT)]


def test_whoever_has_no_history_is_not_ranked(validation, ranker) -> None:
    from engine.state import UserState

    ranked = validation[0].with_ranker(ranker)
    found = [each.item_id for each in ranked.recommend(UserState("x", "Germany"), 5, CUT)]
    assert found == [each.item_id for each in ranked.popular("Germany", 5)]


def test_the_ranker_says_what_it_looks_at(ranker) -> None:
    shares = ranker.importance()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert [name for name in shares if name.startswith(SCORE)] == [
        f"{SCORE}{name}" for name in ranker.sources
    ]
