"""Loops over one user's history and candidates as machine code (numba): what a request would spend on a hundred small array calls.

Each gives the numbers that the batch path gives, in the same order of sums but for `standardise`.
Compiled once on a machine, and kept beside this file, else in the user's cache; see docs/adr/0010.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from engine.blend import TIED
from engine.metrics import WIDEST

SUMMED = 1024  # values that are added up in single precision, before the next sum
# The place of the one bit that is set in a uint16, by what a de Bruijn sequence times it has in its upper four bits: Leiserson, Prokop
# and Randall, Using de Bruijn Sequences to Index a 1 in a Computer Word (1998).
SEQUENCE = 0x09AF
PLACE = np.zeros(16, np.uint8)
for _bit in range(16):
    PLACE[((SEQUENCE << _bit) & 0xFFFF) >> 12] = _bit


def compiled(*free: str, nogil: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator. free: what the compiler may assume of floating point numbers, as LLVM calls it, so that it takes several at once.

    nogil: lets go of the interpreter's lock meanwhile, which is for loops of milliseconds: who lets go of it a dozen times in a request
    waits a dozen times to get it back.
    """

    def done(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": nogil, "fastmath": {*free}}
        try:
            return numba.njit(function, cache=True, **options)
        except RuntimeError:  # no folder may be written to: it is compiled at every start
            return numba.njit(function, **options)

    return done


@compiled()
def add_rows(rows, by, indptr, indices, data, out):
    """Adds by[k] times the sparse row rows[k] to `out` (n_items,) float32, for every k in order."""
    for k in range(len(rows)):
        for place in range(indptr[rows[k]], indptr[rows[k] + 1]):
            out[indices[place]] += by[k] * data[place]


@compiled()
def place_of(value, among, low, high):
    """Where ascending among[low:high] has a value; -1 where it does not."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if among[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < end and among[low] == value else -1


@compiled()
def parts_of(item, rows, by, indptr, indices, data):
    """(n,) float32: what each of the sparse rows, times its `by`, adds to one item. indices: ascending in a row."""
    found = np.zeros(len(rows), np.float32)
    for k in range(len(rows)):
        place = place_of(item, indices, indptr[rows[k]], indptr[rows[k] + 1])
        if place >= 0:
            found[k] = by[k] * data[place]
    return found


@compiled("reassoc", "nsz")
def _sum(values):
    total = np.float32(0.0)
    for value in range(len(values)):
        total += values[value]
    return total


@compiled("reassoc", "nsz")
def _squares(values, mean):
    """The sum of squares of what is left of values when their mean is taken off, which is done in place."""
    total = np.float32(0.0)
    for place in range(len(values)):
        values[place] -= mean
        total += values[place] * values[place]
    return total


@compiled()
def standardise(rows):
    """`blend.standardise` of (m, n) float32 rows in place, by sums of blocks; whether all of them were finite."""
    n = rows.shape[1]
    for k in range(len(rows)):
        row = rows[k]
        total, squares = 0.0, 0.0
        for start in range(0, n, SUMMED):
            total += _sum(row[start : start + SUMMED])
        mean = np.float32(total / n)
        for start in range(0, n, SUMMED):
            squares += _squares(row[start : start + SUMMED], mean)
        spread = np.float32(np.sqrt(squares / n))
        if not np.isfinite(spread):
            return False
        some = spread > max(TIED * abs(mean), np.float32(1e-12))
        scale = np.float32(1.0) / spread if some else np.float32(0.0)
        for column in range(n):
            row[column] *= scale
    return True


@compiled()
def _maxima(row, maxima):
    """Largest value of each block: of b, b + blocks, b + 2 blocks, ..., so that neighbours are compared at once."""
    n, blocks = len(row), len(maxima)
    maxima[:] = row[:blocks]
    for start in range(blocks, n, blocks):
        more = row[start : start + blocks]
        for block in range(len(more)):
            maxima[block] = more[block] if more[block] > maxima[block] else maxima[block]


@compiled()
def _mark(row, depth, maxima, among, chosen):
    """Marks the `depth` largest of a row, ties by column. maxima: of its blocks; among: scratch."""
    n, blocks = len(row), len(maxima)
    # What the depth-th largest of the maxima is, the depth largest values do not lie below, and few others lie above.
    least = np.partition(maxima, blocks - depth)[blocks - depth] if blocks > depth else np.float32(-np.inf)
    size, tied = 0, 0
    for block in range(blocks):
        tied += maxima[block] == least
        if maxima[block] > least:
            for column in range(block, n, blocks):
                if row[column] > least:
                    among[size] = column
                    size += 1
    edge = np.partition(row[among[:size]], size - depth)[size - depth] if size > depth else least
    left, ties = depth, 0
    for place in range(size):
        if row[among[place]] > edge:
            chosen[among[place]] = True
            left -= 1
        elif row[among[place]] == edge:
            among[ties] = among[place]
            ties += 1
    if edge == least:
        if edge == -np.inf or not left:
            return
        if tied > 4 * depth:  # half the catalogue, often: the first columns will do
            column = 0
            while left and column < n:
                if row[column] == edge:
                    chosen[column] = True
                    left -= 1
                column += 1
            return
        for block in range(blocks):
            if maxima[block] >= edge:
                for column in range(block, n, blocks):
                    if row[column] == edge:
                        among[ties] = column
                        ties += 1
    for column in np.sort(among[:ties])[:left]:
        chosen[column] = True


@compiled()
def mark_best(rows, owned, depth, again, chosen):
    """Marks in `chosen` (n,) the `depth` largest of each of `rows` (m, n) float32 that are not `owned`, and with `again` the `depth`
    largest of all; ties by column; what is -inf is none."""
    n = rows.shape[1]
    width = max(min(n // (4 * depth), WIDEST), 1)
    blocks = (n + width - 1) // width
    maxima, among, kept = (
        np.empty(blocks, np.float32),
        np.empty(n, np.int64),
        np.empty(len(owned), np.float32),
    )
    for k in range(len(rows)):
        row = rows[k]
        if again:
            _maxima(row, maxima)
            _mark(row, depth, maxima, among, chosen)
        for place in range(len(owned)):
            kept[place] = row[owned[place]]
            row[owned[place]] = -np.inf
        _maxima(row, maxima)
        _mark(row, depth, maxima, among, chosen)
        for place in range(len(owned)):
            row[owned[place]] = kept[place]


@compiled()
def blend(rows, again, new, offset, owned):
    """(n,) float32: the sum of `rows` (m, n) times `new` (m,), where `owned` has no row, else `offset` and `again`'s sum."""
    found, had = np.zeros(rows.shape[1], np.float32), np.full(len(owned), offset)
    for source in range(len(rows)):
        if new[source]:
            for column in range(rows.shape[1]):
                found[column] += new[source] * rows[source, column]
        if again[source]:
            for place in range(len(owned)):
                had[place] += again[source] * rows[source, owned[place]]
    for place in range(len(owned)):
        found[owned[place]] = had[place]
    return found


@compiled()
def past(own, days, item, positive, age, decayed):
    """(8, own) float64, see engine.ranking.PAIR but for the last: what a user did with each of the items that they had.

    own: (own,) rows, ascending, and on how many `days`. item, positive, age: of the events; decayed: (3, events) weights.
    """
    found = np.zeros((8, len(own)))
    for k in range(len(own)):
        found[0, k], found[1, k] = days[k], np.inf
    for event in range(len(item)):
        k = place_of(item[event], own, 0, len(own))
        if k < 0:
            continue
        if positive[event]:
            found[1, k] = min(found[1, k], age[event])
            found[2, k] = max(found[2, k], age[event])
        for place in range(3):
            found[5 + place, k] += decayed[place, event]
    for k in range(len(own)):
        gap = (found[2, k] - found[1, k]) / (days[k] - 1.0) if days[k] > 1 else np.nan
        found[3, k] = gap
        found[4, k] = found[1, k] / gap if gap > 0 else np.nan
    return found


@compiled()
def describe(item, rows, source, own, pair, user, things, price, usual, out):
    """Fills `out` (features, n) float32, in the order of engine.ranking.names_of, for candidates `item` (n,) of one user.

    rows: (m, n_items) scores, of which the features read `source`, -1 for none. own, pair: as `past` has them. user: (USER,);
    things: (n_items, ITEM) and price: (n_items,) as engine.ranking.Things; usual: the user's price.
    """
    sources, pairs, order_days, since_order = len(source), len(pair), user[1], user[2]
    for k in range(len(item)):
        for place in range(sources):
            out[place, k] = rows[source[place], item[k]] if source[place] >= 0 else np.nan
        mine, at = place_of(item[k], own, 0, len(own)), sources
        for place in range(pairs):
            absent = np.nan if 1 <= place <= 4 else 0.0
            out[at + place, k] = pair[place, mine] if mine >= 0 else absent
        at += pairs
        out[at, k] = (pair[0, mine] if mine >= 0 else 0.0) / max(order_days, 1.0)
        at += 1
        for place in range(len(user)):
            out[at + place, k] = user[place]
        at += len(user)
        for place in range(things.shape[1]):
            out[at + place, k] = things[item[k], place]
        at += things.shape[1]
        out[at, k] = (pair[1, mine] if mine >= 0 else np.nan) - since_order
        out[at + 1, k] = price[item[k]] - usual


@compiled()
def strike(left, feature, value, thresholds, first, masks):
    """Takes from `left` (trees,) uint16 the leaves that one value of a feature excludes: see engine.trees.

    The feature's thresholds are [first[feature], first[feature + 1]) of all, ascending; its masks begin 2 a feature later.
    """
    base, size = first[feature], first[feature + 1] - first[feature]
    if not size:
        return
    row = base + 2 * feature
    if value != value:
        row += size + 1
    else:
        row -= base
        while size > 1:  # without a branch that nobody can foresee
            half = size // 2
            base = base + half if thresholds[base + half - 1] < value else base
            size -= half
        row += base + (1 if thresholds[base] < value else 0)
    mask = masks[row]
    for tree in range(len(left)):
        left[tree] &= mask[tree]


@compiled()
def reached(
    item, features, of_items, absent, user, own, asked, last, thresholds, first, masks, values, number, start
):
    """Scores (n,) float32 and LightGBM's numbers of the leaves (n, trees) uint8 of one user's candidates.

    item: (n,) rows. features: (features, n) float32. of_items: (n_items, trees), absent: (trees,) uint16 of leaves left over
    beforehand. Features: user, which are the same for all; own, which are looked at for what the user had; asked, for all; last: the
    one of `own` that tells whether they had.
    """
    n, trees = len(item), len(start)
    same = np.full(trees, 0xFFFF, np.uint16)
    if n:
        for place in range(len(user)):
            strike(same, user[place], features[user[place], 0], thresholds, first, masks)
    scores, leaves = np.empty(n, np.float32), np.empty((n, trees), np.uint8)
    left = np.empty(trees, np.uint16)
    for k in range(n):
        had = features[last, k] == features[last, k]
        before = of_items[item[k]]
        for tree in range(trees):
            left[tree] = before[tree] & same[tree]
        if had:
            for place in range(len(own)):
                strike(left, own[place], features[own[place], k], thresholds, first, masks)
        else:
            for tree in range(trees):
                left[tree] &= absent[tree]
        for place in range(len(asked)):
            strike(left, asked[place], features[asked[place], k], thresholds, first, masks)
        total = 0.0
        for tree in range(trees):
            bits = np.int64(left[tree])
            leaf = start[tree] + PLACE[(((bits & -bits) * SEQUENCE) & 0xFFFF) >> 12]
            total += values[leaf]
            leaves[k, tree] = number[leaf]
        scores[k] = total
    return scores, leaves


@compiled()
def sums_of(table, start, reached):
    """(n, owners): for each row of `reached` (n, trees) the sum of the rows start[tree] + reached[tree] of `table`."""
    n, owners = len(reached), table.shape[1]
    found = np.zeros((n, owners))
    for k in range(n):
        row = found[k]
        for tree in range(len(start)):
            more = table[start[tree] + reached[k, tree]]
            for owner in range(owners):
                row[owner] += more[owner]
    return found


def warm() -> None:
    """Compiles what is not compiled yet on this machine, ten seconds once, for arrays of the kinds that a bundle and a request have."""
    whole, single, double = (np.zeros(2, kind) for kind in (np.int32, np.float32, np.float64))
    long, rows, doubles = np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.zeros((2, 2))
    masks, some = np.full((4, 2), 0xFFFF, np.uint16), np.zeros(2, bool)
    add_rows(whole, single, np.zeros(3, np.int32), whole, single, single.copy())
    parts_of(0, whole, single, np.zeros(3, np.int32), whole, single)
    add_rows(
        whole, single, np.zeros(3, np.int64), long, single, single.copy()
    )  # as items that came make them
    parts_of(0, whole, single, np.zeros(3, np.int64), long, single)
    standardise(rows)
    mark_best(rows, whole[:1], 1, True, some)
    blend(rows, single, single, np.float32(0), whole[:1])
    pair = past(whole[:1], single[:1], whole, some, double, np.zeros((3, 2)))
    person, things, out = np.zeros(8), rows.copy(), np.zeros((len(long) + 21, 2), np.float32)
    describe(long, rows, long, whole[:1], pair, person, things, double, 0.0, out)
    none, first = long[:0], np.zeros(2, np.int64)
    numbers = np.zeros(2, np.uint8)
    reached(long, rows, masks, masks[0], none, none, none, 0, double, first, masks, double, numbers, long)
    sums_of(doubles, long, np.zeros((1, 2), np.uint8))


if __name__ == "__main__":
    warm()
