"""Where the two-tower starts (`training.tower_start`): by default at the truncated SVD of who bought what.

It takes seconds, and training refines it. The main directions of R = D_u^-1/2 (users x items) D_i^-2/5, as in graph filters (GF-CF, Shen et al. 2021): a query is its
history's directions, a candidate its own. The towers are linear where they start, so both fit in as they are.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from engine.sources.graph import degrees, directions, power, scaled
from training.two_tower import TwoTower, tf
from training.vocabulary import Pairs

USER, ITEM = -0.5, -0.4  # exponents of the degrees
BLANK = 0.05  # standard deviation of the numbers of an id, started from nothing
LENGTH = (
    0.5  # exponent of an item's length: 1 is the SVD's own order, whose long ones drown the rest in a softmax
)
ROUNDS = 3  # of subspace iteration


def start(model: TwoTower, people: np.ndarray, pairs: Pairs) -> None:
    """Fills both tables of items, before any training. people: (queries,) whose each query of `pairs` is, from 0 on.

    Items that nobody bought keep zeros: their words and categories speak for them.
    """
    if model.settings.tower_start == "nothing":
        random, sold = np.random.default_rng(model.settings.seed), np.unique(pairs.item)
        for table in (model.item_table, model.history_table):
            _fill(table, sold, random.normal(0.0, BLANK, (len(sold), model.settings.dimension)))
        return
    sold, candidates, history = svd(people, pairs, model.settings.dimension, model.settings.seed)
    _fill(model.item_table, sold, candidates)
    _fill(model.history_table, sold, history)
    for table in (model.word_table, model.category_table):  # at zero, too: nothing is to blur this start
        table.assign(np.zeros(table.shape, np.float32))


def svd(people: np.ndarray, pairs: Pairs, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) rows of the items that were bought, and (n, size) each as a candidate and in a history.

    A smaller matrix than `size` has fewer directions: the rest is zeros. Memory: 16 * size bytes a person and an item.
    """
    persons, person = np.unique(people[pairs.query], return_inverse=True)
    sold, item = np.unique(pairs.item, return_inverse=True)
    bought = sparse.csr_array(
        (np.ones(len(pairs), np.float32), (person, item)), shape=(len(persons), len(sold))
    )
    bought.sum_duplicates()
    bought.data[:] = 1.0
    users, items = degrees(bought)
    damped = scaled(bought, power(users, USER), power(items, ITEM))
    found = directions(damped, min(size, *bought.shape), seed, ROUNDS)
    strength = np.linalg.norm(damped @ found, axis=0)
    length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    candidates = found / length * (length / length.mean()) ** LENGTH
    history = found * strength * power(items, ITEM)[:, None]
    history /= max(float(np.linalg.norm(history, axis=1).mean()), 1e-12)
    missing = ((0, 0), (0, size - found.shape[1]))
    return sold, np.pad(candidates, missing), np.pad(history, missing)


def _fill(table: tf.Variable, rows: np.ndarray, values: np.ndarray) -> None:
    filled = np.zeros(table.shape, np.float32)
    filled[rows] = values
    table.assign(filled)
