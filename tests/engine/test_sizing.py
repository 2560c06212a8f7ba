"""The sizing rule of docs/engine.md against real bundles: no source is larger than it says, and none is far smaller at scale."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sizing import measured, rates
from engine.sources import FROM_HISTORIES
from tests.engine.shop import CUT, frames, tower
from tests.training.frames import _histories, _items, purchases

TIES = 1.1  # what is as large as the last neighbour that is kept is kept too


def n_events(histories) -> int:
    return int(histories["item_ids"].str.len().fillna(0).sum())


@pytest.fixture(scope="module")
def small() -> tuple[Recommender, int, int]:
    items, histories, _ = frames()
    return (
        Recommender.fit(items, histories, CUT, Recipe(), {"two_tower": tower()}),
        n_events(histories),
        len(histories),
    )


@pytest.fixture(scope="module")
def real() -> tuple[Recommender, int, int]:
    """Online Retail as of October 2011."""
    return _online_retail(Recipe())


@pytest.fixture(scope="module")
def every() -> tuple[Recommender, int, int]:
    """The same with every source that is fitted from histories, the large ones that not all shops get among them."""
    return _online_retail(Recipe(sources={name: {} for name in FROM_HISTORIES}))


def _online_retail(recipe: Recipe) -> tuple[Recommender, int, int]:
    cut = datetime(2011, 10, 1, tzinfo=UTC)
    events = purchases("2011-10-01")
    seconds = int(cut.timestamp())
    everyone = events[["user_id"]].drop_duplicates().assign(seconds=seconds).reset_index(drop=True)
    histories = _histories(events, everyone)
    return (
        Recommender.fit(_items(events, seconds), histories, cut, recipe),
        n_events(histories),
        len(histories),
    )


@pytest.mark.parametrize("shop", ["small", "real", "every"])
def test_no_source_is_larger_than_the_rule_says(shop, request) -> None:
    fitted, events, users = request.getfixturevalue(shop)
    learned = {"two_tower": 16} if "two_tower" in fitted.sources else {}
    rule = rates(fitted.recipe, len(fitted.countries), max(map(len, fitted.catalogue.item_ids)), learned)
    sizes = measured(fitted)
    if shop == "every":
        assert {*FROM_HISTORIES} <= set(sizes)
    for name, size in sizes.items():
        assert size <= TIES * rule[name].bytes(len(fitted.catalogue), events, users), name


def test_the_rule_is_no_wild_guess(real) -> None:
    """All sources together take at least a third of what they may."""
    fitted, events, users = real
    rule = rates(fitted.recipe, len(fitted.countries))
    most = sum(rule[name].bytes(len(fitted.catalogue), events, users) for name in measured(fitted))
    assert sum(measured(fitted).values()) > most / 3


def test_a_bundle_is_its_arrays_and_the_items(real, tmp_path) -> None:
    fitted, _, _ = real
    fitted.save(tmp_path)
    for name, size in measured(fitted).items():
        assert size <= (tmp_path / f"{name}.npz").stat().st_size <= size + 4_096
    assert (tmp_path / "items.parquet").stat().st_size < 300 * len(fitted.catalogue)


def test_nobody_has_a_row_of_their_own(small) -> None:
    """Twice the same people, each id its own: the model is as large as before, but for what groups hold."""
    fitted, _, _ = small
    items, histories, _ = frames()
    twice = pd.concat(
        [histories, histories.assign(user_id="again " + histories["user_id"])], ignore_index=True
    )
    doubled = measured(Recommender.fit(items, twice, CUT, Recipe(), {"two_tower": tower()}))
    for name, size in measured(fitted).items():
        if name != "people":
            assert doubled[name] <= TIES * size, name
