"""Bundles: the same model gives the same bytes, and nothing altered is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aisle.errors import BundleRejected
from engine import bundle
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import from_frame
from tests.engine.shop import CUT, frames, tower


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Path]:
    items, histories, _ = frames()
    fitted = Recommender.fit(items, histories, CUT, Recipe(), {"two_tower": tower()})
    folder = tmp_path_factory.mktemp("bundle")
    fitted.save(folder)
    return fitted, folder


@pytest.fixture
def copied(saved, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[1], tmp_path / "copied"))


def test_a_loaded_bundle_answers_as_the_model_that_was_saved(saved) -> None:
    fitted, folder = saved
    loaded = Recommender.load(folder)
    states = from_frame(frames()[1])
    np.testing.assert_array_equal(loaded.scores(states, CUT), fitted.scores(states, CUT))
    assert loaded.recipe == fitted.recipe
    assert loaded.recipe.cut == CUT
    assert loaded.recommend(states[3], 5, CUT) == fitted.recommend(states[3], 5, CUT)
    assert loaded.item("item 00") == {"title": "Item 00", "price": 2.5, "categories": ["gifts", "small"]}


def test_the_same_model_gives_the_same_bytes(saved, tmp_path: Path) -> None:
    items, histories, _ = frames()
    Recommender.fit(items, histories, CUT, Recipe(), {"two_tower": tower()}).save(tmp_path)
    assert bundle.digest(tmp_path) == bundle.digest(saved[1])


def test_no_row_of_a_user_is_in_a_bundle(saved) -> None:
    everything = b"".join(path.read_bytes() for path in saved[1].iterdir())
    assert not any(user.encode() in everything for user in frames()[1]["user_id"])


@pytest.mark.parametrize("name", ["recipe.json", "items.parquet", "linear.npz", "two_tower.npz"])
def test_an_altered_or_missing_file_is_named(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleRejected, match=name):
        Recommender.load(copied)
    (copied / name).unlink()
    with pytest.raises(BundleRejected, match=f"{name} is missing"):
        Recommender.load(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "files": []}', '{"format": 9, "files": {}}'])
def test_a_broken_manifest_is_refused(copied: Path, text: str) -> None:
    (copied / bundle.MANIFEST).write_text(text)
    with pytest.raises(BundleRejected, match=r"manifest\.json|format"):
        Recommender.load(copied)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleRejected, match=r"manifest\.json"):
        Recommender.load(tmp_path)


def test_a_manifest_cannot_lead_outside(copied: Path) -> None:
    manifest = json.loads((copied / bundle.MANIFEST).read_text())
    manifest["files"]["../secret.json"] = {"sha256": "0", "bytes": 1}
    (copied / bundle.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleRejected, match="secret"):
        Recommender.load(copied)


def test_a_pickle_is_never_read(copied: Path) -> None:
    """Even with a manifest that vouches for it."""
    np.savez(copied / "personal.npz", tie=np.array([{"a": 1}], dtype=object))
    files = {path.name: path.read_bytes() for path in copied.iterdir() if path.name != bundle.MANIFEST}
    bundle.write(copied, files)
    with pytest.raises(BundleRejected, match=r"personal\.npz"):
        Recommender.load(copied)


def test_a_bundle_without_a_source_that_its_recipe_names_is_refused(copied: Path) -> None:
    (copied / "linear.npz").unlink()
    files = {path.name: path.read_bytes() for path in copied.iterdir() if path.name != bundle.MANIFEST}
    bundle.write(copied, files)
    with pytest.raises(BundleRejected, match=r"linear\.npz is missing"):
        Recommender.load(copied)


def test_a_ranker_that_is_none_is_named(copied: Path) -> None:
    files = {path.name: path.read_bytes() for path in copied.iterdir() if path.name != bundle.MANIFEST}
    bundle.write(copied, {**files, "ranker.txt": b"no trees"})
    with pytest.raises(BundleRejected, match=r"ranker\.txt"):
        Recommender.load(copied)


def test_what_new_items_read_like_is_stored(tmp_path: Path) -> None:
    items, histories, _ = frames()
    unsold = items.iloc[:1].assign(item_id="item 99", n_buyers=0.0)
    fitted = Recommender.fit(pd.concat([items, unsold]), histories, CUT, Recipe())
    fitted.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    assert "cold" in loaded.__dict__
    assert loaded.cold.items.tolist() == fitted.cold.items.tolist() == [len(items)]
    np.testing.assert_array_equal(loaded.cold.alike.toarray(), fitted.cold.alike.toarray())
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    del files[bundle.MANIFEST], files["cold.npz"]
    bundle.write(tmp_path, files)  # as a release of before has it
    assert Recommender.load(tmp_path).cold.items.tolist() == fitted.cold.items.tolist()


def test_objects_cannot_be_stored() -> None:
    with pytest.raises(TypeError, match="names"):
        bundle.pack_arrays({"names": np.array(["a"], dtype=object)})
