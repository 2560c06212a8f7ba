"""Sums over one user's events. item: (n,) int32 rows; weight: (n,) float32; age: (n,) float64 days; day: (n,) int64."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled
from engine.state import DAY

LOW = 0xFFFFFFFF  # the lower half of a key


@compiled()
def places(item):
    """(m,) int32 different items, ascending, and (n,) int64 the place of each event's item among them."""
    keys = np.empty(len(item), np.int64)
    for event in range(len(item)):
        keys[event] = (np.int64(item[event]) << 32) | event
    keys.sort()
    items, place, size = np.empty(len(item), np.int32), np.empty(len(item), np.int64), 0
    for key in keys:
        row = np.int32(key >> 32)
        if not size or items[size - 1] != row:
            items[size] = row
            size += 1
        place[key & LOW] = size - 1
    return items[:size], place


@compiled()
def different_days(place, day, which, n):
    """(n,) float32: on how many different days each place has an event of `which` (events,) bool."""
    keys, size = np.empty(len(place), np.int64), 0
    for event in range(len(place)):
        if which[event]:
            keys[size] = (place[event] << 32) | (day[event] & LOW)
            size += 1
    keys = keys[:size]
    keys.sort()
    found, before = np.zeros(n, np.float32), np.int64(-1)
    for key in keys:
        found[key >> 32] += key != before
        before = key
    return found


@compiled()
def net(place, weight, age, half_life, n):
    """(n,) float32: the sum of weights at each place, halved every `half_life` days."""
    found, before, left = np.zeros(n), -1.0, 1.0
    for event in range(len(place)):
        if age[event] != before:  # what is bought together is of one age
            before = age[event]
            left = 0.5 ** (before / half_life)
        found[place[event]] += weight[event] * left
    return found.astype(np.float32)


@compiled()
def taste(items, net):
    """indices (m,) int32 and data (m,) float32: log1p of what is above zero of `net` (n,)."""
    indices, data, size = np.empty(len(items), np.int32), np.empty(len(items), np.float32), 0
    for place in range(len(items)):
        if net[place] > 0:
            indices[size], data[size] = items[place], np.log1p(net[place])
            size += 1
    return indices[:size], data[:size]


@compiled()
def counting(item, weight, time, moment):
    """item, weight and age of the events that count: of known items (0 or above), with a weight. time, moment: epoch seconds."""
    items, weights, age, size = (
        np.empty(len(item), np.int32),
        np.empty(len(item), np.float32),
        np.empty(len(item)),
        0,
    )
    for event in range(len(item)):
        if item[event] >= 0 and weight[event] != 0:
            items[size], weights[size] = item[event], weight[event]
            age[size] = max(moment - time[event], 0.0) / DAY
            size += 1
    return items[:size], weights[:size], age[:size]
