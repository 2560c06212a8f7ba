"""Boosted trees over the candidates of one list: which leaf each row falls into, from bit masks instead of walks.

A list's few hundred rows walk 150 trees in 40,000 unpredictable branches. Here each answer of a feature strikes out the
leaves that it excludes, in all trees at once, and what is left over is the leaf. Lucchese et al., QuickScorer (2015), with
one table of masks a feature. The leaves are LightGBM's own, and so are the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.ranking import ITEM, PAIR, USER, Candidates, Things

if TYPE_CHECKING:
    from engine.ranker import Ranker

OWN = (*PAIR, "since_order_with")  # features of a user's own past with an item
ABSENT = {
    **dict.fromkeys(OWN, 0.0),
    **dict.fromkeys(("last", "first", "gap", "overdue", "since_order_with"), np.nan),
}
MOST_LEAVES = 16  # of a tree: as many as a mask has bits
FOUR = 4  # masks in a uint64


@dataclass(frozen=True)
class Trees:
    """thresholds: of all features one after the other, ascending float64 each; those of feature f are [first[f], first[f + 1]).
    masks: (thresholds + 2 a feature, width) uint16 of the leaves that are still possible after so many of a feature's thresholds lie
    below the value; each feature's last row for NaN. width: trees, and so many more that four fit into a uint64. values: (trees,
    MOST_LEAVES) float64 of each tree's leaves from the left. numbers: (trees, MOST_LEAVES) uint8, LightGBM's own of each. May be read
    from many threads.
    """

    thresholds: np.ndarray
    first: np.ndarray
    masks: np.ndarray
    values: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Trees | None:
        """From `Ranker.described`. None for trees that are larger, or split otherwise, than those that `training` learns: LightGBM has to walk them."""
        trees = told["tree_info"]
        if told.get("average_output") or any(tree["num_leaves"] > MOST_LEAVES for tree in trees):
            return None
        nodes: list[list[_Node]] = [[] for _ in told["feature_names"]]
        values = np.zeros((len(trees), MOST_LEAVES))
        numbers = np.zeros((len(trees), MOST_LEAVES), np.uint8)
        for number, tree in enumerate(trees):
            leaves: list[dict[str, Any]] = []
            if not _walk(tree["tree_structure"], number, leaves, nodes):
                return None
            values[number, : len(leaves)] = [leaf["leaf_value"] for leaf in leaves]
            numbers[number, : len(leaves)] = [leaf.get("leaf_index", 0) for leaf in leaves]
        if not trees:
            return None
        width = -(-len(trees) // FOUR) * FOUR
        thresholds, masks = zip(*(_tables(each, width) for each in nodes), strict=True)
        first = np.cumsum([0, *map(len, thresholds)])
        return cls(np.concatenate(thresholds), first, np.vstack(masks), values, numbers)

    def strike(self, left: np.ndarray, columns: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
        """`left` (n, width) uint16, less what these features' values (n,) exclude, in place."""
        for feature, values in columns:
            low, high = self.first[feature : feature + 2]
            if low < high:
                place = np.searchsorted(self.thresholds[low:high], values)  # NaN sorts behind everything
                place[values != values] = high - low + 1
                left &= self.masks[low + 2 * feature + place]
        return left

    def all(self, n: int) -> np.ndarray:
        """(n, width) uint16: every leaf of every tree."""
        return np.full((n, self.masks.shape[1]), 0xFFFF, np.uint16)

    def asks(self, feature: int) -> bool:
        return bool(self.first[feature] < self.first[feature + 1])


