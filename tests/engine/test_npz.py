"""Arrays in an .npz are used where they lie, and nothing else is read as one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy import sparse

from engine.npz import ALIGNED, pack_arrays, unpack_arrays

ARRAYS = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "names": np.array(["a", "bc"]),
    "none": np.empty((0, 5), np.int64),
    "one": np.array(7),
    "a_longer_name_than_the_others": np.array([True, False]),
}


def where(content: np.ndarray, array: np.ndarray) -> int:
    return array.__array_interface__["data"][0] - content.__array_interface__["data"][0]


def test_arrays_are_used_where_they_lie() -> None:
    content = np.frombuffer(pack_arrays(ARRAYS), np.uint8)
    found = unpack_arrays(content)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].flags.f_contiguous == array.flags.f_contiguous
        if array.size:
            assert np.shares_memory(found[name], content), name
            assert where(content, found[name]) % ALIGNED == 0


def test_scipy_takes_them_without_a_copy() -> None:
    matrix = sparse.random_array((200, 300), density=0.1, rng=np.random.default_rng(1)).tocsr()
    packed = {
        "data": matrix.data,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
        "more": np.zeros(100_000),
    }
    found = unpack_arrays(np.frombuffer(pack_arrays(packed), np.uint8))
    again = sparse.csr_array((found["data"], found["indices"], found["indptr"]), shape=matrix.shape)
    assert np.shares_memory(again.data, found["data"])
    assert np.shares_memory(again.indices, found["indices"])


def test_numpy_reads_it_and_we_read_numpys() -> None:
    with np.load(io.BytesIO(pack_arrays(ARRAYS)), allow_pickle=False) as stored:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(stored[name], array)
    buffer = io.BytesIO()
    np.savez(buffer, **ARRAYS)
    for name, array in unpack_arrays(buffer.getvalue()).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.flags.aligned


def test_what_is_no_plain_npz_is_refused() -> None:
    objects, small = io.BytesIO(), io.BytesIO()
    np.savez(objects, tie=np.array([{"a": 1}], dtype=object))
    np.savez_compressed(small, numbers=np.zeros(9))
    whole = pack_arrays(ARRAYS)
    for content in (b"", b"no zip", whole[: len(whole) // 2], objects.getvalue(), small.getvalue()):
        with pytest.raises(ValueError, match=r"npz|compressed|objects"):
            unpack_arrays(content)
