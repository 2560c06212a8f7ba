"""Loops of fitting as machine code (numba): products of sparse matrices of which only each row's strongest values are kept, and the
least squares of sparse rows. A library's product stores every value first, and on a large catalogue most items share a word.
"""

# The places of a loop are counted by numbers that mean rows, columns and values of the arrays' own index types.
from __future__ import annotations

import numpy as np

from engine.compiled import compiled

LEAST = np.float32(1e-12)  # smaller in absolute value is nothing
DENSE = (
    4  # products for every fourth column make it cheaper to look at all columns than to note which were met
)


@compiled(nogil=True)
def _sink(heap, place, size):
    """Moves heap[place] down among the `size` values below which none of it lies."""
    value = heap[place]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


@compiled(nogil=True)
def _bound(values, columns, heap):
    """The len(heap)-th largest absolute value of the given columns; LEAST where there are fewer above it."""
    size = 0
    for column in columns:
        value = abs(values[column])
        if value < LEAST:
            continue
        if size < len(heap):
            heap[size] = value
            size += 1
            if size == len(heap):
                for place in range(size // 2 - 1, -1, -1):
                    _sink(heap, place, size)
        elif value > heap[0]:
            heap[0] = value
            _sink(heap, 0, size)
    return heap[0] if size == len(heap) else LEAST


@compiled(nogil=True)
def _kept(values, columns, heap, indices, data):
    """Writes the strongest of `values` (width,), ties at the edge while all of them fit; returns how many."""
    least, count = _bound(values, columns, heap), 0
    for column in columns:
        if abs(values[column]) >= least:
            if count == len(indices):
                count = -1
                break
            indices[count], data[count] = column, values[column]
            count += 1
    if count >= 0:
        return count
    ties, count = len(heap), 0
    for value in heap:
        ties -= value > least
    for column in columns:
        value = abs(values[column])
        if value > least or (value == least and ties > 0):
            ties -= value == least
            indices[count], data[count] = column, values[column]
            count += 1
    return count


@compiled(nogil=True)
def strongest(first, last, left, right, below, beside, plus, most, indices, data):
    """Rows [first, last) of left @ right without its diagonal, each value over below[row] * beside[column] + plus.

    left, right: CSR as (indptr, indices, data), float32. The `most` largest absolute values of a row are written to `indices`
    and `data` (last - first, width), in order of columns; ties at the edge as well while the width holds them.
    Returns (last - first,) int64: how many of each row.
    """
    starts, words, weights = left
    begins, columns, values = right
    total, met = np.zeros(len(beside), np.float32), np.zeros(len(beside), np.bool_)
    heap, counts = np.empty(most, np.float32), np.zeros(last - first, np.int64)
    every, some = np.arange(len(beside)), np.empty(len(beside), np.int64)
    for row in range(first, last):
        products = 0
        for place in range(starts[row], starts[row + 1]):
            products += begins[words[place] + 1] - begins[words[place]]
        noted, n = products * DENSE < len(beside), 0
        for place in range(starts[row], starts[row + 1]):
            by = weights[place]
            for other in range(begins[words[place]], begins[words[place] + 1]):
                column = columns[other]
                total[column] += by * values[other]
                if noted and not met[column]:
                    met[column] = True
                    some[n] = column
                    n += 1
        if noted:
            some[:n].sort()
        among = some[:n] if noted else every
        for column in among:
            over = below[row] * beside[column] + plus
            total[column] = total[column] / over if over > 0 and column != row else np.float32(0.0)
        counts[row - first] = _kept(total, among, heap, indices[row - first], data[row - first])
        for column in among:
            total[column], met[column] = np.float32(0.0), False
    return counts


@compiled("reassoc", "nsz", "contract", nogil=True)
def pulled(rows, others, indptr, indices, data, wanted):
    """(n, factors) float32: of each row the sum over its items of data * (wanted - rows[row] @ others[item]) * others[item].

    rows: (n, factors) float32; the other arrays CSR, (n, len(others)).
    """
    found = np.zeros_like(rows)
    for row in range(len(rows)):
        for place in range(indptr[row], indptr[row + 1]):
            other, product = others[indices[place]], np.float32(0.0)
            for factor in range(len(other)):
                product += rows[row, factor] * other[factor]
            product = data[place] * (wanted - product)
            for factor in range(len(other)):
                found[row, factor] += product * other[factor]
    return found


def make() -> None:
    """Compiles what fitting asks for, and keeps it: `make setup` does, so that the first fit need not wait some seconds for it."""
    ends, places, one = np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32)
    side = ends, places, one
    found = np.zeros((1, 2), np.int32), np.zeros((1, 2), np.float32)
    strongest(0, 1, side, side, one, one, np.float32(0.0), 1, *found)
    pulled(one[:, None], one[:, None], *side, np.float32(0.0))
