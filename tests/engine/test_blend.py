"""The blend and the choice of its weights."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from engine.blend import Weights, combine, normalise
from engine.choosing import choose_weights


def test_normalise_is_per_user_and_keeps_what_is_not_finite() -> None:
    found = normalise(np.array([[1.0, 2.0, 3.0, np.nan], [5.0, 5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(found[0, :3], [-1.2247449, 0, 1.2247449], rtol=1e-6)
    assert np.isnan(found[0, 3])
    assert not found[1].any()


def test_combine_takes_each_item_by_its_own_set() -> None:
    owned = sparse.csr_array(np.array([[1.0, 0.0]]))
    scores = {"one": np.array([[2.0, 2.0]], np.float32), "two": np.array([[10.0, 10.0]], np.float32)}
    found = combine(scores, owned, Weights(again={"one": 3.0}, new={"two": 0.5}, offset=7.0))
    assert found.tolist() == [[13.0, 5.0]]


def test_an_item_without_a_number_stays_without_one() -> None:
    scores = {"one": np.array([[np.nan, 2.0]], np.float32)}
    found = combine(scores, sparse.csr_array((1, 2)), Weights(new={"one": 1.0}))
    assert np.isnan(found[0, 0])


def test_the_choice_finds_who_knows_what() -> None:
    """One source knows what is bought again, another what is new, a third nothing: each set picks its own."""
    rng = np.random.default_rng(0)
    had = rng.random((200, 60)) < 0.2
    wanted = rng.random((200, 60)) < np.where(had, 0.3, 0.05)
    noise = rng.normal(size=(3, 200, 60)).astype(np.float32)
    scores = {
        "repeat": noise[0] + 2.0 * (wanted & had),
        "fresh": noise[1] + 2.0 * (wanted & ~had),
        "noise": noise[2],
    }
    owned, truth = sparse.csr_array(had.astype(np.float32)), sparse.csr_array(wanted.astype(np.float32))
    chosen = choose_weights(scores, owned, truth, k=10)
    assert max(chosen.again, key=chosen.again.get) == "repeat"
    assert max(chosen.new, key=chosen.new.get) == "fresh"
    assert chosen.offset > 0
    assert chosen == choose_weights(scores, owned, truth, k=10)


def test_a_source_of_own_purchases_has_no_say_about_new_items() -> None:
    """Even where its tie-break happens to know best."""
    rng = np.random.default_rng(0)
    had, wanted = rng.random((80, 40)) < 0.2, rng.random((80, 40)) < 0.2
    scores = {"personal": wanted.astype(np.float32), "other": rng.normal(size=(80, 40)).astype(np.float32)}
    owned, truth = sparse.csr_array(had.astype(np.float32)), sparse.csr_array(wanted.astype(np.float32))
    chosen = choose_weights(scores, owned, truth, k=10)
    assert set(chosen.new) == {"other"}
    assert chosen.again["personal"] > 0
