"""What a ranker's score owes to which feature, along the paths of its trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.ranker import PARTS, Ranker
from engine.ranking import SCORE


@dataclass(frozen=True)
class Paths:
    """Each step from a node to its child moves the node's mean to the child's, and belongs to the feature that was asked. Saabas,
    Interpreting random forests (2014).

    Adds up to the score as TreeSHAP does, in a tenth of its time; of features that say the same it favours the one asked
    first. owners: names of the parts. table: (leaves of all trees, owners) float32. start: (trees,) first leaf of each.
    """

    ranker: Ranker
    owners: tuple[str, ...]
    table: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, ranker: Ranker) -> Paths:
        owner_of = [PARTS.get(name, name.removeprefix(SCORE)) for name in ranker.names]
        owners = tuple(dict.fromkeys([*owner_of, "base"]))
        column = np.array([owners.index(name) for name in owner_of])
        leaves: list[np.ndarray] = []
        start = []
        for tree in ranker.described()["tree_info"]:
            root, found = tree["tree_structure"], np.zeros((tree["num_leaves"], len(owners)))
            base = np.zeros(len(owners))
            base[-1] = root.get("internal_value", root.get("leaf_value", 0.0))
            _walk(root, base, column, found)
            start.append(sum(map(len, leaves)))
            leaves.append(found)
        return cls(ranker, owners, np.vstack(leaves).astype(np.float32), np.array(start))

    def split(self, item: np.ndarray, among: np.ndarray, reached: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fills the first columns of `out` (n, owners or more) for those of `item` (n,) that are `among` (m,), ascending rows of
        the catalogue whose leaves are `reached` (m, trees), LightGBM's numbers. (n,) bool: which they are."""
        from engine import (
            compiled,  # where it is asked for: a job that answers nobody need not load a compiler
        )

        return compiled.split(item, among, reached, self.start, self.table, out)

    def reached(self, features: np.ndarray) -> np.ndarray:
        """(n, trees) uint16, as LightGBM walks there."""
        found = self.ranker.model.predict(features, pred_leaf=True, num_threads=1)
        return np.asarray(found, np.uint16).reshape(len(features), -1)


def _walk(node: dict[str, Any], so_far: np.ndarray, column: np.ndarray, found: np.ndarray) -> None:
    """Fills `found` with the parts of the leaves under a node, whose own are `so_far`."""
    if "leaf_value" in node:
        found[node.get("leaf_index", 0)] = so_far
        return
    for child in (node["left_child"], node["right_child"]):
        step = so_far.copy()
        step[column[node["split_feature"]]] += (
            child.get("leaf_value", child.get("internal_value")) - node["internal_value"]
        )
        _walk(child, step, column, found)
