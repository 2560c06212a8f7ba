"""The largest values of rows: above a bound from the maxima of groups, where a partition of a row would take ten times as long."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled

EACH = 32  # columns of a group: few, so that the maxima's bound is a sharp one
AT_ONCE = 512  # values whose largest are kept side by side
INFINITE = np.float32(np.inf)


@compiled()
def _raise(most, values):
    """Raises `most` to `values`, place by place: what a machine does with sixteen numbers at once, and not with one row's largest."""
    for place in range(len(values)):
        most[place] = values[place] if values[place] > most[place] else most[place]


@compiled()
def largest(values):
    """The largest of (n,) float32 without NaN; -inf of nothing."""
    side_by_side, found = np.full(AT_ONCE, -INFINITE), -INFINITE
    for start in range(0, len(values), AT_ONCE):
        _raise(side_by_side, values[start : start + AT_ONCE])
    for value in side_by_side:
        found = max(found, value)
    return found


@compiled()
def _groups(n):
    """How many groups a row of n columns has: of g, the columns group, group + g, group + 2 g, … are together."""
    return (n + EACH - 1) // EACH


@compiled()
def _bound(row, depth, maxima):
    """What the `depth` largest of a row (n,) without NaN do not lie below, and few others lie above. Fills `maxima` (groups,)."""
    groups = len(maxima)
    maxima[:] = -INFINITE
    for start in range(0, len(row), groups):
        _raise(maxima, row[start : start + groups])
    return np.partition(maxima, groups - depth)[groups - depth] if groups > depth else -INFINITE


@compiled()
def _those(maxima, least, found):
    """Writes the groups that have a value of `least` or more to `found`; how many."""
    size = 0
    for group in range(len(maxima)):
        found[size] = group
        size += maxima[group] >= least
    return size


@compiled()
def _mark(row, depth, maxima, among, some, chosen):
    """Marks the `depth` largest of a row, ties by column. maxima, among (n + 1,), some (groups + 1,): scratch."""
    n, groups, size, least = len(row), len(maxima), 0, _bound(row, depth, maxima)
    here = some[: _those(maxima, np.nextafter(least, INFINITE), some)]
    for start in range(0, n, groups):
        for group in here:
            if start + group < n:
                among[size] = start + group
                size += row[start + group] > least
    edge = np.partition(row[among[:size]], size - depth)[size - depth] if size > depth else least
    left = depth
    for place in range(size):
        if row[among[place]] > edge:
            chosen[among[place]] = True
            left -= 1
    if edge == -INFINITE:
        return
    here = some[: _those(maxima, edge, some)]
    for start in range(0, n, groups):  # of those at the edge, often half the catalogue, the first ones
        if not left:
            break
        for group in here:
            if left and start + group < n and row[start + group] == edge:
                chosen[start + group] = True
                left -= 1


@compiled()
def mark_best(rows, owned, depth, chosen):
    """Marks in `chosen` (n,) the `depth` largest of each of `rows` (m, n) float32 that are not `owned`; ties by column; what is -inf
    is none."""
    n = rows.shape[1]
    maxima, kept = np.empty(_groups(n), np.float32), np.empty(len(owned), np.float32)
    among, some = np.empty(n + 1, np.int64), np.empty(_groups(n) + 1, np.int64)
    for k in range(len(rows)):
        row = rows[k]
        for place in range(len(owned)):
            kept[place] = row[owned[place]]
            row[owned[place]] = -INFINITE
        _mark(row, depth, maxima, among, some, chosen)
        for place in range(len(owned)):
            row[owned[place]] = kept[place]


@compiled()
def _from(row, least, maxima, found):
    """Writes the columns of `row` (n,) with `least` or more, and no -inf, to `found` (n + 1,) int64; how many. maxima: of its groups."""
    n, groups, size = len(row), len(maxima), 0
    some = np.empty(groups + 1, np.int64)
    here = some[: _those(maxima, least, some)]
    for start in range(0, n, groups):
        for group in here:
            if start + group < n:
                found[size] = start + group
                size += (row[start + group] >= least) & (row[start + group] > -INFINITE)
    return size


@compiled()
def keys_of_best(scores, allowed, depth):
    """(m,) uint64, in no order: at least the `depth` largest finite of the allowed `scores` (n,) float32, where there are as many.

    The least key is of the largest score, ties by column, which is a key's lower half. allowed: (n,) bool.
    """
    n = len(scores)
    row, columns = np.empty(n, np.float32), np.empty(n + 1, np.int64)
    if not n or depth < 1:
        return columns[:0].view(np.uint64)
    for column in range(n):
        some = allowed[column] & (abs(scores[column]) < INFINITE)  # NaN is not
        row[column] = scores[column] if some else -INFINITE
    maxima = np.empty(_groups(n), np.float32)
    least = _bound(row, depth, maxima)
    keys = columns[: _from(row, least, maxima, columns)].view(np.uint64)
    bits = row.view(np.uint32)
    for place in range(len(keys)):
        at = np.int64(keys[place])
        magnitude = np.int64(bits[at]) & 0x7FFFFFFF
        # -0 and 0 are one value.
        falling = 0x7FFFFFFF + magnitude if row[at] < 0 else 0x7FFFFFFF - magnitude
        keys[place] |= np.uint64(falling) << np.uint64(32)
    return keys


@compiled()
def span(scores, depth):
    """What lies between the largest and the `depth`-th largest finite of `scores` (n,) float32, or the least where there are fewer."""
    n = len(scores)
    row, columns = np.empty(n, np.float32), np.empty(n + 1, np.int64)
    if not n:
        return np.float32(0.0)
    for column in range(n):
        row[column] = scores[column] if abs(scores[column]) < INFINITE else -INFINITE
    maxima = np.empty(_groups(n), np.float32)
    least = _bound(row, depth, maxima)
    some = row[columns[: _from(row, least, maxima, columns)]]
    if not len(some):
        return np.float32(0.0)
    place = max(len(some) - depth, 0)
    return largest(some) - np.partition(some, place)[place]
