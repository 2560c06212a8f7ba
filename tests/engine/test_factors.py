"""Implicit matrix factorisation: the alternating steps, and users who are solved for when they ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.interactions import Catalogue, Events
from engine.sources.factors import Factors, improve
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, N_ITEMS, WEIGHTS, frames


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of(frames()[0])


@pytest.fixture(scope="module")
def events(catalogue: Catalogue) -> Events:
    return Events.of(from_frame(frames()[1]), catalogue.index, CUT, WEIGHTS)


@pytest.fixture(scope="module")
def fitted(events: Events, catalogue: Catalogue) -> Factors:
    return Factors.fit(events, catalogue, factors=8)


def loss(users: np.ndarray, items: np.ndarray, tastes: np.ndarray, model: Factors) -> np.ndarray:
    """(n_users,) of the paper's objective, item by item."""
    found = users @ items.T
    seen = (tastes * (found - 1) ** 2).sum(axis=1)
    frequency = (tastes > 0).sum(axis=1) + model.unobserved * items.shape[0]
    ridge = model.ridge * frequency**model.scaling
    return seen + model.unobserved * (found**2).sum(axis=1) + ridge * (users**2).sum(axis=1)


def test_fold_in_is_the_minimum_of_the_objective(fitted: Factors, events: Events) -> None:
    tastes = events.tastes(fitted.half_life_days)
    users = fitted.users(tastes).astype(float)
    best = loss(users, fitted.items, tastes.toarray(), fitted)
    rng = np.random.default_rng(0)
    for _ in range(5):
        moved = users + rng.normal(0, 0.02, users.shape)
        assert (loss(moved, fitted.items, tastes.toarray(), fitted) > best).all()


def test_enough_conjugate_steps_reach_the_exact_solution(fitted: Factors, events: Events) -> None:
    tastes = events.tastes(fitted.half_life_days)
    start = np.zeros((events.n_users, 8), np.float32)
    settings = (fitted.unobserved, fitted.ridge, fitted.scaling)
    few, many = (improve(start, fitted.items, tastes, *settings, steps) for steps in (1, 12))
    exact = fitted.users(tastes)
    np.testing.assert_allclose(many, exact, atol=1e-3)
    assert np.abs(few - exact).max() > np.abs(many - exact).max()


def test_a_new_event_moves_the_answer_without_training(fitted: Factors, catalogue: Catalogue) -> None:
    when = int(CUT.timestamp()) - 9
    half = N_ITEMS // 2

    def of(*items: str) -> np.ndarray:
        state = UserState("new", None, items, ["purchase"] * len(items), [when] * len(items))
        return fitted.scores(Events.of([state], catalogue.index, CUT, WEIGHTS))[0]

    assert not of().any()
    first, then = of("item 02", "item 03"), of("item 30", "item 31", "item 02", "item 03")
    assert first[:half].mean() > first[half:].mean() + 0.1
    assert then[half:].mean() > first[half:].mean() + 0.1


def test_more_ridge_for_busy_items_shrinks_them(events: Events, catalogue: Catalogue) -> None:
    even, scaled = (
        Factors.fit(events, catalogue, factors=8, unobserved=0.01, ridge=2.0, scaling=s) for s in (0.0, 1.0)
    )
    bought = np.asarray(events.owned().sum(axis=0)).ravel()
    busy, quiet = np.argsort(-bought)[:8], np.argsort(bought)[:8]

    def ratio(model: Factors) -> float:
        length = np.linalg.norm(model.items, axis=1)
        return float(length[busy].mean() / length[quiet].mean())

    assert ratio(scaled) < ratio(even)


def test_evidence_splits_the_score_over_the_history(fitted: Factors, catalogue: Catalogue) -> None:
    when = int(CUT.timestamp()) - 9
    state = UserState("u", None, ["item 03", "item 30"], ["purchase"] * 2, [when] * 2)
    mine = Events.of([state], catalogue.index, CUT, WEIGHTS)
    assert fitted.evidence(mine, 5)["item"] == 3
    assert fitted.evidence(mine, 35)["item"] == 30
    assert fitted.evidence(Events.of([UserState("n")], catalogue.index, CUT, WEIGHTS), 5) is None


def test_an_item_that_nobody_had_says_nothing(events: Events, catalogue: Catalogue) -> None:
    kept = events.item != 7
    fields = {name: getattr(events, name)[kept] for name in ("user", "item", "weight", "age")}
    without = replace(events, **fields)
    assert not Factors.fit(without, catalogue, factors=8).scores(without)[:, 7].any()
