"""The people source: groups that are large enough to hide in, and near enough to be of use."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources.people import MEMBERS, SUPPORT, People, means, partition
from engine.state import UserState, from_frame
from tests.engine.shop import CUT, N_ITEMS, WEIGHTS, frames


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of(frames()[0])


@pytest.fixture(scope="module")
def events(catalogue: Catalogue) -> Events:
    return Events.of(from_frame(frames()[1]), catalogue.index, CUT, WEIGHTS)


def test_no_group_is_smaller_than_allowed() -> None:
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(40, 6)) * rng.choice([1, 5], (40, 1))
    places = middles[rng.zipf(1.5, 500) % 40] + rng.normal(0, 0.1, (500, 6))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    for seed in range(4):
        sizes = np.bincount(partition(places, seed))
        assert sizes.min() >= MEMBERS
        assert len(sizes) > 5


def test_what_few_members_share_is_left_out() -> None:
    tastes = np.zeros((MEMBERS, 3), np.float32)
    tastes[: SUPPORT - 1, 0] = 9.0
    tastes[:SUPPORT, 1] = 2.0
    found = means(sparse.csr_array(tastes), np.zeros(MEMBERS, int)).toarray()
    np.testing.assert_allclose(found, [[0.0, 2.0 * SUPPORT / MEMBERS, 0.0]])


def test_groups_keep_to_one_taste_and_lead_to_it(events: Events, catalogue: Catalogue) -> None:
    fitted = People.fit(events, catalogue, rank=4)
    half = N_ITEMS // 2
    left = np.asarray(fitted.groups[:, :half].sum(axis=1)).ravel()
    whole = np.asarray(fitted.groups.sum(axis=1)).ravel()
    share = left / whole
    assert ((share < 0.05) | (share > 0.95)).mean() > 0.8
    when = int(CUT.timestamp()) - 9
    state = UserState("new", None, ["item 30", "item 31"], ["purchase"] * 2, [when] * 2)
    found = fitted.scores(Events.of([state], catalogue.index, CUT, WEIGHTS))[0]
    assert found[half:].mean() > 5 * found[:half].mean()


def test_too_few_people_make_no_group(events: Events, catalogue: Catalogue) -> None:
    few = Events.of(events.states[: MEMBERS - 1], catalogue.index, CUT, WEIGHTS)
    fitted = People.fit(few, catalogue)
    assert fitted.groups.shape[0] == 0
    assert not fitted.scores(few).any()
    assert fitted.evidence(Events.of(few.states[:1], catalogue.index, CUT, WEIGHTS), 3) is None


def test_evidence_names_an_item_of_the_history(events: Events, catalogue: Catalogue) -> None:
    fitted = People.fit(events, catalogue, rank=4)
    state = UserState("u", None, ["item 03", "item 30"], ["purchase"] * 2, [int(CUT.timestamp()) - 9] * 2)
    mine = Events.of([state], catalogue.index, CUT, WEIGHTS)
    assert fitted.evidence(mine, 5)["item"] == 3
    assert fitted.evidence(mine, 35)["item"] == 30
