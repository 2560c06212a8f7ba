"""LightGBM's text of a model, read without LightGBM: its trees as `Booster.dump_model` tells them, as far as serving asks.

LightGBM brings scikit-learn and scipy.stats into a process that answers with masks of leaves and needs neither: half of a
server's start. What is read here is what `model_to_string` writes: https://lightgbm.readthedocs.io, `Tree::ToString`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.pauses import breathe

LARGEST = 1e300  # of a threshold, as `dump_model` writes infinity
MISSING = ("None", "Zero", "NaN")


def features_of(text: str) -> tuple[str, ...]:
    """Names of the features, in order. Raises ValueError for what is no model."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "feature_names":
            return tuple(value.split())
        if name == "Tree":
            break
    raise ValueError("no feature_names: not LightGBM's text of a model")


def described(text: str) -> dict[str, Any] | None:
    """`feature_names`, `tree_info` (num_leaves, tree_structure) and `average_output`; None for trees of a kind that is not read here:
    with categories, or with linear leaves. Raises ValueError for what is no model."""
    trees = []
    for tree in _blocks(text):
        breathe()
        if tree.get("num_cat", "0") != "0" or tree.get("is_linear", "0") != "0":
            return None
        trees.append(_tree(tree))
    average = "average_output" in text[: text.find("\nTree=")].splitlines()
    return {"feature_names": list(features_of(text)), "tree_info": trees, "average_output": average}


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The lines of each tree, by name."""
    for block in text.split("\nTree=")[1:]:
        lines = block.partition("\n\n")[0].splitlines()[1:]
        yield {name: value for name, _, value in (line.partition("=") for line in lines)}


def _tree(lines: dict[str, str]) -> dict[str, Any]:
    n = int(lines["num_leaves"])
    values = [float(each) for each in lines["leaf_value"].split()]
    if n == 1:
        return {"num_leaves": 1, "tree_structure": {"leaf_value": values[0]}}
    names = ("split_feature", "decision_type", "left_child", "right_child")
    numbers = {name: [int(each) for each in lines[name].split()] for name in names}
    thresholds = [float(each) for each in lines["threshold"].split()]
    means = [float(each) for each in lines["internal_value"].split()]
    if len(values) != n or {len(thresholds), len(means), *map(len, numbers.values())} != {n - 1}:
        raise ValueError(f"a tree of {n} leaves has other numbers of nodes or values")

    def node(at: int) -> dict[str, Any]:
        if at < 0:
            return {"leaf_index": ~at, "leaf_value": values[~at]}
        kind = numbers["decision_type"][at]
        return {
            "split_feature": numbers["split_feature"][at],
            "threshold": min(max(thresholds[at], -LARGEST), LARGEST),
            "decision_type": "<=",
            "default_left": bool(kind & 2),
            "missing_type": MISSING[(kind >> 2) & 3],
            "internal_value": means[at],
            "left_child": node(numbers["left_child"][at]),
            "right_child": node(numbers["right_child"][at]),
        }

    return {"num_leaves": n, "tree_structure": node(0)}
