"""The quality columns and slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aisle.settings import Final
from engine import slices
from engine.evaluation import HeldOut, baseline, evaluate
from engine.recipe import Recipe
from engine.recommender import Recommender
from tests.engine.shop import CUT, frames


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    items, histories, _ = frames()
    return Recommender.fit(items, histories, CUT, Recipe())


@pytest.fixture(scope="module")
def held(fitted: Recommender) -> HeldOut:
    _, histories, truth = frames()
    extra = pd.DataFrame({"user_id": ["zz new", "zz new"], "item_id": ["item 01", "item nowhere"]})
    return HeldOut.of(fitted, histories, pd.concat([truth, extra]), CUT)


@pytest.fixture(scope="module")
def values(fitted: Recommender, held: HeldOut) -> pd.DataFrame:
    return evaluate(held, held.lists(fitted))


def mean(values: pd.DataFrame, column: str, metric: str, name: str = slices.ALL) -> float:
    chosen = (values["column"] == column) & (values["metric"] == metric) & (values["slice"] == name)
    return float(values.loc[chosen, "value"].mean())


def test_the_engine_beats_chance_and_popularity(fitted, held, values) -> None:
    popular = evaluate(held, held.lists(baseline(fitted, "popularity")))
    for column in ("all", "new"):
        assert mean(values, column, "ndcg@10") > mean(popular, column, "ndcg@10")


def test_the_new_column_lists_nothing_that_was_owned(held: HeldOut, fitted: Recommender) -> None:
    listed = held.lists(fitted)["new"]
    rows, places = np.nonzero(listed >= 0)
    assert not np.asarray(held.owned[rows, listed[rows, places]]).any()


def test_an_oracle_is_perfect_in_both_columns(held: HeldOut) -> None:
    truth, owned = held.truth.toarray(), held.owned.toarray() > 0
    from engine.metrics import top_k

    found = evaluate(held, {"all": top_k(truth, 20), "new": top_k(np.where(owned, -np.inf, truth), 20)})
    for column in ("all", "new"):
        for metric in ("ndcg@10", "ndcg@20", "mrr@10"):
            assert mean(found, column, metric) == pytest.approx(1.0)


def test_new_users_stand_apart(values: pd.DataFrame) -> None:
    newcomers = values[values["slice"] == slices.NEW_USERS]
    assert set(newcomers["user_id"]) == {"zz new"}
    assert "zz new" not in set(values.loc[values["slice"] == slices.ALL, "user_id"])


def test_each_user_has_one_value_a_metric(values: pd.DataFrame) -> None:
    assert not values.duplicated(["column", "slice", "user_id", "metric"]).any()
    per_user = values[values["user_id"] != ""]
    assert per_user["value"].between(0, 1).all()
    assert set(values.loc[values["user_id"] == "", "metric"]) == {"coverage@10", "novelty@10"}


def test_slices_of_users() -> None:
    found = slices.of_users(np.array([0, 1, 20, 21, 100]))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.items()} == {
        "all": [1, 2, 3, 4],
        "new_users": [0],
        "light_users": [1, 2],
        "heavy_users": [4],
    }


def test_slices_of_items(held: HeldOut) -> None:
    found = slices.of_items(held.catalogue)
    buyers = held.catalogue.numbers("n_buyers")
    assert buyers[~found["tail_items"]].min() >= buyers[found["tail_items"]].max()
    assert (~found["tail_items"]).sum() == 8
    assert (held.catalogue.numbers("days_since_first")[found["new_items"]] <= 28).all()


def test_the_last_stage_is_measured() -> None:
    """Both columns are judged by the lists that are served, and baselines have no last stage."""
    items, histories, truth = frames()
    fitted = Recommender.fit(items, histories, CUT, Recipe())
    asked = fitted.with_final(Final(strength=0.5, similar_by="item_item"))
    held = HeldOut.of(asked, histories, truth, CUT)
    ids = np.array([*asked.catalogue.item_ids, ""], dtype=object)
    for column, new_only in (("all", False), ("new", True)):
        listed = held.lists(asked)[column]
        assert (ids[listed] == asked.batch(held.states, 20, CUT, new_only)[0]).all()
        assert (listed != held.lists(fitted)[column]).any()
    assert baseline(asked, "linear").recipe.final == Final()
