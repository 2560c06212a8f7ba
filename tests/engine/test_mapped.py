"""A bundle's files are used where they lie on disk: checked first, never written to, and out of memory when nobody reads them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from engine import beforehand, bundle, mapped
from engine.index import Indexed
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.item_item import ItemItem
from engine.state import from_frame
from tests.engine.shop import CUT, frames

LARGE = 32 * 2**20  # bytes
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident() -> int:
    """Bytes of this process that are in memory, files' pages among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def written_to(folder: Path) -> int:
    """KiB of pages of a folder's files that this process changed for itself; 0 where the system does not tell."""
    found, ours = 0, False
    smaps = Path("/proc/self/smaps")
    for line in smaps.read_text().splitlines() if smaps.exists() else ():
        name, _, value = line.partition(":")
        if "-" in name.split(" ")[0]:
            ours = str(folder) in line
        elif ours and name == "Anonymous":
            found += int(value.split()[0])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    values = np.random.default_rng(3).random(LARGE // 4, np.float32)
    bundle.write(tmp_path, {"large.npz": bundle.pack_arrays({"values": values, "few": values[:5]})})
    return tmp_path


@on_linux
def test_what_is_not_read_takes_no_memory(folder: Path) -> None:
    before = resident()
    held = bundle.unpack_arrays(bundle.read(folder)["large.npz"])["values"]
    assert resident() - before < LARGE / 4, "checked, and not in memory"
    first = held[:10].copy()
    total = float(held.sum(dtype=np.float64))
    assert resident() - before > LARGE * 0.9, "or this measures nothing"
    mapped.unload(held)
    assert resident() - before < LARGE / 4
    np.testing.assert_array_equal(held[:10], first)
    assert float(held.sum(dtype=np.float64)) == total, "it comes back as it is read"


def test_what_is_in_no_file_is_left_alone() -> None:
    values = np.arange(100_000.0)
    mapped.unload(values)
    mapped.unload(values[10:20])
    np.testing.assert_array_equal(values, np.arange(100_000.0))
    mapped.unload(np.empty(0, np.float32))


def test_a_replaced_file_changes_nothing_for_who_has_the_old_one(folder: Path) -> None:
    held = bundle.unpack_arrays(bundle.read(folder)["large.npz"])["values"]
    some = held[-5:].copy()
    mapped.unload(held)
    bundle.write(folder, {"large.npz": bundle.pack_arrays({"values": np.zeros(LARGE // 4, np.float32)})})
    np.testing.assert_array_equal(held[-5:], some)
    assert not bundle.unpack_arrays(bundle.read(folder)["large.npz"])["values"].any()
    assert {each.name for each in folder.iterdir()} == {"large.npz", bundle.MANIFEST}


def test_a_file_that_is_written_to_while_it_is_read_is_rejected(folder: Path, monkeypatch) -> None:
    def write() -> None:
        with (folder / "large.npz").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"else")
        os.utime(folder / "large.npz", ns=(1, 1))

    monkeypatch.setattr(mapped, "breathe", write)
    with pytest.raises(bundle.BundleRejected, match=r"large\.npz"):
        bundle.read(folder)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    bundle.write(tmp_path, {"ranker.txt": b""})
    assert not len(bundle.read(tmp_path)["ranker.txt"])


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    items, histories, _ = frames()
    recipe = Recipe(sources={**Recipe().sources, "factors": {"factors": 8, "rounds": 2}})
    return Recommender.fit(items, histories, CUT, recipe)


def test_answers_write_nothing_into_what_is_mapped(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    loaded.warm()
    states = from_frame(frames()[1])
    answers = [loaded.recommend(state, 5, CUT) for state in states[:10]]
    loaded.scores(states, CUT)
    loaded.similar(loaded.catalogue.item_ids[0], 5)
    for name, source in loaded.sources.items():
        stored = bundle.unpack_arrays((tmp_path / f"{name}.npz").read_bytes())
        for key, array in source.arrays().items():
            np.testing.assert_array_equal(array, stored[key], err_msg=f"{name}.{key}")
    assert written_to(tmp_path) == 0
    loaded.unload()
    assert [loaded.recommend(state, 5, CUT) for state in states[:10]] == answers
    assert [fitted.recommend(state, 5, CUT) for state in states[:10]] == answers


def test_what_is_made_beforehand_is_found_in_the_bundle(
    fitted: Recommender, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("engine.vector_sources.INDEXED_FROM", 10)
    model = fitted.with_ranker(None)
    model.save(tmp_path)
    assert (tmp_path / "similar.npz").exists()
    assert model.indexed.keys() == {"factors"}
    assert (tmp_path / "index_factors.npz").exists()
    with monkeypatch.context() as nothing:
        nothing.setattr(Indexed, "of", None)
        nothing.setattr("engine.sources.item_item.sparse", None)
        loaded = Recommender.load(tmp_path)
        assert loaded.indexed.keys() == model.indexed.keys()
        ours, theirs = (each.sources[ItemItem.name].by_target for each in (loaded, model))
    assert (ours != theirs).nnz == 0
    for item in model.catalogue.item_ids[:5]:
        assert loaded.similar(item, 5) == model.similar(item, 5)
    for state in from_frame(frames()[1])[:10]:
        assert loaded.recommend(state, 5, CUT) == model.recommend(state, 5, CUT)


def test_an_index_comes_back_as_it_was() -> None:
    vectors = np.random.default_rng(5).normal(size=(500, 12)).astype(np.float32)
    index = Indexed.of(vectors)
    again = Indexed.from_arrays(bundle.unpack_arrays(bundle.pack_arrays(index.arrays())))
    query = vectors[3]
    for ours, theirs in zip(again.index.search(query, 7), index.index.search(query, 7), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.moments.of_query(query) == index.moments.of_query(query)


def test_a_bundle_without_it_is_loaded_all_the_same(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    files = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    for name in [name for name in files if beforehand.is_one(name.removesuffix(".npz"))]:
        del files[name]
    del files[bundle.MANIFEST]
    bundle.write(tmp_path / "before", files)
    loaded, item = Recommender.load(tmp_path / "before"), fitted.catalogue.item_ids[0]
    assert loaded.similar(item, 5) == fitted.similar(item, 5)


def test_a_part_made_beforehand_that_is_none_is_named(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    files = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.name != bundle.MANIFEST}
    bundle.write(tmp_path, {**files, "similar.npz": bundle.pack_arrays({"data": np.zeros(3)})})
    with pytest.raises(bundle.BundleRejected, match="beforehand"):
        Recommender.load(tmp_path)
