"""Chooses a recipe on a window after the one that its sources were fitted to: sources, blend, repeats."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import sparse

from engine.blend import Weights
from engine.choosing import Boards
from engine.interactions import Catalogue, Events
from engine.ranking import DEPTH
from engine.recipe import USUAL, Recipe
from engine.recommender import Recommender
from engine.sources.two_tower import TwoTower
from engine.state import UserState, from_frame
from engine.windows import Window

WORTH = 0.005  # of NDCG that a source beyond the usual ones must bring: it costs time in every answer
FINDS = 0.05  # more of what was bought that a source must bring among the candidates: a ranker orders what a blend cannot
CELLS = 20_000_000  # scores of a source that are held at once while choosing: 80 MB
REPEATS = 0.002  # share of what was bought that its buyer had bought before, below which a shop is one where nobody buys again


def choose(
    window: Window,
    recipe: Recipe,
    max_users: int = 3000,
    k: int = 20,
    select: bool = False,
) -> tuple[Recipe, Recommender]:
    """The recipe that serves best after the window's start, and the recommender fitted before it.

    A seeded sample of `max_users` buyers decides. select: sources beyond the usual ones stay only where they are worth it,
    see WORTH. Raises ValueError where nobody with a history bought.
    """
    trial = _Trial.of(window, recipe, max_users)
    repeat = recipe.repeat if recipe.repeat is not None else trial.share_again() >= REPEATS
    recipe = recipe.model_copy(update={"repeat": repeat})
    looks = not repeat and trial.looks()
    fitted = Recommender.fit(window.items, window.histories, window.at, recipe, window.exports)
    boards = Boards.joined(
        [
            Boards.of(
                fitted.normalised_scores(events),
                events.owned(),
                truth,
                repeat,
                bought=events.bought() if looks else None,
            )
            for events, truth in trial.blocks()
        ]
    )
    names = tuple(fitted.sources)
    names, weights = _selected(boards, names, k) if select else (names, boards.weights(k))
    fitted = fitted.without(set(fitted.sources) - set(names)).with_weights(weights)
    return fitted.recipe.model_copy(update={"cut": None}), fitted


def _selected(boards: Boards, names: tuple[str, ...], k: int) -> tuple[tuple[str, ...], Weights]:
    """The usual sources, and of the others, best first, each that is WORTH it to the blend or FINDS what the ranker may order.

    With them their weights.
    """

    @cache
    def weighed(names: frozenset[str]) -> tuple[Weights, float]:
        left = boards.only(names)
        weights = left.weights(k)
        return weights, left.value(weights, k)

    kept = frozenset(name for name in names if name in (*USUAL, TwoTower.name))
    others = [name for name in names if name not in kept]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        beside = dict(zip(others, cores.map(lambda name: weighed(kept | {name})[1], others), strict=True))
    best, found = (weighed(kept)[1], boards.only(kept).found(DEPTH)) if beside else (0.0, 0.0)
    for name in sorted(beside, key=lambda name: -beside[name]):
        more = kept | {name}
        reached, finds = weighed(more)[1], boards.only(more).found(DEPTH)
        if reached > best * (1 + WORTH) or finds > found * (1 + FINDS):
            kept, best, found = more, max(reached, best), finds
    return tuple(name for name in names if name in kept), weighed(kept)[0]


@dataclass(frozen=True)
class _Trial:
    """A window's sampled buyers, and what they bought."""

    window: Window
    catalogue: Catalogue
    recipe: Recipe
    states: list[UserState]
    truth: sparse.csr_array

    @classmethod
    def of(cls, window: Window, recipe: Recipe, max_users: int) -> _Trial:
        catalogue = Catalogue.of(window.items)
        states = from_frame(window.buyers(max_users, recipe.seed))
        truth = truth_matrix(window.truth, states, catalogue)
        if not truth.nnz:
            raise ValueError(
                f"nobody with a history before {window.at.isoformat()} bought a known item after it: no blend to choose"
            )
        return cls(window, catalogue, recipe, states, truth)

    def blocks(self) -> Iterator[tuple[Events, sparse.csr_array]]:
        """The buyers some at a time, so that the scores of a large catalogue stay small, and what they bought."""
        size = max(1, CELLS // max(len(self.catalogue), 1))
        recipe, at = self.recipe, self.window.at
        for start in range(0, len(self.states), size):
            some = self.states[start : start + size]
            events = Events.of(some, self.catalogue.index, at, recipe.event_weights, recipe.counting)
            yield events, self.truth[start : start + size]

    def share_again(self) -> float:
        """Of what was bought, how much its buyer had bought before; what they had looked at before says nothing of that."""
        again = sum(truth.multiply(events.bought()).sum() for events, truth in self.blocks())
        return float(again / self.truth.sum())

    def looks(self) -> bool:
        """Whether somebody had an item without having bought it."""
        return any(events.owned().nnz > events.bought().nnz for events, _ in self.blocks())


def truth_matrix(truth: pd.DataFrame, states: list[UserState], catalogue: Catalogue) -> sparse.csr_array:
    """(n_states, n_items) float32, 1 where the user bought the item; unknown users and items are left out."""
    users = {state.user_id: row for row, state in enumerate(states)}
    pairs = truth.drop_duplicates(["user_id", "item_id"])
    rows = pairs["user_id"].astype(str).map(users).to_numpy(float)
    columns = pairs["item_id"].astype(str).map(catalogue.index).to_numpy(float)
    known = np.isfinite(rows) & np.isfinite(columns)
    places = (rows[known].astype(int), columns[known].astype(int))
    shape = (len(states), len(catalogue))
    return sparse.coo_array((np.ones(int(known.sum()), np.float32), places), shape=shape).tocsr()