@dataclass(frozen=True)
class Ranking:
    """A ranker over one catalogue, for one user's candidates: what a user has not done, and what an item is, is struck out
    beforehand.

    of_items: (n_items, width) uint16 left over by ITEM; absent: (width,) by OWN of an item that the user never had.
    asked: places of the other features, item_at: of ITEM, user_at: of USER, own_at: of OWN.
    """

    trees: Trees
    of_items: np.ndarray
    absent: np.ndarray
    asked: tuple[int, ...]
    item_at: tuple[int, ...]
    user_at: tuple[int, ...]
    own_at: tuple[int, ...]
    last_at: int

    @classmethod
    def of(cls, ranker: Ranker, things: Things) -> Ranking | None:
        """None where LightGBM has to walk the trees, see `Trees.of`."""
        trees, place = Trees.of(ranker.described()), {name: at for at, name in enumerate(ranker.names)}
        if trees is None or not place.keys() >= {*USER, *OWN, *ITEM}:
            return None
        columns = [(place[name], column) for name, column in zip(ITEM, things.features.T, strict=True)]
        nothing = [(place[name], np.array([ABSENT[name]], np.float32)) for name in OWN]
        known = {*USER, *OWN, *ITEM}
        return cls(
            trees,
            trees.strike(trees.all(len(things.price)), columns),
            trees.strike(trees.all(1), nothing)[0],
            tuple(at for name, at in place.items() if name not in known),
            tuple(place[name] for name in ITEM),
            tuple(place[name] for name in USER),
            tuple(place[name] for name in OWN),
            place["last"],
        )

    def over(self, before: Things, things: Things) -> Ranking:
        """With other values of some items, or more items behind the others, which alone are read anew."""
        n, now = len(before.features), things.features
        rows = np.flatnonzero((before.features != now[:n]).any(axis=1))
        rows = np.concatenate([rows, np.arange(n, len(now))])
        of_items = np.concatenate([self.of_items, self.trees.all(len(now) - n)])
        columns = [(at, things.features[rows, place]) for place, at in enumerate(self.item_at)]
        of_items[rows] = self.trees.strike(self.trees.all(len(rows)), columns)
        return replace(self, of_items=of_items)

    def reached(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(n,) float32 scores and (n, trees) uint8 leaves, by LightGBM's own numbers, of candidates of one user."""
        from engine import (
            compiled,  # where it is asked for: a job that answers nobody need not load a compiler
        )

        return compiled.reached(found.item, found.features.T, *self._read)

    @cached_property
    def _read(self) -> tuple[Any, ...]:
        """What `compiled.reached` reads beside the candidates."""
        trees = self.trees
        user, asked, own = (
            [at for at in some if trees.asks(at)] for some in (self.user_at, self.asked, self.own_at)
        )
        return (
            self.of_items.view(np.uint64),
            self.absent.view(np.uint64),
            np.array(user, np.int64),
            np.array([*asked, *own], np.int64),
            len(asked),
            self.last_at,
            trees.thresholds,
            trees.first,
            trees.masks.view(np.uint64),
            trees.values,
            trees.numbers,
        )


@dataclass(frozen=True)
class _Node:
    """right: mask of the leaves that are left over where the answer is no; nan_left: where a value is not known."""

    threshold: float
    tree: int
    right: int
    left: int
    nan_left: bool


def _walk(node: dict[str, Any], tree: int, leaves: list[dict[str, Any]], nodes: list[list[_Node]]) -> bool:
    """Numbers the leaves below a node from the left and notes its question. False for a kind of question that is not known."""
    if "leaf_value" in node:
        leaves.append(node)
        return True
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        return False
    first = len(leaves)
    if not _walk(node["left_child"], tree, leaves, nodes):
        return False
    middle = len(leaves)
    if not _walk(node["right_child"], tree, leaves, nodes):
        return False
    below = (1 << middle) - (1 << first)
    above = (1 << len(leaves)) - (1 << middle)
    # Where a model never saw a missing value it reads NaN as 0.
    nan_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
    nodes[node["split_feature"]].append(_Node(node["threshold"], tree, ~below, ~above, nan_left))
    return True


def _tables(nodes: list[_Node], n_trees: int) -> tuple[np.ndarray, np.ndarray]:
    """thresholds and masks of one feature."""
    thresholds = np.unique(np.array([node.threshold for node in nodes], float))
    masks = np.full((len(thresholds) + 2, n_trees), 0xFFFF, np.uint16)
    for node in nodes:
        place = int(np.searchsorted(thresholds, node.threshold))
        # Answers yes (and is struck out nothing to its left) up to its threshold, no beyond.
        masks[place + 1 : len(thresholds) + 1, node.tree] &= np.uint16(node.right & 0xFFFF)
        masks[-1, node.tree] &= np.uint16((node.left if node.nan_left else node.right) & 0xFFFF)
    return thresholds, masks
