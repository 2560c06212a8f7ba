"""What the ranker reads of one user's candidates: engine.ranking's features, in the order of its `names_of`."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled
from engine.ranking import HALF_LIVES, PAIR, USER

DAYS = np.array(HALF_LIVES)
KNOWN = len(PAIR) - 1  # of a pair's features, those that need no others
FIRST_SUM = KNOWN - len(HALF_LIVES)


@compiled()
def past(place, positive, weight, age, days):
    """(KNOWN, items) float64: what a user did with each of the items that they had; of the others it means nothing.

    place: (events,) of the event's item. days: (items,) on how many different ones there was a positive event.
    """
    found = np.zeros((KNOWN, len(days)))
    for k in range(len(days)):
        found[0, k], found[1, k] = days[k], np.inf
    before, left = -1.0, np.ones(len(DAYS))
    for event in range(len(place)):
        k = place[event]
        if age[event] != before:  # what is bought together is of one age
            before = age[event]
            for half_life in range(len(DAYS)):
                left[half_life] = 0.5 ** (before / DAYS[half_life])
        if positive[event]:
            found[1, k] = min(found[1, k], before)
            found[2, k] = max(found[2, k], before)
        for half_life in range(len(DAYS)):
            found[FIRST_SUM + half_life, k] += weight[event] * left[half_life]
    for k in range(len(days)):
        gap = (found[2, k] - found[1, k]) / (days[k] - 1.0) if days[k] > 1 else np.nan
        found[3, k] = gap
        found[4, k] = found[1, k] / gap if gap > 0 else np.nan
    return found


@compiled()
def person(positive, age, order_days, items):
    """(USER,) float64 as `ranking._people` has them. order_days: different days of positive events. items: different ones had."""
    lines, newest, oldest = 0.0, np.inf, 0.0
    for event in range(len(age)):
        lines += positive[event]
        newest, oldest = min(newest, age[event]), max(oldest, age[event])
    found = np.empty(len(USER))
    found[0], found[1], found[2], found[3] = len(age), order_days, newest, oldest
    found[4] = (oldest - newest) / max(order_days - 1, 1.0)
    found[5], found[6], found[7] = items, 1 - items / max(lines, 1.0), lines / max(order_days, 1.0)
    return found


@compiled()
def describe(item, rows, source, items, pair, user, things, price, usual, out):
    """Fills `out` (features, n) float32 for candidates `item` (n,) of one user, ascending.

    rows: (m, n_items) scores, of which the features read `source`, -1 for none. items: (had,) rows, ascending, that the user has events
    of, and pair: (KNOWN, had) of each. user: (USER,); things: (n_items, ITEM) and price: (n_items,) as engine.ranking.Things; usual:
    the user's price.
    """
    sources, order_days, since_order, here = len(source), user[1], user[2], 0
    for k in range(len(item)):
        for place in range(sources):
            out[place, k] = rows[source[place], item[k]] if source[place] >= 0 else np.nan
        while here < len(items) and items[here] < item[k]:
            here += 1
        had, at = here < len(items) and items[here] == item[k] and pair[0, here] > 0, sources
        for place in range(KNOWN):
            absent = np.nan if 1 <= place <= 4 else 0.0
            out[at + place, k] = pair[place, here] if had else absent
        at += KNOWN
        out[at, k] = (pair[0, here] if had else 0.0) / max(order_days, 1.0)
        at += 1
        for place in range(len(user)):
            out[at + place, k] = user[place]
        at += len(user)
        for place in range(things.shape[1]):
            out[at + place, k] = things[item[k], place]
        at += things.shape[1]
        out[at, k] = (pair[1, here] if had else np.nan) - since_order
        out[at + 1, k] = price[item[k]] - usual
