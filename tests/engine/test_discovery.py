"""Discovery slots: more of the catalogue in all lists together, nothing moved above the slots, nothing shown that must not be."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from aisle.errors import BundleRejected
from aisle.settings import Final
from engine import bundle, metrics
from engine.discovery import DEPTH, MARK, Discovery, prices
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from tests.engine.shop import CUT

SLOTS, N_ITEMS, N_USERS = 3, 150, 120
FIRST = DEPTH - SLOTS


def shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """items and histories of a shop where a few items are bought by nearly everybody, and most by nearly nobody."""
    rng = np.random.default_rng(5)
    often = 1.0 / np.arange(1, N_ITEMS + 1) ** 1.3
    had = [rng.choice(N_ITEMS, 6, replace=False, p=often / often.sum()) for _ in range(N_USERS)]
    histories = pd.DataFrame({"user_id": [f"u{user:03d}" for user in range(N_USERS)], "country": "Japan"})
    histories["item_ids"] = [[f"i{item:03d}" for item in each] for each in had]
    histories["event_types"] = [["purchase"] * 6] * N_USERS
    newest = int((CUT - timedelta(days=1)).timestamp())
    histories["event_times"] = [[newest - 86_400 * 9 * place for place in range(6)]] * N_USERS
    histories["quantities"] = [[1.0] * 6] * N_USERS
    buyers = np.bincount(np.concatenate(had), minlength=N_ITEMS)
    items = pd.DataFrame({"item_id": [f"i{item:03d}" for item in range(N_ITEMS)], "n_buyers": buyers})
    items = items.assign(n_buyers_30d=buyers, price=2.0, brand=None, deleted=False, days_since_first=50.0)
    items["title"] = [f"Thing {item % 7} {item % 11}" for item in range(N_ITEMS)]
    items["categories"] = [["things"]] * N_ITEMS
    return items, histories


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    return Recommender.fit(*shop(), CUT, Recipe(final=Final(discovery_slots=SLOTS)))


@pytest.fixture(scope="module")
def states() -> list[UserState]:
    return from_frame(shop()[1])


def lists(model: Recommender, states: list[UserState], k: int = DEPTH, new_only: bool = False) -> np.ndarray:
    return np.vstack([model.top(scores, k) for scores in model.chunks(states, CUT, new_only)])


def test_prices_share_the_places_out() -> None:
    """Two users, two items that both like best in the same order: with the prices each item has one of them."""
    behind = np.array([[-1.0, -2.0], [-1.0, -5.0]], np.float32)
    found = behind + prices(behind, 0.1)
    assert found.argmax(axis=1).tolist() == [1, 0], "who loses least goes to the other one"
    rng = np.random.default_rng(1)
    many = rng.normal(size=(600, 60)).astype(np.float32) + rng.normal(size=60).astype(np.float32) * 3
    picked = (many + prices(many, 0.3)).argmax(axis=1)
    assert len(np.unique(many.argmax(axis=1))) < 20
    assert np.bincount(picked, minlength=60).min() >= 3


def test_prices_of_nothing_and_of_ties_are_none() -> None:
    assert (prices(np.full((4, 3), -np.inf, np.float32), 1.0) == 0).all()
    assert (prices(np.zeros((4, 3), np.float32), 0.0) == 0).all()
    assert np.isfinite(prices(np.array([[-1e9, 0.0], [-np.inf, -3.0]], np.float32), 0.01)).all()


def test_lists_together_show_more_and_their_first_places_stay(fitted, states) -> None:
    plain = fitted.with_final(Final())
    for new_only in (False, True):
        before, after = (lists(each, states, new_only=new_only) for each in (plain, fitted))
        assert (before[:, :FIRST] == after[:, :FIRST]).all()
        gained = [metrics.coverage(each, N_ITEMS, DEPTH) for each in (before, after)]
        assert gained[1] > (1.6 * gained[0] if new_only else 0.97) > gained[0]
        assert all(len(set(each)) == DEPTH for each in after.tolist())


def test_what_a_slot_displaced_comes_next(fitted, states) -> None:
    before, after = lists(fitted.with_final(Final()), states, 60), lists(fitted, states, 60)
    for old, new in zip(before.tolist(), after.tolist(), strict=True):
        left = [row for row in old if row not in new[FIRST:DEPTH]]
        assert new[:FIRST] + new[DEPTH:] == left[: 60 - SLOTS]
    assert (lists(fitted, states, FIRST) == before[:, :FIRST]).all()


def test_one_user_alone_and_among_others_and_after_a_bundle(fitted, states, tmp_path) -> None:
    fitted.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    ids, _ = fitted.batch(states, DEPTH, CUT)
    for row, state in enumerate(states[:20]):
        found = fitted.recommend(state, DEPTH, CUT)
        assert [each.item_id for each in found] == ids[row].tolist()
        assert found == loaded.recommend(state, DEPTH, CUT)
        marked = [each.reason["evidence"].get(MARK, False) for each in found]
        assert marked == [False] * FIRST + [True] * SLOTS
        for each in found:
            assert sum(each.reason["parts"].values()) == pytest.approx(each.score, rel=1e-3, abs=1e-3)
    assert not loaded.faults()


def test_what_must_not_be_shown_is_in_no_slot(fitted, states) -> None:
    shown = {each.item_id for each in fitted.recommend(states[0], DEPTH, CUT)[FIRST:]}
    again = fitted.recommend(states[0], DEPTH, CUT, exclude=shown)
    assert not shown & {each.item_id for each in again}
    left = [f"i{item:03d}" for item in range(10)]
    few = fitted.recommend(states[0], DEPTH, CUT, exclude=set(fitted.catalogue.item_ids) - set(left))
    assert {each.item_id for each in few} == set(left)
    assert not any(MARK in each.reason["evidence"] for each in few), "a list that ends before has no slot"


def test_another_ranking_has_no_prices_before_it_is_asked_for_them(fitted, states) -> None:
    other = fitted.with_weights(fitted.recipe.weights)
    assert other.recipe.final.discovery_slots == SLOTS
    assert other.discovery is None
    assert (lists(other, states) == lists(fitted.with_final(Final()), states)).all()
    again = other.with_discovery(shop()[1])
    assert (lists(again, states) == lists(fitted, states)).all()


def test_items_that_came_since_wait_for_the_next_fit(fitted, states) -> None:
    new = shop()[0].iloc[:2].assign(item_id=["n1", "n2"], n_buyers=0, n_buyers_30d=0)
    grown = fitted.with_items(new)
    found = grown.recommend(states[0], DEPTH, CUT)
    assert [each.reason["evidence"].get(MARK, False) for each in found][FIRST:] == [True] * SLOTS
    assert not {"n1", "n2"} & {each.item_id for each in found[FIRST:]}


def test_off_there_is_nothing_of_it(states, tmp_path) -> None:
    plain = Recommender.fit(*shop(), CUT, Recipe())
    assert plain.discovery is None
    plain.save(tmp_path)
    assert not (tmp_path / "discovery.npz").exists()
    assert not any(MARK in each.reason["evidence"] for each in plain.recommend(states[0], DEPTH, CUT))


def test_a_shop_without_people_has_no_prices() -> None:
    items, histories = shop()
    model = Recommender.fit(items, histories.iloc[:0], CUT, Recipe(final=Final(discovery_slots=2)))
    assert not np.isfinite(model.discovery.price).any()
    assert len(model.recommend(UserState("x", "Japan"), 5, CUT)) == 5


def test_a_damaged_file_is_refused(fitted, tmp_path) -> None:
    fitted.save(tmp_path)
    files = {name: bytes(each) for name, each in bundle.read(tmp_path).items()}
    bad = {"items": np.array([N_ITEMS + 3]), "price": np.array([1.0], np.float32), "unit": np.ones(1)}
    bundle.write(tmp_path, {**files, "discovery.npz": bundle.pack_arrays(bad)})
    with pytest.raises(BundleRejected, match=r"discovery\.npz"):
        Recommender.load(tmp_path)
    assert Discovery.from_arrays(fitted.discovery.arrays(), N_ITEMS).price.tolist() == (
        fitted.discovery.price.tolist()
    )
