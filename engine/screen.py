"""The loops of `engine.top_products` as machine code: cheap products say which items may be among a user's best, exact ones which are.

Items go by place, longest vector first; a user's best lie in a heap whose worst is first, and among equal products the later row is
the worse. They run for milliseconds in jobs, and let go of the interpreter's lock.
"""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled
from engine.vnni import BLOCK, TILE, lowest, reach

GROUP = 4 * BLOCK  # items that share a scale, and a length that none of them goes beyond
FEWEST, MOST = -(2**31), 2**31 - 1
BITS = np.uint64(64)


@compiled("reassoc", "contract", "nsz", nogil=True)
def _product(users, user, vectors, item):
    total = 0.0
    for column in range(users.shape[1]):
        total += np.float64(users[user, column]) * np.float64(vectors[item, column])
    return total


@compiled(nogil=True)
def _worse(value, row, other, another):
    return value < other or (value == other and row > another)


@compiled(nogil=True)
def _offer(user, item, users, vectors, values, rows):
    """Puts an item among a user's best in place of the worst, where it is better; whether it was."""
    value = _product(users, user, vectors, item)
    if _worse(value, item, values[user, 0], rows[user, 0]):
        return False
    at, size = 0, values.shape[1]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _worse(
            values[user, child + 1], rows[user, child + 1], values[user, child], rows[user, child]
        ):
            child += 1
        if not _worse(values[user, child], rows[user, child], value, item):
            break
        values[user, at], rows[user, at] = values[user, child], rows[user, child]
        at = child
    values[user, at], rows[user, at] = value, item
    return True


@compiled(nogil=True)
def marked(indptr, indices, place):
    """(users, blocks) uint64: a bit for each item that is left out. indptr, indices: CSR. place: (n_items,) of each row."""
    found = np.zeros((len(indptr) - 1, (len(place) + BLOCK - 1) // BLOCK), np.uint64)
    for user in range(len(found)):
        for at in range(indptr[user], indptr[user + 1]):
            where = np.uint64(place[indices[at]])
            found[user, where // BITS] |= np.uint64(1) << where % BITS
    return found


@compiled(nogil=True)
def first_rows(user, place, out, values, rows):
    """For a user of no length, with whom all products are 0: the first rows that are not left `out`."""
    k = 0
    for item in range(len(place)):
        where = np.uint64(place[item])
        if k < rows.shape[1] and not (out[user, where // BITS] >> where % BITS) & np.uint64(1):
            values[user, k], rows[user, k] = 0.0, item
            k += 1


@compiled(nogil=True)
def _least(worst, user, group):
    """The least product of bytes of an item whose product with the user may be `worst`.

    user: scale, error, length and 128 times the sum of its bytes; group: scale, error, length. With u' and v' as the bytes have them,
    |u v - u' v'| = |(u - u') v + u' (v - v')| <= |u - u'| |v| + |u'| |v - v'|. One less covers all that is rounded on the way.
    """
    off = user[1] * group[2] + (user[2] + user[1]) * group[1]
    found = np.floor((worst - off) / (user[0] * group[0]) + user[3]) - 1.0
    return np.int32(min(max(found, FEWEST), MOST))


@compiled(nogil=True)
def by_bytes(left, codes, groups, order, vectors, users, coded, people, out, values, rows):
    """Fills the heaps `values` and `rows` (users, k) of the users in `left`, which is overwritten.

    codes: see vnni.reach. groups: (., 3), people: (users, 4): see `_least`. order: the row of each place. coded: (users, .) int8.
    """
    quads, blocks, count = coded.shape[1] // 4, (len(order) + BLOCK - 1) // BLOCK, len(left)
    asked, least, found = np.zeros(TILE, np.int64), np.zeros(TILE, np.int32), np.zeros(TILE, np.uint64)
    for group in range(len(groups)):
        kept = 0
        for at in range(count):
            if people[left[at], 2] * groups[group, 2] >= values[left[at], 0]:
                left[kept] = left[at]
                kept += 1
        count = kept
        for start in range(0, count, TILE):
            some = min(TILE, count - start)
            for each in range(TILE):  # the last tile asks again for its last user
                asked[each] = left[start + min(each, some - 1)]
                least[each] = _least(values[asked[each], 0], people[asked[each]], groups[group])
            for block in range(group * (GROUP // BLOCK), min((group + 1) * (GROUP // BLOCK), blocks)):
                reach(codes, block, coded, asked, quads, least, found)  # type: ignore[call-arg]
                for each in range(some):
                    user, bits, better = asked[each], found[each], False
                    if bits:
                        bits &= ~out[user, block]
                    while bits:
                        place = block * BLOCK + lowest(bits)
                        bits &= bits - np.uint64(1)
                        if place < len(order):
                            better |= _offer(user, order[place], users, vectors, values, rows)
                    if better:
                        least[each] = _least(values[user, 0], people[user], groups[group])


@compiled(nogil=True)
def by_floats(left, first, products, slack, order, vectors, users, out, values, rows):
    """As `by_bytes`, from (len(left), m) float32 products with the items from place `first` on, each wrong by `slack` at most."""
    for at in range(len(left)):
        user = left[at]
        edge = values[user, 0] - slack[at]
        for column in range(products.shape[1]):
            where = np.uint64(first + column)
            if -np.inf < products[at, column] < edge or (
                out[user, where // BITS] >> where % BITS
            ) & np.uint64(1):
                continue
            if _offer(user, order[first + column], users, vectors, values, rows):
                edge = values[user, 0] - slack[at]
