"""Chooses a recipe's blend on a window after the one that its sources were fitted to."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from scipy import sparse

from engine.blend import choose_weights
from engine.interactions import Catalogue
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import UserState, from_frame
from engine.towers import TowerExport


def choose(
    items: pd.DataFrame,
    histories: pd.DataFrame,
    truth: pd.DataFrame,
    cut: datetime,
    recipe: Recipe,
    tower: TowerExport | None = None,
    max_users: int = 1500,
    k: int = 20,
) -> tuple[Recipe, Recommender]:
    """The recipe with the weights that serve best after `cut`, and the recommender fitted before it.

    items, histories, tower: as known before `cut`, the start of the validation window; truth: user_id,
    item_id bought in that window. A seeded sample of `max_users` buyers decides. Raises ValueError where
    nobody with a history bought.
    """
    fitted = Recommender.fit(items, histories, cut, recipe, tower)
    known = histories[histories["user_id"].isin(set(truth["user_id"]))].sort_values("user_id")
    states = from_frame(known.sample(min(max_users, len(known)), random_state=recipe.seed).sort_index())
    wanted = truth_matrix(truth, states, fitted.catalogue)
    if not wanted.nnz:
        raise ValueError(
            f"nobody with a history before {cut.isoformat()} bought a known item after it: no blend to choose"
        )
    events = fitted.events(states, cut)
    normalised = fitted.normalised_scores(events)
    fitted = fitted.with_weights(choose_weights(normalised, events.owned(), wanted, k))
    return fitted.recipe.model_copy(update={"cut": None}), fitted


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
