"""What the settings ask of a recipe: hyperparameters that reach the fit, sources that are always there, a ranker or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aisle import settings
from aisle.errors import SettingsError
from engine.interactions import Catalogue, Events
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sizing import measured, rates
from engine.sources import FROM_HISTORIES, hyperparameters
from engine.sources.linear import Linear
from engine.sources.trending import Trending
from engine.state import UserState, epoch, from_frame
from tests.engine.shop import CUT, WEIGHTS, frames, tower


@pytest.fixture
def asked(aisle_home: Path, monkeypatch: pytest.MonkeyPatch):
    """The recipe of a home whose settings say so."""

    def recipe(**training) -> Recipe:
        for name, value in training.items():
            monkeypatch.setenv(f"AISLE_TRAINING__{name.upper()}", json.dumps(value))
        settings.load.cache_clear()
        return Recipe.of(settings.load())

    return recipe


def test_a_half_life_of_the_settings_reaches_the_fit_and_the_bundle(asked, tmp_path: Path) -> None:
    items, histories, _ = frames()
    given = {"linear": {"half_life_days": 7.5, "neighbours": 20}, "popularity": {"prior": 9}}
    recipe = asked(sources=["popularity", "item_item", "linear"], source_settings=given)
    assert recipe.sources == {
        "popularity": {"days": 30.0, "prior": 9.0},
        "item_item": {},
        "linear": given["linear"],
    }
    fitted = Recommender.fit(items, histories, CUT, recipe)
    events = Events.of(
        from_frame(histories), fitted.catalogue.index, CUT, recipe.event_weights, recipe.counting
    )
    alone = Linear.fit(events, fitted.catalogue, half_life_days=7.5, neighbours=20)
    assert fitted.sources["linear"].half_life_days == 7.5
    assert (fitted.sources["linear"].weights != alone.weights).nnz == 0
    fitted.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    assert loaded.recipe.sources["linear"] == given["linear"]
    state = from_frame(histories)[0]
    np.testing.assert_allclose(loaded.rank(state, CUT).scores, fitted.scores([state], CUT)[0], atol=2e-4)


def test_a_file_of_the_home_gives_them_as_a_table(asked, aisle_home: Path) -> None:
    (aisle_home / "aisle.toml").write_text("[training.source_settings.content]\nhalf_life_days = 5\n")
    assert asked().sources["content"] == {"half_life_days": 5.0}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"linear": {"half_life": 30}}, "linear has no such parameter; it has ridge, half_life_days"),
        ({"linear": {"half_life_days": 0}}, "above zero, such as 30"),
        ({"item_item": {"shrinkage": -1}}, "training.source_settings.item_item.shrinkage = -1"),
        ({"factors": {"factors": 12.5}}, "a whole number is needed, such as 128"),
        ({"personal": {"days": 3}}, "personal has no such parameter; it has none"),
        ({"two_tower": {"dimension": 8}}, "takes its settings from [training]"),
    ],
)
def test_what_no_fit_would_take_is_refused(asked, given: dict, told: str) -> None:
    with pytest.raises(SettingsError) as fault:
        asked(source_settings=given)
    assert told in str(fault.value)


def test_an_unknown_source_is_refused_with_the_known_ones(asked) -> None:
    with pytest.raises(SettingsError, match=r"source_settings\.linaer.*'linear'"):
        asked(source_settings={"linaer": {"ridge": 3}})


def test_every_parameter_that_is_told_is_one_of_the_fits() -> None:
    assert hyperparameters("linear") == {
        "ridge": 30.0,
        "half_life_days": 30.0,
        "neighbours": 400,
        "nearby": 100,
    }
    assert hyperparameters("two_tower") == hyperparameters("personal") == {}


def test_what_serving_needs_is_there_whatever_is_listed(asked) -> None:
    recipe = asked(sources=["personal"])
    assert list(recipe.sources) == ["popularity", "item_item", "personal"]
    items, histories, _ = frames()
    fitted = Recommender.fit(items, histories, CUT, recipe)
    assert len(fitted.similar("item 01", 3)) == 3
    assert len(fitted.popular(None, 3)) == 3


def test_the_ranker_can_be_switched_off(asked) -> None:
    assert asked().ranked
    assert not asked(ranker="never").ranked


def test_trending_is_what_is_bought_more_lately_than_before() -> None:
    ago = [2, 3, 4, 25, 10, 12, 20, 28]
    who = UserState(
        "u", None, ["a"] * 4 + ["b"] * 4, ["purchase"] * 8, [int(epoch(CUT) - 86_400 * day) for day in ago]
    )
    others = [UserState(f"u{n}", None, [*"ab"], ["purchase"] * 2, [int(epoch(CUT) - 86_400 * day) for day in (3, 20)]) for n in range(4)]  # fmt: skip
    catalogue = Catalogue.of(frames()[0].assign(item_id=[*"abc", *frames()[0]["item_id"][3:]]))
    events = Events.of([who, *others], catalogue.index, CUT, WEIGHTS)
    found = Trending.fit(events, catalogue)
    scores = found.scores(events)[:, [catalogue.index[item] for item in "abc"]]
    # Five bought a in the last week and none before; five bought b, the newest 10 days ago.
    assert scores[0].tolist() == pytest.approx([5.0, -(5 * 7 / 23) / np.sqrt(5 * 7 / 23 + 1), 0.0])
    assert (scores == scores[0]).all()
    rows = np.array([catalogue.index[item] for item in "abc"])
    assert found.evidences(events, rows) == [{"buyers_7d": 5, "buyers_30d": 5, "trending": True}, None, None]


def test_a_shop_with_trending_and_a_tower_is_as_large_as_the_rule_says(tmp_path: Path) -> None:
    items, histories, _ = frames()
    recipe = Recipe(sources={**{name: {} for name in FROM_HISTORIES}, "two_tower": {}})
    fitted = Recommender.fit(items, histories, CUT, recipe, {"two_tower": tower()})
    assert measured(fitted)["trending"] <= rates(recipe)["trending"].bytes(len(items), 0, 0)
    fitted.save(tmp_path / "bundle")
    assert np.array_equal(
        Recommender.load(tmp_path / "bundle").sources["trending"].rise, fitted.sources["trending"].rise
    )


def test_the_guide_names_each_parameter() -> None:
    guide = (Path(__file__).parents[2] / "docs/engine.md").read_text(encoding="utf-8")
    rows = guide.split("| source | parameters |")[1].split("\n\n")[0].splitlines()
    for name in FROM_HISTORIES:
        told = " ".join(row for row in rows if f"`{name}`" in row) if hyperparameters(name) else ""
        assert all(each in told for each in hyperparameters(name)), name
