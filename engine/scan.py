"""The scan of `engine.index` as machine code. See engine.compiled for why."""

from __future__ import annotations

import numpy as np

from engine.compiled import compiled


@compiled()
def _sink(values, places, size):
    """Restores a heap whose smallest value is first, after its first was changed."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and values[child + 1] < values[child]:
            child += 1
        if values[child] >= values[at]:
            return
        values[at], values[child] = values[child], values[at]
        places[at], places[child] = places[child], places[at]
        at = child


@compiled("reassoc", "contract", "nsz")
def largest(first, second, length, rest, order, allowed, query, k):
    """(k,) rows, -1 where there are fewer, and their float32 products with a query, in no order.

    first, second: (n, .) halves of the vectors, longest vector first. length: (n,) of whole vectors. rest: (n,) of second halves.
    order: (n,) the row of each. allowed: by row, those that are looked at; all of them where it is empty. query: turned as they are.
    """
    width = first.shape[1]
    head, tail = query[:width], query[width:]
    left = np.float32(0.0)
    for column in range(len(tail)):
        left += tail[column] * tail[column]
    whole = left
    for column in range(len(head)):
        whole += head[column] * head[column]
    whole, left = np.sqrt(whole), np.sqrt(left)
    values, rows = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
    least, some = np.float32(-np.inf), len(allowed) > 0
    for place in range(len(length)):
        if length[place] * whole <= least:
            break
        if some and not allowed[order[place]]:
            continue
        product = np.float32(0.0)
        for column in range(len(head)):
            product += first[place, column] * head[column]
        if product + rest[place] * left <= least:
            continue
        for column in range(len(tail)):
            product += second[place, column] * tail[column]
        if product > least:
            values[0], rows[0] = product, order[place]
            _sink(values, rows, k)
            least = values[0]
    return rows, values
