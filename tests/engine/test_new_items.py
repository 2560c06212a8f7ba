"""New items, deleted items, first events and attributes alone: answers without a refit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engine import vector_sources
from engine.blend import Weights
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, frames, tower
from training.ranking import Examples, learn

KINDS = ("cup", "plate", "lamp", "rug")
EVERY = {
    "popularity": 0.05,
    "personal": 0.2,
    "item_item": 0.3,
    "linear": 0.3,
    "content": 2.0,
    "two_tower": 0.2,
}
NEW = pd.DataFrame(
    {
        "item_id": ["a new cup", "item 99", "stranger"],
        "title": ["Red Cup", "Blue Lamp", "Unheard Of"],
        "brand": None,
        "categories": [["gifts", "cup"], ["gifts", "lamp"], []],
        "price": [3.0, 4.0, 5.0],
        "deleted": False,
    }
)


def shop_items() -> pd.DataFrame:
    """The shop's items with words: each tenth of them a kind of thing in one of five colours."""
    items = frames()[0]
    colours = ("Red", "Blue", "Green", "White", "Black")
    kinds = [KINDS[row // 10] for row in range(len(items))]
    titles = [f"{colours[row % 5]} {kind.title()}" for row, kind in enumerate(kinds)]
    return items.assign(title=titles, categories=[["gifts", kind] for kind in kinds])


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    recipe = Recipe(
        weights=Weights(again=EVERY, new=EVERY), event_weights={"purchase": 1.0, "return": -1.0, "view": 0.1}
    )
    return Recommender.fit(shop_items(), frames()[1], CUT, recipe, {"two_tower": tower()})


@pytest.fixture(scope="module")
def grown(fitted) -> Recommender:
    return fitted.with_items(NEW)


def ids(found) -> list[str]:
    return [each.item_id for each in found]


def test_what_the_sources_say_of_fitted_items_stays(fitted, grown) -> None:
    states, n = from_frame(frames()[1]), len(fitted.catalogue)
    assert grown.catalogue.item_ids[:n] == fitted.catalogue.item_ids
    assert grown.catalogue.item_ids[n:] == ["a new cup", "item 99", "stranger"]
    before = fitted.source_scores(fitted.events(states, CUT))
    after = grown.source_scores(grown.events(states, CUT))
    assert before.keys() == after.keys()
    for name, scores in before.items():
        assert after[name].shape == (len(states), n + 3)
        np.testing.assert_allclose(after[name][:, :n], scores, atol=1e-6, err_msg=name)


def test_a_new_item_is_recommended_for_its_words_before_its_first_event(grown) -> None:
    bought = UserState("u", None, ["item 00", "item 01"], ["purchase"] * 2, [int(CUT.timestamp()) - 90] * 2)
    found = grown.recommend(bought, 12, CUT)
    reasons = {each.item_id: each.reason for each in found}
    assert "a new cup" in reasons
    assert "stranger" not in reasons
    told = reasons["a new cup"]
    assert (told["source"], told["evidence"]["alike"]) == ("content", True)
    assert told["evidence"]["item_id"] in bought.item_ids


def test_an_event_with_a_new_item_speaks_at_once(grown) -> None:
    seen = UserState("u", None, ["item 99"], ["view"], [int(CUT.timestamp())])
    first = [each.item_id for each in grown.recommend(seen, 6, CUT)]
    lamps = [each for each in first if each == "item 99" or "item 20" <= each < "item 30"]
    assert len(lamps) >= 4


def test_the_tower_places_a_new_item_among_what_it_reads_like(grown) -> None:
    """The shop's tower knows cups and plates alone."""
    vectors = grown.sources["two_tower"].vectors
    cup, _, stranger = (grown.catalogue.index[item] for item in NEW["item_id"])
    assert np.linalg.norm(vectors[cup]) == pytest.approx(1.0)
    like = vectors[[cup]] @ vectors[:20].T
    assert like[0, :10].mean() > like[0, 10:20].mean()
    assert grown.sources["two_tower"].rows[stranger] == -1


def test_what_is_deleted_is_gone_and_still_says_what_its_buyers_like(fitted) -> None:
    state = from_frame(frames()[1])[0]
    gone = fitted.recommend(state, 1, CUT)[0].item_id
    without = fitted.with_items(pd.DataFrame({"item_id": [gone], "deleted": [True]}))
    everything = ids(without.recommend(state, 99, CUT))
    assert gone not in everything
    assert len(everything) == len(fitted.catalogue) - 1
    assert gone not in ids(without.popular(None, 99))
    assert gone not in ids(without.similar("item 01" if gone != "item 01" else "item 02", 99))
    with pytest.raises(KeyError):
        without.item(gone)
    assert len(without.events([state], CUT).item) == len(fitted.events([state], CUT).item)
    back = without.with_items(pd.DataFrame({"item_id": [gone], "deleted": [False]}))
    assert gone in ids(back.recommend(state, 99, CUT))
    assert len(fitted.with_items(NEW.assign(deleted=True)).catalogue) == len(fitted.catalogue)


def test_a_known_item_gets_its_new_price(fitted) -> None:
    row = pd.DataFrame({"item_id": ["item 03"], "price": [9.5]})
    assert fitted.with_items(row).item("item 03") == {**fitted.item("item 03"), "price": 9.5}


def test_a_new_item_has_similar_ones_and_growing_goes_on(grown) -> None:
    found = grown.similar("a new cup", 5)
    assert all("item 00" <= each.item_id < "item 10" for each in found)
    assert found[0].reason["source"] == "content"
    again = grown.with_items(NEW.iloc[:1].assign(item_id="a newer cup"))
    assert "a newer cup" in ids(again.similar("a new cup", 3))
    assert again.faults() == []


@pytest.fixture(scope="module")
def made(fitted) -> Recommender:
    """With a ranker and an index, all that a release makes beforehand, and some items that nobody bought."""
    items, histories, truth = frames()
    unsold = pd.DataFrame(
        {"item_id": ["item 98", "item 97"], "title": ["Green Cup", "Red Rug"], "brand": None, "price": 2.0}
    )
    unsold = unsold.assign(categories=[["gifts", "cup"], ["gifts", "rug"]], deleted=False)
    items = pd.concat([shop_items(), unsold], ignore_index=True)
    recipe = fitted.recipe.model_copy(update={"sources": {**fitted.recipe.sources, "factors": {}}})
    found = Recommender.fit(items, histories, CUT, recipe, {"two_tower": tower()})
    ranker = learn([Examples.of(found, histories, truth, CUT, 1000, 7)], 7)
    assert ranker is not None
    found = found.with_ranker(ranker)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_sources, "INDEXED_FROM", 1)
        found.warm()
    return found


def test_what_was_made_is_made_for_the_new_items_alone(made, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what it would say if it were made anew."""
    monkeypatch.setattr(vector_sources, "INDEXED_FROM", 1)
    grown = made
    for some in (NEW.iloc[:2], NEW.iloc[2:], NEW.iloc[:1].assign(item_id="a newer cup")):
        before, grown = grown, grown.with_items(some)
        for name, each in grown.indexed.items():
            assert each.index.turn is before.indexed[name].index.turn, name
            assert len(each.index) == len(grown.catalogue)
        grown.warm()
    anew = Recommender(grown.recipe, grown.catalogue, grown.sources, grown.trends, grown.ranker)
    assert grown.cold.items.tolist() == anew.cold.items.tolist()
    assert grown.catalogue.index["a newer cup"] in grown.cold.items
    np.testing.assert_allclose(grown.cold.alike.toarray(), anew.cold.alike.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(grown.ranking.of_items, anew.ranking.of_items)
    states = from_frame(frames()[1])
    for state in [*states[:20], UserState("v", None, ["a new cup"], ["view"], [int(CUT.timestamp())])]:
        mine, theirs = grown.recommend(state, 20, CUT), anew.recommend(state, 20, CUT)
        assert ids(mine) == ids(theirs)
        assert [each.score for each in mine] == pytest.approx([each.score for each in theirs], abs=1e-5)


def test_known_items_alone_leave_what_was_made(made) -> None:
    found = made.with_items(pd.DataFrame({"item_id": ["item 03"], "price": [9.5]}))
    assert found.cold is made.cold
    assert found.paths is made.paths


def test_it_is_not_saved(grown, tmp_path) -> None:
    with pytest.raises(ValueError, match="since the fit"):
        grown.save(tmp_path / "bundle")


def test_the_first_event_of_somebody_unknown_changes_the_answer(fitted) -> None:
    popular = ids(fitted.popular(None, 8))
    for item, half in (("item 05", "item 00"), ("item 35", "item 20")):
        state = UserState("nobody", None, [item], ["view"], [int(CUT.timestamp())])
        found = ids(fitted.recommend(state, 8, CUT))
        assert found != popular
        assert sum(half <= each < f"item {int(half[-2:]) + 20}" for each in found) >= 6


def test_whoever_has_a_country_alone_gets_what_is_popular_there(fitted) -> None:
    found = {country: fitted.recommend(UserState("x", country), 8, CUT) for country in ("Germany", "Japan")}
    for country, listed in found.items():
        assert ids(listed) == ids(fitted.popular(country, 8))
    assert ids(found["Germany"]) != ids(found["Japan"])
