"""What a list's reasons go by: what adds up to each score, whose part is largest, and which item of the history speaks for an item."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled
from engine.compiled.search import place_of


@compiled()
def split(item, among, reached, start, table, out):
    """Fills `out` (n, p) float64 for each of `item` (n,) that is `among` (m,), ascending; (n,) bool: whether it was.

    reached: (m, trees) leaves of those among. Adds up the rows start[tree] + leaf of `table` (leaves, p) float32.
    """
    found, rows = np.zeros(len(item), np.bool_), np.empty(len(item), np.int64)
    total = np.zeros((len(item), table.shape[1]), np.float32)
    for k in range(len(item)):
        rows[k] = place_of(item[k], among, 0, len(among))
        found[k] = rows[k] >= 0
    for tree in range(len(start)):  # outside, so that the table is read once from its start to its end
        for k in range(len(item)):
            if found[k]:
                more = start[tree] + reached[rows[k], tree]
                for owner in range(table.shape[1]):
                    total[k, owner] += table[more, owner]
    out[:, : table.shape[1]] = total
    return found


@compiled()
def loudest(parts, source, owner, order):
    """Fills `order` (n, s) int64 with the sources' numbers, the one with the largest part first; -1 after those that have none.

    parts: (n, p), 0 where there is none. source: (s,) column of each source's own part; owner: (p,) number of the source that
    another part is counted to, where that source has one of its own; -1 for none. Ties by number.
    """
    sizes = np.empty(len(source))
    for k in range(len(parts)):
        for number in range(len(source)):
            sizes[number], order[k, number] = parts[k, source[number]], -1
        for column in range(len(owner)):
            if owner[column] >= 0:
                sizes[owner[column]] += parts[k, column]
        here = 0
        for number in range(len(source)):
            if parts[k, source[number]] == 0.0:
                continue
            place = here
            while place and sizes[order[k, place - 1]] < sizes[number]:
                order[k, place] = order[k, place - 1]
                place -= 1
            order[k, place] = number
            here += 1


@compiled()
def _heard(place, part, best, most, total):
    """The place of the largest part so far, that part, and the sum of all above zero, with one more part."""
    if part > 0:
        total += part
    return (place, part, total) if part > most else (best, most, total)


@compiled()
def strongest(item, rows, by, indptr, indices, data):
    """Of each of `item` (n,): the place in `rows` whose sparse row, times its `by`, adds most to it, -1 where none adds, and its share
    of all that adds. indices: ascending in a row."""
    places, shares = np.empty(len(item), np.int64), np.zeros(len(item))
    for k in range(len(item)):
        best, most, total = -1, np.float32(0.0), 0.0
        for place in range(len(rows)):
            at = place_of(item[k], indices, indptr[rows[place]], indptr[rows[place] + 1])
            part = by[place] * data[at] if at >= 0 else np.float32(0.0)
            best, most, total = _heard(place, part, best, most, total)
        places[k], shares[k] = best, most / max(total, 1e-30)
    return places, shares
