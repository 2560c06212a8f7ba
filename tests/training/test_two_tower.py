"""The two-tower: arrays in, the same arrays out of TensorFlow and NumPy, the same weights for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from aisle import lake
from aisle.errors import BadModel
from engine.state import from_frame
from engine.towers import user_vectors
from tests.training import frames
from training import towers
from training.dataset import Dataset
from training.tower_training import GROUP, _drawn
from training.two_tower import TwoTower, exported, restore, seeded, tf
from training.vocabulary import Pairs, Vocabulary, item_inputs, pairs, queries

MIDNIGHT = datetime(2011, 6, 1, tzinfo=UTC)


def test_tensorflow_comes_in_without_its_notices_and_other_words_come_through() -> None:
    told = "import os\nfrom training.tensorflow_import import without_notices\nwith without_notices():\n"
    told += "    os.write(2, b'I0000 port.cc] oneDNN custom operations are on. You may see\\nmind this\\n')\n"
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{told}import training.two_tower"],
        cwd=lake.project_root(),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stderr == "mind this\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(frames.write_dataset(tmp_path_factory.mktemp("dataset"), users=300))


@pytest.fixture
def training(settings):
    return settings.training.model_copy(update={"epochs": 2, "dimension": 16, "batch_size": 512})


@pytest.fixture(scope="module")
def learnt(dataset, tmp_path_factory):
    from aisle import settings as settings_module

    settings_module.load.cache_clear()
    tiny = settings_module.load().training.model_copy(
        update={"epochs": 2, "dimension": 16, "batch_size": 512}
    )
    return towers.fit(dataset, tiny, progress=lambda line: None)


def test_a_grown_vocabulary_keeps_its_rows() -> None:
    old = Vocabulary.of(["b", "a"], ["France", None])
    new = old.grown(["c", "a"], ["Eire"])
    assert new.items.tolist() == ["a", "b", "c"]
    assert new.item_rows(["b", "c", "unheard of"]).tolist() == [2, 3, 0]
    assert new.country_rows(["France", "Eire", None]).tolist() == [1, 2, 0]


def test_pairs_know_their_query_and_fade_with_age() -> None:
    examples = pd.DataFrame(
        {
            "event_timestamp": pd.to_datetime(["2011-01-01", "2011-01-31"], utc=True),
            "label_items": [["a", "unheard of"], ["b", "a"]],
        }
    )
    found = pairs(Vocabulary.of(["a", "b"], []), examples, half_life_days=30)
    assert found.query.tolist() == [0, 1, 1]
    assert found.item.tolist() == [1, 2, 1]
    assert found.weight.tolist() == [0.5, 1.0, 1.0]


def test_an_epoch_draws_whole_groups_of_one_query() -> None:
    query = np.repeat(np.arange(50), 6).astype(np.int32)
    found = Pairs(query, np.ones(300, np.int32), np.ones(300))
    drawn = _drawn(found, 64, np.random.default_rng(0))
    assert drawn.shape == (4, 64 // GROUP, GROUP)
    assert (query[drawn] == query[drawn[:, :, :1]]).all()


def test_tensorflow_and_numpy_agree(dataset, learnt, training) -> None:
    tower = learnt["T"]
    histories, items = dataset.frame("histories_T"), dataset.frame("items_T")
    vocabulary = Vocabulary.of(items["item_id"], dataset.frame("examples")["country"])
    model = TwoTower(vocabulary, item_inputs(vocabulary, items), training)
    restore(model, tower.weights)
    asked = queries(vocabulary, histories, dataset.cuts.T, training)
    arrays = tuple(
        tf.constant(each) for each in (asked.items, asked.weights, asked.countries, asked.log_count)
    )
    ours = user_vectors(tower.export, from_frame(histories), dataset.cuts.T)
    assert np.abs(model.queries(arrays, model.item_features()).numpy() - ours).max() < 1e-4
    assert np.abs(np.linalg.norm(tower.export.item_vectors, axis=1) - 1).max() < 1e-4


def test_the_same_seed_gives_the_same_metrics_and_weights(dataset, learnt, training) -> None:
    again = towers.fit(dataset, training, progress=lambda line: None)
    assert list(learnt) == list(again) == ["R", "V", "T"]
    for old, new in zip(learnt.values(), again.values(), strict=True):
        told = [
            {name: value for name, value in row.items() if name != "seconds"} for row in old.learned.epochs
        ]
        assert told == [
            {name: value for name, value in row.items() if name != "seconds"} for row in new.learned.epochs
        ]
        assert all((old.weights[name] == new.weights[name]).all() for name in old.weights)


def test_it_learns(learnt) -> None:
    first = learnt["R"]
    assert first.learned.epochs[-1]["loss"] < first.learned.epochs[0]["loss"]
    assert first.learned.epochs[-1]["recall@20"] > 0


def test_weights_go_through_a_file_without_pickle(learnt, tmp_path) -> None:
    path = towers.write_weights(learnt["T"], tmp_path / "tower.npz")
    found = towers.read_weights(path)
    assert found.keys() == learnt["T"].weights.keys()
    assert all((found[name] == learnt["T"].weights[name]).all() for name in found)


def test_a_continued_tower_knows_new_items(dataset, learnt, training) -> None:
    new = set(dataset.frame("items_A")["item_id"]) - set(dataset.frame("items_T")["item_id"])
    assert new
    tower = towers.continued(learnt["T"].weights, dataset, dataset.cuts.T, "A", training)
    assert new <= set(tower.export.item_ids)
    assert np.isfinite(tower.export.item_vectors).all()


def test_an_item_nobody_bought_is_placed_by_its_words(training) -> None:
    items = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["RED MUG", "RED MUG"], "price": [2.0, 2.0], "brand": None}
    )
    items["categories"] = [[], []]
    vocabulary = Vocabulary.of(items["item_id"], [])
    seeded(1)
    model = TwoTower(vocabulary, item_inputs(vocabulary, items), training)
    found = exported(model, ["a", "b"])
    assert np.allclose(found.item_vectors[0], found.item_vectors[1])


def test_weights_that_are_not_finite_are_refused(dataset, training) -> None:
    with pytest.raises(BadModel, match="not finite"):
        towers.fit(dataset, training.model_copy(update={"learning_rate": 1e30}), progress=lambda line: None)


def test_saved_weights_hold_only_numbers_and_names(learnt) -> None:
    assert {each.dtype.kind for each in learnt["T"].weights.values()} <= {"f", "U"}
