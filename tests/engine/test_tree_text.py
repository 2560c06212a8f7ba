"""LightGBM's text says here what LightGBM says of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import lightgbm
import numpy as np
import pytest

from engine import tree_text
from engine.ranker import Ranker

QUIET = {"verbosity": -1, "min_data_in_leaf": 5, "num_leaves": 9, "seed": 3, "objective": "regression"}


def learnt(rounds: int = 12, **more: Any) -> lightgbm.Booster:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(600, 5))
    rows[rng.random((600, 5)) < 0.2] = np.nan
    rows[:, 3] = np.nan_to_num(rows[:, 3])  # never missing
    rows[:, 4] = rng.integers(0, 4, 600)
    label = np.nan_to_num(rows[:, 0]) * 2 + np.isnan(rows[:, 1]) + rows[:, 3] ** 2 + 3 * (rows[:, 4] == 2)
    categories = more.pop("categories", "auto")
    data = lightgbm.Dataset(rows, label, feature_name=list("abcde"), categorical_feature=categories)
    made = lightgbm.train({**QUIET, **more}, data, rounds)
    return lightgbm.Booster(model_str=made.model_to_string())


def pruned(node: dict[str, Any]) -> dict[str, Any]:
    """What is read here of a node."""
    if "leaf_value" in node:
        return {name: node[name] for name in ("leaf_index", "leaf_value") if name in node}
    names = ("split_feature", "threshold", "decision_type", "default_left", "missing_type", "internal_value")
    found = {name: node[name] for name in names}
    found["internal_value"] = pytest.approx(
        found["internal_value"], rel=1e-12
    )  # LightGBM reads it in a hurry
    return found | {side: pruned(node[side]) for side in ("left_child", "right_child")}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    ],
)
def test_trees_are_those_that_lightgbm_tells(more: dict[str, Any]) -> None:
    model = learnt(**more)
    told, found = model.dump_model(), tree_text.described(model.model_to_string())
    assert found is not None
    assert found["feature_names"] == told["feature_names"]
    assert found["average_output"] == bool(told.get("average_output"))
    assert len(found["tree_info"]) == len(told["tree_info"])
    for mine, theirs in zip(found["tree_info"], told["tree_info"], strict=True):
        assert mine["num_leaves"] == theirs["num_leaves"]
        assert mine["tree_structure"] == pruned(theirs["tree_structure"])


def test_a_tree_of_one_leaf() -> None:
    model = learnt(1, min_data_in_leaf=1000)
    found = tree_text.described(model.model_to_string())
    assert found is not None
    (tree,) = found["tree_info"]
    (told,) = model.dump_model()["tree_info"]
    assert tree == {
        "num_leaves": 1,
        "tree_structure": {"leaf_value": told["tree_structure"]["leaf_value"]},
    }


@pytest.mark.parametrize(
    "more", [{"categories": ["e"], "min_data_per_group": 5, "cat_smooth": 1.0}, {"linear_tree": True}]
)
def test_what_is_not_read_here_lightgbm_tells(more: dict[str, Any]) -> None:
    text = learnt(**more).model_to_string()
    assert tree_text.described(text) is None
    assert len(Ranker(text).described()["tree_info"]) == 12


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_names"):
        Ranker("no model").names  # noqa: B018
    text = learnt().model_to_string()
    cut = text.replace("leaf_value=", "leaf_value=0.5 ", 1)
    with pytest.raises(ValueError, match="leaves"):
        tree_text.described(cut)


def test_a_process_that_answers_needs_no_lightgbm() -> None:
    asked = "import sys, engine.recommender, engine.compiled, serving.app; print('lightgbm' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("False")
