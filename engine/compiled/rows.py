"""Rows of scores, one a source: sums of sparse rows, standard scores, and their blend."""

from __future__ import annotations

import numpy as np

from engine.blend import TIED
from engine.compiled.best import largest
from engine.compiled.how import compiled

SUMMED = 1024  # values that are added up in single precision, before the next sum


@compiled()
def sum_rows(rows, by, indptr, indices, data, out):
    """Writes the sum over k of by[k] times the sparse row rows[k], in this order, to `out` (n_items,) float32."""
    out[:] = 0
    for k in range(len(rows)):
        times = by[k]
        for place in range(np.uint64(indptr[rows[k]]), np.uint64(indptr[rows[k] + 1])):
            # Unsigned, since a number below zero would count from the end, and who looks for one takes half as long again.
            out[np.uint64(indices[place])] += times * data[place]


@compiled()
def speak_for(rows, which, items, indptr, indices, data):
    """Writes to columns `items` (c,) of the chosen of `rows` (m, n) the sums of the columns that the sparse rows (c, n) weigh."""
    for k in range(len(rows)):
        if which[k]:
            row = rows[k]
            for cold in range(len(items)):
                total = np.float32(0.0)
                for place in range(indptr[cold], indptr[cold + 1]):
                    total += data[place] * row[indices[place]]
                row[items[cold]] = total


@compiled("reassoc", "nsz")
def _sum(values):
    total = np.float32(0.0)
    for value in range(len(values)):
        total += values[value]
    return total


@compiled("reassoc", "nsz")
def _squares(values, mean):
    """The sum of squares of what is left of values when a mean is taken off."""
    total = np.float32(0.0)
    for place in range(len(values)):
        apart = values[place] - mean
        total += apart * apart
    return total


@compiled()
def _moments(row):
    """Mean and spread of (n,) float32, read once: blocks' own, put together as Chan, Golub and LeVeque (1979) do."""
    seen, mean, squares = 0, 0.0, 0.0
    for start in range(0, len(row), SUMMED):
        block = row[start : start + SUMMED]
        here = _sum(block) / len(block)
        apart = here - mean
        squares += _squares(block, np.float32(here)) + apart * apart * (
            seen * len(block) / (seen + len(block))
        )
        seen += len(block)
        mean += apart * (len(block) / seen)
    return np.float32(mean), np.float32(np.sqrt(squares / max(seen, 1)))


@compiled()
def standardise(rows):
    """`blend.standardise` of (m, n) float32 rows in place, by sums of blocks; whether all of them were finite."""
    for k in range(len(rows)):
        row = rows[k]
        mean, spread = _moments(row)
        if not np.isfinite(spread):
            return False
        some = spread > max(TIED * abs(mean), np.float32(1e-12))
        scale = np.float32(1.0) / spread if some else np.float32(0.0)
        for column in range(len(row)):
            row[column] = (row[column] - mean) * scale
    return True


@compiled()
def blend(rows, again, new, offset, owned):
    """(n,) float32: the sum of `rows` (m, n) times `new` (m,), where `owned` has no row, else `offset` and `again`'s sum."""
    n = rows.shape[1]
    found, had = np.zeros(n, np.float32), np.full(len(owned), offset)
    for start in range(0, n, SUMMED):
        some = found[start : start + SUMMED]
        for source in range(len(rows)):
            if new[source]:
                row, by = rows[source, start : start + SUMMED], new[source]
                for column in range(len(some)):
                    some[column] += by * row[column]
    for source in range(len(rows)):
        if again[source]:
            for place in range(len(owned)):
                had[place] += again[source] * rows[source, owned[place]]
    for place in range(len(owned)):
        found[owned[place]] = had[place]
    return found


@compiled()
def lift(scores, item, ranked):
    """Writes `ranked` (n,) to the places `item` of `scores` (n_items,) float32, and moves all others below."""
    least = np.float32(np.inf)
    for value in ranked:
        least = min(least, value)
    down = largest(scores) - least + np.float32(1.0)
    for column in range(len(scores)):
        scores[column] -= down
    for k in range(len(item)):
        scores[item[k]] = ranked[k]
