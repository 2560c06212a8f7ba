"""The largest values of rows: above a bound from the maxima of blocks, where a partition of a row would take ten times as long."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled

BLOCK = 32  # columns: few, so that the maxima's bound is a sharp one, and a number that the machine compares at once
INFINITE = np.float32(np.inf)


@compiled("nnan", "nsz")
def _of_block(row, start):
    found = row[start]
    for column in range(start + 1, start + BLOCK):
        found = max(found, row[column])
    return found


@compiled("nnan", "nsz")
def largest(values):
    """The largest of (n,) float32 without NaN; -inf of nothing."""
    whole, found = len(values) // BLOCK * BLOCK, np.float32(-np.inf)
    for start in range(0, whole, BLOCK):
        found = max(found, _of_block(values, start))
    for place in range(whole, len(values)):
        found = max(found, values[place])
    return found


@compiled()
def _bound(row, depth, maxima):
    """What the `depth` largest of a row (n,) without NaN do not lie below, and few others lie above. Fills `maxima` (blocks,)."""
    blocks = len(maxima)
    for block in range(blocks - 1):
        maxima[block] = _of_block(row, block * BLOCK)
    maxima[blocks - 1] = largest(row[(blocks - 1) * BLOCK :])
    return np.partition(maxima, blocks - depth)[blocks - depth] if blocks > depth else np.float32(-np.inf)


@compiled()
def _mark(row, depth, maxima, among, chosen):
    """Marks the `depth` largest of a row, ties by column. maxima, among: scratch."""
    n, size, least = len(row), 0, _bound(row, depth, maxima)
    for block in range(len(maxima)):
        if maxima[block] > least:
            for column in range(block * BLOCK, min((block + 1) * BLOCK, n)):
                among[size] = column
                size += row[column] > least
    edge = np.partition(row[among[:size]], size - depth)[size - depth] if size > depth else least
    left = depth
    for place in range(size):
        if row[among[place]] > edge:
            chosen[among[place]] = True
            left -= 1
    if edge == -np.inf:
        return
    for block in range(len(maxima)):  # of those at the edge, often half the catalogue, the first ones
        if not left:
            break
        if maxima[block] >= edge:
            for column in range(block * BLOCK, min((block + 1) * BLOCK, n)):
                if left and row[column] == edge:
                    chosen[column] = True
                    left -= 1


@compiled()
def mark_best(rows, owned, depth, chosen):
    """Marks in `chosen` (n,) the `depth` largest of each of `rows` (m, n) float32 that are not `owned`; ties by column; what is -inf
    is none."""
    n = rows.shape[1]
    maxima = np.empty((n + BLOCK - 1) // BLOCK, np.float32)
    among, kept = np.empty(n + 1, np.int64), np.empty(len(owned), np.float32)
    for k in range(len(rows)):
        row = rows[k]
        for place in range(len(owned)):
            kept[place] = row[owned[place]]
            row[owned[place]] = -np.inf
        _mark(row, depth, maxima, among, chosen)
        for place in range(len(owned)):
            row[owned[place]] = kept[place]


@compiled()
def keys_of_best(scores, allowed, depth):
    """(m,) uint64, in no order: at least the `depth` largest finite of the allowed `scores` (n,) float32, where there are as many.

    The least key is of the largest score, ties by column, which is a key's lower half. allowed: (n,) bool.
    """
    n = len(scores)
    row, keys = np.empty(n, np.float32), np.empty(n + 1, np.uint64)
    if not n or depth < 1:
        return keys[:0]
    for column in range(n):
        some = allowed[column] & (abs(scores[column]) < INFINITE)  # NaN is not
        row[column] = scores[column] if some else -INFINITE
    maxima = np.empty((n + BLOCK - 1) // BLOCK, np.float32)
    least, size = _bound(row, depth, maxima), 0
    for block in range(len(maxima)):
        if maxima[block] >= least:
            for column in range(block * BLOCK, min((block + 1) * BLOCK, n)):
                keys[size] = column
                size += (row[column] >= least) & (row[column] > -np.inf)
    bits = row.view(np.uint32)
    for place in range(size):
        at = np.int64(keys[place])
        magnitude = np.int64(bits[at]) & 0x7FFFFFFF
        # -0 and 0 are one value.
        falling = 0x7FFFFFFF + magnitude if row[at] < 0 else 0x7FFFFFFF - magnitude
        keys[place] |= np.uint64(falling) << np.uint64(32)
    return keys[:size]


@compiled()
def span(scores, depth):
    """What lies between the largest and the `depth`-th largest finite of `scores` (n,) float32, or the least where there are fewer."""
    n, size = len(scores), 0
    row = np.empty(n, np.float32)
    for column in range(n):
        row[column] = scores[column] if abs(scores[column]) < INFINITE else -INFINITE
    maxima = np.empty((n + BLOCK - 1) // BLOCK, np.float32)
    least = _bound(row, depth, maxima)
    for column in range(n):
        if row[column] >= least and row[column] > -INFINITE:
            row[size] = row[column]
            size += 1
    if not size:
        return np.float32(0.0)
    some = row[:size]
    place = max(size - depth, 0)
    return largest(some) - np.partition(some, place)[place]
