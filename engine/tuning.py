"""Chooses a recipe on a window after the one that its sources were fitted to: hyperparameters, sources, blend, repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from engine import metrics
from engine.blend import choose_weights, combine
from engine.interactions import Catalogue, Events
from engine.ranking import union
from engine.recipe import USUAL, Recipe
from engine.recommender import Recommender, fit_source
from engine.sources import FROM_HISTORIES
from engine.sources.two_tower import TwoTower
from engine.state import UserState, from_frame
from engine.windows import Window

WORTH = 0.005  # of NDCG that a source beyond the usual ones must bring: it costs time in every answer
FINDS = 0.05  # more of what was bought that a source must bring among the candidates: a ranker orders what a blend cannot
CELLS = 40_000_000  # scores of a source that are held at once while choosing: 160 MB
REPEATS = 0.002  # share of what was bought that its buyer already had, below which a shop is one where nobody buys again


def choose(
    window: Window,
    recipe: Recipe,
    max_users: int = 1500,
    k: int = 20,
    select: bool = False,
    tune: bool = False,
) -> tuple[Recipe, Recommender]:
    """The recipe that serves best after the window's start, and the recommender fitted before it.

    A seeded sample of `max_users` buyers decides. select: sources beyond the usual ones stay only where they are worth it,
    see WORTH. tune: searches each source's hyperparameters too. Raises ValueError where nobody with a history bought.
    """
    trial = _Trial.of(window, recipe, max_users, k)
    if tune:
        recipe = trial.tuned(recipe)
    repeat = recipe.repeat if recipe.repeat is not None else trial.share_again() >= REPEATS
    recipe = recipe.model_copy(update={"repeat": repeat})
    fitted = Recommender.fit(window.items, window.histories, window.at, recipe, window.exports)
    events = fitted.events(trial.states, window.at)
    normalised = fitted.normalised_scores(events)
    owned = events.owned()
    names = _selected(trial, normalised, owned, repeat) if select else tuple(normalised)
    fitted = fitted.without(set(normalised) - set(names))
    left = {name: normalised[name] for name in names}
    fitted = fitted.with_weights(choose_weights(left, owned, trial.truth, k, repeat=repeat))
    return fitted.recipe.model_copy(update={"cut": None}), fitted


def _selected(
    trial: _Trial, normalised: Mapping[str, np.ndarray], owned: sparse.csr_array, repeat: bool
) -> tuple[str, ...]:
    """The usual sources, and of the others, who finds most first, each that is WORTH it to the blend or FINDS what the ranker may order."""

    def value(names: list[str]) -> float:
        left = {name: normalised[name] for name in names}
        weights = choose_weights(left, owned, trial.truth, trial.k, repeat=repeat)
        scores = combine(left, owned, weights)
        return sum(_ndcg(scores, trial, new_only) for new_only in ((False, True) if repeat else (True,)))

    def found(names: list[str]) -> float:
        places = union(trial.asked, {name: normalised[name] for name in names}, repeat)
        return float(np.asarray(trial.truth[places]).sum() / trial.truth.sum())

    kept = [name for name in normalised if name in (*USUAL, TwoTower.name)]
    others = [name for name in normalised if name not in kept]
    best = (value(kept), found(kept)) if others else (0.0, 0.0)
    for name in sorted(others, key=lambda name: -found([*kept, name])):
        reached = value([*kept, name]), found([*kept, name])
        if reached[0] > best[0] * (1 + WORTH) or reached[1] > best[1] * (1 + FINDS):
            kept, best = [*kept, name], (max(reached[0], best[0]), reached[1])
    return tuple(name for name in normalised if name in kept)


@dataclass(frozen=True)
class _Trial:
    """A window's sampled buyers, and how well a source alone serves them."""

    window: Window
    catalogue: Catalogue
    states: list[UserState]
    known: Events
    asked: Events
    truth: sparse.csr_array
    k: int

    @classmethod
    def of(cls, window: Window, recipe: Recipe, max_users: int, k: int) -> _Trial:
        catalogue = Catalogue.of(window.items)
        most = min(max_users, max(CELLS // max(len(catalogue), 1), 1))
        states = from_frame(window.buyers(most, recipe.seed))
        truth = truth_matrix(window.truth, states, catalogue)
        if not truth.nnz:
            raise ValueError(
                f"nobody with a history before {window.at.isoformat()} bought a known item after it: no blend to choose"
            )
        known, asked = (
            Events.of(each, catalogue.index, window.at, recipe.event_weights, recipe.counting)
            for each in (from_frame(window.histories), states)
        )
        return cls(window, catalogue, states, known, asked, truth, k)

    def share_again(self) -> float:
        """Of what was bought, how much its buyer had before."""
        return float(self.truth.multiply(self.asked.owned()).sum() / self.truth.sum())

    def tuned(self, recipe: Recipe) -> Recipe:
        """Each source's GRID searched one hyperparameter after the other, the source judged alone."""
        found = {
            name: self._best(name, settings, getattr(FROM_HISTORIES.get(name), "GRID", {}))
            for name, settings in recipe.sources.items()
        }
        return recipe.model_copy(update={"sources": found})

    def _best(
        self, name: str, settings: dict[str, float], grid: Mapping[str, tuple[float, ...]]
    ) -> dict[str, float]:
        if not grid:
            return settings
        best, value = settings, self._value(name, settings)
        for parameter, steps in grid.items():
            for step in steps:
                if best.get(parameter) == step:
                    continue
                trial = {**best, parameter: step}
                reached = self._value(name, trial)
                if reached > value:
                    best, value = trial, reached
        return best

    def _value(self, name: str, settings: Mapping[str, float]) -> float:
        """NDCG@k of the source alone over all items and over those new to the user, added up."""
        scores = fit_source(name, settings, self.known, self.catalogue).scores(self.asked)
        return sum(_ndcg(scores, self, new_only) for new_only in (False, True))


def _ndcg(scores: np.ndarray, trial: _Trial, new_only: bool) -> float:
    owned, truth = trial.asked.owned(), trial.truth
    if new_only:
        truth = sparse.csr_array(truth - truth.multiply(owned))
        truth.eliminate_zeros()
        scores = scores.copy()
        scores[owned.nonzero()] = -np.inf
    n_relevant = np.asarray(truth.sum(axis=1)).astype(int)
    some = np.flatnonzero(n_relevant)
    if not len(some):
        return 0.0
    hits = metrics.hits_of(metrics.top_k(scores[some], trial.k), truth[some])
    return float(metrics.ndcg(hits, n_relevant[some], trial.k).mean())


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
