"""The two-tower: arrays in, the same arrays out of TensorFlow and NumPy, the same weights for the same seed."""

from __future__ import annotations

import os
import shutil
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
from training import models, towers
from training.dataset import Dataset
from training.softmax import CatalogueSoftmax
from training.tower_start import svd
from training.tower_training import GROUP, _drawn
from training.two_tower import TwoTower, exported, restore, seeded, tf, vocabulary_of
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


def test_a_vocabulary_has_a_row_an_id_and_one_for_the_unknown() -> None:
    found = Vocabulary.of(["b", "a", "c", "a"], ["France", None, "Eire"])
    assert found.items.tolist() == ["a", "b", "c"]
    assert found.item_rows(["b", "c", "unheard of"]).tolist() == [2, 3, 0]
    assert found.country_rows(["France", "Eire", None]).tolist() == [2, 1, 0]


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
    users = model.queries(arrays, model.item_features()).numpy()
    assert np.abs(users - ours).max() < 1e-4
    free = model.candidates(
        tf.constant(vocabulary.item_rows(tower.export.item_ids)), model.item_features()
    ).numpy()
    longest = np.linalg.norm(free, axis=1).max()
    assert np.abs(users @ free.T / longest - ours @ tower.export.item_vectors.T).max() < 1e-4
    assert np.linalg.norm(tower.export.item_vectors, axis=1).max() == pytest.approx(1.0, abs=1e-5)


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


def test_the_tower_of_a_cut_knows_nothing_of_later(dataset, learnt, training, tmp_path) -> None:
    """Other prices, titles, items and labels from R on: the tower of R is the same to the last bit, those after it are not."""
    shutil.copytree(dataset.folder, tmp_path / "dataset")
    later = Dataset.load(tmp_path / "dataset")
    for name in ("V", "T"):
        items = later.frame(f"items_{name}")
        more = items.head(7).assign(item_id=[f"0 later {row}" for row in range(7)])
        items = pd.concat([items.assign(price=items["price"] * 10, title="other words"), more])
        items.to_parquet(later.folder / f"items_{name}.parquet", index=False)
    examples = later.frame("examples")
    known = examples[examples["event_timestamp"].lt(dataset.cuts.R)]
    rest = examples[examples["event_timestamp"].ge(dataset.cuts.R)].assign(country="Atlantis").iloc[::2]
    pd.concat([known, rest]).to_parquet(later.folder / "examples.parquet", index=False)
    found = towers.fit(later, training, progress=lambda line: None)
    for name, each in learnt["R"].weights.items():
        np.testing.assert_array_equal(each, found["R"].weights[name], err_msg=name)
    np.testing.assert_array_equal(learnt["R"].export.item_vectors, found["R"].export.item_vectors)
    assert not np.array_equal(learnt["V"].weights["word_table"], found["V"].weights["word_table"])


def test_weights_go_to_another_vocabulary_by_id(dataset, learnt, training) -> None:
    """What both know keeps its vectors wherever it stands, what is new starts fresh, what is gone is not dragged along."""
    items = dataset.frame("items_R").iloc[5:]
    new = items.head(1).assign(item_id="0 new")
    vocabulary = Vocabulary.of(["0 new", *items["item_id"]], ["Atlantis", "France"])
    model = TwoTower(vocabulary, item_inputs(vocabulary, pd.concat([new, items])), training)
    restore(model, learnt["R"].weights)
    known = vocabulary_of(learnt["R"].weights)
    for table, name in ((model.item_table, "item_table"), (model.history_table, "history_table")):
        old = learnt["R"].weights[name]
        np.testing.assert_array_equal(
            table.numpy()[vocabulary.item_rows(items["item_id"])], old[known.item_rows(items["item_id"])]
        )
        assert not table.numpy()[vocabulary.item_rows(["0 new"])].any()
    old = learnt["R"].weights["country_table"]
    np.testing.assert_array_equal(
        model.country_table.numpy(), [old[0], 0 * old[0], old[known.country_rows(["France"])[0]]]
    )


def test_it_learns(learnt) -> None:
    first = learnt["R"]
    assert first.learned.epochs[-1]["loss"] < first.learned.epochs[0]["loss"]
    assert first.learned.epochs[-1]["recall@20"] > 0


def test_weights_go_through_a_file_without_pickle(learnt, tmp_path) -> None:
    np.savez_compressed(tmp_path / "tower.npz", **learnt["T"].weights)
    found = models.read(tmp_path / "tower.npz")
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


