"""Each part left out: what is not used changes nothing, what carries the answers is missed, and the run keeps table and plot."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from aisle.settings import Boost, Final
from engine.blend import Weights
from engine.evaluation import COLUMNS, HeldOut
from engine.recipe import Recipe
from engine.recommender import Recommender
from tests.engine.shop import CUT, frames
from training import ablation, plots, ranking
from training.ablation import LAST_STAGE, RANKER, WHOLE

USED = {"popularity": 0.3, "personal": 1.0, "linear": 1.0}


@pytest.fixture(scope="module")
def window():
    items, histories, truth = frames()
    recipe = Recipe(weights=Weights(again=USED, new=USED, offset=1.0))
    return Recommender.fit(items, histories, CUT, recipe), histories, truth


@pytest.fixture(scope="module")
def table(window):
    return ablation.table(*window, samples=200).set_index(["part", "column"])


def test_every_source_is_left_out_in_both_columns(window, table) -> None:
    assert set(table.index) == {(name, column) for name in window[0].sources for column in COLUMNS}
    assert table["whole"].groupby("column").nunique().eq(1).all()
    np.testing.assert_allclose(table["without"] - table["whole"], table["change"], atol=1e-9)
    assert (table["low"] <= table["change"]).all()
    assert (table["change"] <= table["high"]).all()


def test_what_carries_the_answers_is_missed_and_what_weighs_nothing_is_not(table) -> None:
    for unused in ("item_item", "content"):
        assert (table.loc[unused, ["change", "low", "high"]].to_numpy() == 0).all()
    assert table.loc[("personal", "all"), "high"] < 0
    assert table.loc[("linear", "new"), "change"] < 0


def test_the_recorded_whole_answers_as_the_model_does(window) -> None:
    fitted, histories, truth = window
    held = HeldOut.of(fitted, histories, truth, CUT)
    states = [state for state in held.states if len(state.item_ids)]
    ours = ablation.recorded(fitted, held)
    ids, _ = ours.batch(states, 10, CUT)
    assert (ids == fitted.batch(states, 10, CUT)[0]).mean() > 0.999, "but for ties in the last bit"


def test_ranker_and_last_stage_are_parts(window) -> None:
    items, histories, truth = frames(CUT - timedelta(days=28))
    cut = CUT - timedelta(days=28)
    before = Recommender.fit(items, histories, cut, Recipe())
    ranker = ranking.learn([ranking.Examples.of(before, histories, truth, cut, 100, 7)], 7)
    ranked = window[0].with_ranker(ranker).with_final(Final(boosts=[Boost(value="item 07", add=99.0)]))
    found = ablation.table(ranked, *window[1:], samples=50).set_index(["part", "column"])
    assert {RANKER, LAST_STAGE} <= set(found.index.get_level_values("part"))
    assert found.loc[(RANKER, "all"), "change"] != 0
    assert found.loc[(LAST_STAGE, "all"), "change"] > 0, (
        "a list that begins with item 07 for everybody was no good"
    )
    assert found.loc[("item_item", "all"), "change"] != 0, "the ranker reads it, though the blend does not"


def test_a_sample_of_users_repeats_itself(window) -> None:
    first = ablation.table(*window, users=20, samples=50)
    assert first["n"].max() <= 20
    assert first.equals(ablation.table(*window, users=20, samples=50))


def test_a_run_has_its_table_where_fit_kept_the_model(window, tmp_path, settings) -> None:
    fitted, histories, truth = window
    dataset = SimpleNamespace(frame={"histories_V": histories, "truth_validation": truth}.__getitem__)
    assert ablation.of_run(settings, dataset, tmp_path) is None
    ablation.keep(fitted, tmp_path)
    found = ablation.of_run(settings, dataset, tmp_path)
    plots.ablation(found, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert set(found["part"]) == set(fitted.sources)
    assert WHOLE not in set(found["part"])
