"""Boosted trees over the candidates of one list, by masks of the leaves that are left over: see engine.trees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from engine.compiled.how import compiled


@intrinsic
def _lowest(context, bits):
    """Place of the lowest bit that is set: one instruction, where Python has none for it."""

    def code(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint16(types.uint16), code


_first_bit: Any = _lowest


@compiled()
def place_among(value, thresholds, base, size):
    """Row of a feature's masks for one value. thresholds: the feature's are `size` from `base` on, ascending; after their rows comes
    one for NaN."""
    if value != value:
        return size + 1
    low = base
    while size > 1:  # without a branch that nobody can foresee
        half = size // 2
        low = low + half if thresholds[low + half - 1] < value else low
        size -= half
    return low - base + (1 if thresholds[low] < value else 0)


@compiled()
def _strike(left, mask):
    for four in range(len(left)):
        left[four] &= mask[four]


@compiled()
def reached(
    item, features, of_items, absent, user, looked, always, last, thresholds, first, masks, values, numbers
):
    """Scores (n,) float32 and LightGBM's numbers of the leaves (n, trees) uint8 of one user's candidates.

    item: (n,) rows. features: (features, n) float32. of_items: (n_items, .), absent: (.,) of leaves left over beforehand, four trees of
    uint16 in a uint64, as all masks. Features that a tree asks for: user, which are the same for all; looked, of which the first
    `always` are asked of all, the others of what the user had, as feature `last` tells. masks: those of feature f begin at
    first[f] + 2 f. values, numbers: (trees, LEAVES) of each tree's leaves from the left.
    """
    n, trees = len(item), len(values)
    mine = np.full(masks.shape[1], 0xFFFFFFFFFFFFFFFF, np.uint64)
    if n:
        for feature in user:
            base, size = first[feature], first[feature + 1] - first[feature]
            row = base + 2 * feature + place_among(features[feature, 0], thresholds, base, size)
            _strike(mine, masks[row])
    new = mine & absent
    rows = np.zeros((n, len(looked)), np.int64)
    for place in range(
        len(looked)
    ):  # one after the other, so that the searches of many candidates are under way at once
        feature = looked[place]
        base, size = first[feature], first[feature + 1] - first[feature]
        for k in range(n):
            if place < always or features[last, k] == features[last, k]:
                rows[k, place] = (
                    base + 2 * feature + place_among(features[feature, k], thresholds, base, size)
                )
    scores, leaves = np.empty(n, np.float32), np.empty((n, trees), np.uint8)
    left = np.empty((n, masks.shape[1]), np.uint64)
    for k in range(n):
        had = features[last, k] == features[last, k]
        left[k] = of_items[item[k]]
        _strike(left[k], mine if had else new)
        for place in range(len(looked) if had else always):
            _strike(left[k], masks[rows[k, place]])
    for k in range(0, n, 2):  # two at once: a sum waits for each of its parts
        beside = min(k + 1, n - 1)
        scores[k], scores[beside] = _leaf_by_leaf(
            left[k].view(np.uint16), left[beside].view(np.uint16), values, numbers, leaves[k], leaves[beside]
        )
    return scores, leaves


@compiled()
def _leaf_by_leaf(one, other, values, numbers, of_one, of_other):
    first, second = 0.0, 0.0
    for tree in range(len(values)):
        leaf, beside = _first_bit(one[tree]), _first_bit(other[tree])
        first += values[tree, leaf]
        second += values[tree, beside]
        of_one[tree], of_other[tree] = numbers[tree, leaf], numbers[tree, beside]
    return first, second