def two_camps() -> tuple[np.ndarray, Pairs]:
    """Users 0 to 39 buy among items 1 to 10, users 40 to 79 among items 11 to 20: six each."""
    random = np.random.default_rng(3)
    query = np.repeat(np.arange(80), 6).astype(np.int32)
    item = np.concatenate([random.permutation(10)[:6] + (1 if user < 40 else 11) for user in range(80)])
    return np.arange(80), Pairs(query, item.astype(np.int32), np.ones(len(query)))


def test_the_start_knows_who_buys_what() -> None:
    people, bought = two_camps()
    rows, candidates, history = svd(people, bought, size=4, seed=1)
    assert rows.tolist() == list(range(1, 21))
    scores = history @ candidates.T
    assert scores[:10, :10].mean() > scores[:10, 10:].mean() + 0.5
    assert scores[10:, 10:].mean() > scores[10:, :10].mean() + 0.5


def test_a_small_shop_has_fewer_directions_than_numbers() -> None:
    rows, candidates, history = svd(
        np.zeros(2, int), Pairs(np.array([0, 1]), np.array([5, 3]), np.ones(2)), 8, 1
    )
    assert rows.tolist() == [3, 5]
    assert candidates.shape == history.shape == (2, 8)
    assert not candidates[:, 1:].any()
    assert np.isfinite(candidates).all()
    assert np.isfinite(history).all()


@pytest.mark.parametrize("how", ["svd", "nothing"])
def test_what_nobody_bought_starts_at_zero(training, how) -> None:
    from training.tower_start import start

    people, bought = two_camps()
    items = pd.DataFrame(
        {"item_id": [f"{i:02d}" for i in range(25)], "title": "", "price": 1.0, "brand": None}
    )
    items["categories"] = [[]] * 25
    vocabulary = Vocabulary.of(items["item_id"], [])
    model = TwoTower(
        vocabulary, item_inputs(vocabulary, items), training.model_copy(update={"tower_start": how})
    )
    start(model, people, bought)
    for table in (model.item_table.numpy(), model.history_table.numpy()):
        assert table[1:21].any(axis=1).all()
        assert not table[[0, *range(21, 26)]].any()


def test_over_the_whole_catalogue_the_loss_is_the_softmax() -> None:
    random = np.random.default_rng(0)
    users, items = (random.normal(size=(n, 4)).astype(np.float32) for n in (3, 9))
    wanted = np.array([2, 5, 0, 0, 8, 7], np.int32)  # two of each user
    logits = users @ items.T / 0.5
    owner = np.repeat(np.arange(3), 2)
    expected = (np.log(np.exp(logits).sum(axis=1))[owner] - logits[owner, wanted]).mean()
    task = CatalogueSoftmax(0.5)
    everything = np.arange(9, dtype=np.int32)
    found = task(*map(tf.constant, (users, items[wanted], items, wanted, everything)), tf.constant(1.0))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    half = np.array([1, 2, 3, 5, 6], np.int32)
    told = [
        np.log1p(
            9
            / 5
            * (np.exp(logits[user, half]).sum() - np.exp(logits[user, item]) * (item in half))
            / np.exp(logits[user, item])
        )
        for user, item in zip(owner, wanted, strict=True)
    ]
    found = task(*map(tf.constant, (users, items[wanted], items[half], wanted, half)), tf.constant(5 / 9))
    assert float(found) == pytest.approx(np.mean(told), rel=1e-5)


def test_weights_of_an_older_form_are_learnt_anew(dataset, learnt, training) -> None:
    old = dict(learnt["T"].weights)
    old["candidate/0"] = np.pad(old["candidate/0"], ((0, 16), (0, 0)))
    tower = towers.continued(old, dataset, dataset.cuts.T, "T", training)
    assert len(tower.learned.epochs) == towers.ANEW_EPOCHS
    assert tower.export.item_ids == learnt["T"].export.item_ids
    again = towers.continued(tower.weights, dataset, dataset.cuts.T, "A", training)
    assert len(again.learned.epochs) == towers.WARM_EPOCHS


def test_weights_that_are_not_finite_are_refused(dataset, training) -> None:
    with pytest.raises(BadModel, match="not finite"):
        towers.fit(dataset, training.model_copy(update={"learning_rate": 1e30}), progress=lambda line: None)


def test_saved_weights_hold_only_numbers_and_names(learnt) -> None:
    assert {each.dtype.kind for each in learnt["T"].weights.values()} <= {"f", "U"}
