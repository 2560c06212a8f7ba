"""The largest products beside a full sort in double precision: by bytes, where this machine can, and by floats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from engine import vnni
from engine.top_products import FLOATS, USERS, TopProducts

BYTES = pytest.param(
    True, marks=pytest.mark.skipif(not vnni.here(), reason="no AVX-512 VNNI on this machine")
)
pytestmark = pytest.mark.parametrize("by_bytes", [BYTES, False], ids=["bytes", "floats"])


def sorted_whole(vectors, users, k: int, without=None) -> tuple[np.ndarray, np.ndarray]:
    products = users.astype(np.float64) @ vectors.T.astype(np.float64)
    if without is not None:
        products[without.nonzero()] = -np.inf
    rows = np.argsort(-products, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(products, rows, axis=1)
    return np.where(np.isfinite(values), rows, -1), values


def same(vectors, users, k: int, by_bytes: bool, without=None, threads: int = 1) -> TopProducts:
    found = TopProducts.of(vectors, by_bytes)
    rows, values = found.top(users, k, without, threads)
    wanted = sorted_whole(vectors, users, k, without)
    np.testing.assert_array_equal(rows, wanted[0])
    np.testing.assert_allclose(values, wanted[1], rtol=1e-9, atol=1e-12)
    return found


def clusters(n: int, width: int, users: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Items of all lengths around some centres, users near them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, width))
    items = (centres[rng.integers(0, 40, n)] + 0.6 * rng.normal(size=(n, width))) * rng.lognormal(
        0, 0.6, (n, 1)
    )
    asked = centres[rng.integers(0, 40, users)] + 0.8 * rng.normal(size=(users, width))
    return items.astype(np.float32), asked.astype(np.float32)


def some_of(shape: tuple[int, int], share: float, seed: int = 3) -> sparse.csr_array:
    return sparse.random_array(shape, density=share, format="csr", rng=seed, dtype=np.float32)


@pytest.mark.parametrize("width", [1, 3, 8, 30, 64, 129])
@pytest.mark.parametrize("k", [1, 20])
def test_they_are_those_of_a_full_sort(by_bytes: bool, width: int, k: int) -> None:
    items, users = clusters(5_003, width, 97)
    same(items, users, k, by_bytes, some_of((97, 5_003), 0.02))


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 255, 257])
def test_few_items_and_more_wanted_than_there_are(by_bytes: bool, n: int) -> None:
    items, users = clusters(n, 6, 13)
    same(items, users, 100, by_bytes, some_of((13, n), 0.4))


def test_ties_go_to_the_first_row(by_bytes: bool) -> None:
    """Small whole numbers: hundreds of items have the same product, and one at the edge is as good as the next."""
    rng = np.random.default_rng(1)
    items, users = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (3_000, 50))
    items[::7] = 0
    same(items, users, 25, by_bytes, some_of((50, 3_000), 0.1))


def test_what_bytes_cannot_tell_apart(by_bytes: bool) -> None:
    """Items that differ by a ten thousandth of their length, in a shuffled order."""
    rng = np.random.default_rng(2)
    items = (rng.normal(size=16) + 1e-4 * rng.normal(size=(2_000, 16))).astype(np.float32)
    same(items, rng.normal(size=(30, 16)).astype(np.float32), 10, by_bytes)


@pytest.mark.parametrize("rounded", ["users", "items"])
def test_either_side_alone_is_off_by_its_rounding(by_bytes: bool, rounded: str) -> None:
    """Bytes have the other side as it is: a bound for this one alone is what keeps the list exact."""
    rng = np.random.default_rng(4)
    whole = {"users": rng.choice([-127, 127], (3_000, 8)), "items": rng.choice([-127, 127], (40, 8))}[rounded]
    split = {"users": rng.normal(size=(40, 8)), "items": rng.normal(size=(3_000, 8))}[rounded]
    items, users = (whole, split) if rounded == "users" else (split, whole)
    same(items.astype(np.float32), users.astype(np.float32), 10, by_bytes)


def test_what_floats_cannot_tell_apart(by_bytes: bool) -> None:
    """Products whose parts cancel: a float's rounding is larger than what is left."""
    rng = np.random.default_rng(5)
    half = rng.normal(size=(2_000, 20))
    items = np.hstack([half, half + 1e-6 * rng.normal(size=half.shape)]).astype(np.float32)
    half = rng.normal(size=(30, 20))
    same(items, np.hstack([half, -half]).astype(np.float32), 10, by_bytes)


