"""Loops over one user's history and candidates as machine code (numba): what a request would spend on a hundred small array calls.

Each gives the numbers that the batch path gives, in the same order of sums but for `standardise`.
Compiled once on a machine, and kept beside its file, else in the user's cache; see docs/adr/0010.
"""

from __future__ import annotations

import numpy as np

from engine.compiled.best import keys_of_best, mark_best, span
from engine.compiled.features import describe, past, person
from engine.compiled.history import counting, different_days, net, places, taste
from engine.compiled.how import compiled
from engine.compiled.reasons import loudest, split, strongest
from engine.compiled.rows import blend, lift, speak_for, standardise, sum_rows
from engine.compiled.search import place_of
from engine.compiled.trees import reached
from engine.compiled.written import objects

__all__ = [
    "blend",
    "compiled",
    "counting",
    "describe",
    "different_days",
    "keys_of_best",
    "lift",
    "loudest",
    "mark_best",
    "net",
    "objects",
    "past",
    "person",
    "place_of",
    "places",
    "reached",
    "span",
    "speak_for",
    "split",
    "standardise",
    "strongest",
    "sum_rows",
    "taste",
    "warm",
]


def warm() -> None:
    """Compiles what is not compiled yet on this machine, ten seconds once, for arrays of the kinds that a bundle and a request have."""
    whole, single, double = (np.zeros(2, kind) for kind in (np.int32, np.float32, np.float64))
    long, rows, doubles = np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.zeros((2, 2))
    some, three = np.zeros(2, bool), np.zeros(3, np.int64)
    for indptr, indices in (
        (three.astype(np.int32), whole),
        (three, long),
    ):  # the second as items that came make them
        sum_rows(whole, single, indptr, indices, single, single.copy())
        strongest(long, whole, single, indptr, indices, single)
    counting(whole, single, double, 0.0)
    items, place = places(whole)
    days = different_days(place, long, some, len(items))
    taste(items, net(place, single, double, 30.0, len(items)))
    speak_for(rows, some, long, three, whole, single)
    standardise(rows)
    mark_best(rows, items, 1, some)
    keys_of_best(single, some, 1)
    span(single, 1)
    blend(rows, single, single, np.float32(0), items)
    lift(single.copy(), long, single)
    pair = past(place, some, single, double, days)
    features = np.zeros((len(long) + 21, 2), np.float32)
    user = person(some, double, 0.0, 0.0)
    describe(long, rows, long, items, pair, user, rows, double, 0.0, features)
    masks, none, numbers = (
        np.full((4, 1), 0xFFFFFFFFFFFFFFFF, np.uint64),
        long[:0],
        np.zeros((2, 16), np.uint8),
    )
    reached(
        long, features, masks, masks[0], none, none, 0, 0, double, long, masks, np.zeros((2, 16)), numbers
    )
    for kind in (np.uint8, np.uint16):  # as our masks and as LightGBM's own walk number leaves
        split(long, long, np.zeros((2, 2), kind), long, rows, doubles)
    loudest(doubles, long, long, np.zeros((2, 2), np.int64))
    objects(doubles, 4, np.zeros(2, np.uint8), long, np.zeros(99, np.uint8))