def test_one_dimension_that_drowns_the_others(by_bytes: bool) -> None:
    items, users = clusters(4_000, 24, 60)
    items[:, 5] *= 1_000
    users[::2, 5] = 0
    same(items, users, 10, by_bytes)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_vectors_far_from_one(by_bytes: bool, scale: float) -> None:
    items, users = clusters(2_000, 16, 40)
    found = TopProducts.of(items * np.float32(scale), by_bytes).top(users, 10)
    np.testing.assert_array_equal(found[0], sorted_whole(items * np.float32(scale), users, 10)[0])


def test_users_and_items_of_no_length(by_bytes: bool) -> None:
    items, users = clusters(1_000, 9, 40)
    items[200:900] = 0
    users[::3] = 0
    same(items, users, 30, by_bytes, some_of((40, 1_000), 0.3))
    same(np.zeros((500, 3), np.float32), users[:, :3], 7, by_bytes)


def test_products_below_zero_alone(by_bytes: bool) -> None:
    items, users = clusters(1_000, 12, 30)
    same(-np.abs(items), np.abs(users), 15, by_bytes)


def test_everything_left_out(by_bytes: bool) -> None:
    items, users = clusters(300, 5, 4)
    rows, values = TopProducts.of(items, by_bytes).top(
        users, 10, sparse.csr_array(np.ones((4, 300), np.float32))
    )
    assert (rows == -1).all()
    assert (values == -np.inf).all()


def test_many_users_on_two_cores_and_long_catalogues(by_bytes: bool) -> None:
    items, users = clusters(2 * FLOATS + 17, 10, USERS + 40)
    without = some_of((len(users), len(items)), 0.003)
    same(items, users, 20, by_bytes, without, threads=2)


def test_most_items_are_never_multiplied_exactly(by_bytes: bool) -> None:
    """With the exact vectors of all but a user's best made unreadable, the best are still found."""
    if not by_bytes:
        pytest.skip("of floats all products are made")
    items, users = clusters(6_000, 32, 1)
    found = TopProducts.of(items, by_bytes=True)
    rows, _ = found.top(users, 5)
    products = items @ users[0]
    far = products < np.sort(products)[-5] - 0.1 * np.linalg.norm(users) * np.linalg.norm(items, axis=1)
    later = far & (found.place > 1_000)
    assert later.sum() > 4_000
    found.vectors[later] = np.nan
    np.testing.assert_array_equal(found.top(users, 5)[0], rows)


def test_nobody_asks_and_none_is_wanted(by_bytes: bool) -> None:
    items, users = clusters(50, 4, 3)
    found = TopProducts.of(items, by_bytes)
    assert found.top(users[:0], 5)[0].shape == (0, 5)
    assert found.top(users, 0)[0].shape == (3, 0)


def test_what_is_refused(by_bytes: bool) -> None:
    items, users = clusters(50, 4, 3)
    found = TopProducts.of(items, by_bytes)
    bad = users.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="1 users are not finite, the first of user 1"):
        found.top(bad, 5)
    with pytest.raises(ValueError, match=r"users of shape \(3, 3\)"):
        found.top(users[:, :3], 5)
    with pytest.raises(ValueError, match=r"left out has shape \(2, 50\)"):
        found.top(users, 5, sparse.csr_array((2, 50)))
    with pytest.raises(ValueError, match="no largest products"):
        TopProducts.of(items[:0], by_bytes)
    items[7] = np.inf
    with pytest.raises(ValueError, match="items are not finite, the first of item 7"):
        TopProducts.of(items, by_bytes)


@pytest.mark.parametrize("k", [1, 7])
def test_products_beyond_a_float_are_ordered_all_the_same(by_bytes: bool, k: int) -> None:
    rng = np.random.default_rng(1)
    items, users = -np.abs(rng.normal(size=(500, 8))) * 1e19, np.abs(rng.normal(size=(20, 8))) * 1e20
    same(items.astype(np.float32), users.astype(np.float32), k, by_bytes)


def test_what_is_left_out_may_be_kept_by_columns(by_bytes: bool) -> None:
    items, users = clusters(60, 4, 60)
    without = some_of((60, 60), 0.3)
    found = TopProducts.of(items, by_bytes)
    np.testing.assert_array_equal(found.top(users, 5, without.tocsc())[0], found.top(users, 5, without)[0])
