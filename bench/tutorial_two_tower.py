"""The two-tower as the TensorFlow Recommenders retrieval tutorial builds it, with Aisle's inputs: the peer of `bench/training.py`.

After "Recommending movies: retrieval" (tensorflow.org/recommenders/examples/basic_retrieval) and its sequel on context features:
StringLookup and Embedding in each tower, a Retrieval task with FactorizedTopK over the candidates, `model.fit` on batches of strings.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_recommenders as tfrs

from aisle.settings import Training
from training import towers
from training.dataset import Dataset
from training.judge import Judge
from training.two_tower import COUNTRY_SIZE, HIDDEN
from training.vocabulary import MAX_WORDS, Vocabulary, queries

Keras = tf.keras
TEMPERATURE = 0.1


def _mlp(size: int) -> tf.keras.Sequential:
    layers = Keras.layers
    return Keras.Sequential(
        [
            layers.Dense(HIDDEN, activation="relu"),
            layers.Dense(size),
            layers.Lambda(lambda x: tf.math.l2_normalize(x, axis=1)),
        ]
    )


class QueryTower(Keras.Model):
    """history (b, L) strings and their weights, country, log of the history's length -> (b, size)."""

    def __init__(self, items: list[str], countries: list[str], size: int):
        super().__init__()
        self.ids = Keras.Sequential(
            [
                Keras.layers.StringLookup(vocabulary=items, mask_token=""),
                Keras.layers.Embedding(len(items) + 2, size),
            ]
        )
        self.countries = Keras.Sequential(
            [
                Keras.layers.StringLookup(vocabulary=countries),
                Keras.layers.Embedding(len(countries) + 1, COUNTRY_SIZE),
            ]
        )
        self.mlp = _mlp(size)

    def call(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        pooled = tf.einsum("bl,bld->bd", rows["weights"], self.ids(rows["history"]))
        return self.mlp(
            tf.concat([pooled, self.countries(rows["country"]), rows["log_count"][:, None]], axis=1)
        )


class CandidateTower(Keras.Model):
    """item id, title, category and log price -> (b, size)."""

    def __init__(self, items: list[str], titles: list[str], categories: list[str], size: int):
        super().__init__()
        words = Keras.layers.TextVectorization(output_sequence_length=MAX_WORDS)
        words.adapt(titles)
        self.ids = Keras.Sequential(
            [Keras.layers.StringLookup(vocabulary=items), Keras.layers.Embedding(len(items) + 1, size)]
        )
        self.words = Keras.Sequential(
            [
                words,
                Keras.layers.Embedding(words.vocabulary_size(), size, mask_zero=True),
                Keras.layers.GlobalAveragePooling1D(),
            ]
        )
        self.categories = Keras.Sequential(
            [
                Keras.layers.StringLookup(vocabulary=categories),
                Keras.layers.Embedding(len(categories) + 1, size),
            ]
        )
        self.mlp = _mlp(size)

    def call(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        parts = [
            self.ids(rows["item_id"]),
            self.words(rows["title"]),
            self.categories(rows["category"]),
            rows["log_price"][:, None],
        ]
        return self.mlp(tf.concat(parts, axis=1))


class TutorialTower(tfrs.Model):
    """Compiled and ready for `fit`; learns the labels before V, knows the catalogue at T."""

    def __init__(self, dataset: Dataset, training: Training):
        super().__init__()
        self.dataset, self.training = dataset, training
        examples, items = dataset.frame("examples"), dataset.frame("items_T").drop_duplicates("item_id")
        self.vocabulary = Vocabulary.of(items["item_id"], examples["country"])
        self.items = _item_columns(items)
        known, size = self.vocabulary, training.dimension
        # A set without countries has one that nobody comes from: Keras wants a word.
        self.query_tower = QueryTower(known.items.tolist(), known.countries.tolist() or ["none"], size)
        categories = sorted(set(self.items["category"]))
        self.candidate_tower = CandidateTower(
            known.items.tolist(), self.items["title"].tolist(), categories, size
        )
        catalogue = (
            tf.data.Dataset.from_tensor_slices(self.items)
            .batch(128)
            .map(lambda rows: (rows["item_id"], self.candidate_tower(rows)))
        )
        self.task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                candidates=tfrs.layers.factorized_top_k.Streaming().index_from_dataset(catalogue)
            ),
            temperature=TEMPERATURE,
            remove_accidental_hits=True,
        )
        self.compile(optimizer=Keras.optimizers.Adam(training.learning_rate))

    def compute_loss(self, rows: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.task(self.query_tower(rows), self.candidate_tower(rows), candidate_ids=rows["item_id"])

    def batches(self, examples: int) -> tf.data.Dataset:
        """`examples` labels before V, drawn by the same weight of age, each with its history; shuffled batches of strings."""
        rows = self.dataset.frame("examples")
        rows = rows[rows["event_timestamp"].lt(self.dataset.cuts.V)].reset_index(drop=True)
        asked = self._queries(rows, list(pd.DatetimeIndex(rows["event_timestamp"]).to_pydatetime()))
        labels = rows["label_items"].explode()
        labels = labels[labels.isin(self.vocabulary.items)]
        age = (rows["event_timestamp"].max() - rows["event_timestamp"]).dt.days[labels.index]
        chance = 0.5 ** (age.to_numpy() / towers.LABEL_HALF_LIFE_DAYS)
        random = np.random.default_rng(self.training.seed)
        drawn = random.choice(len(labels), examples, p=chance / chance.sum())
        places = pd.Index(self.items["item_id"]).get_indexer(labels.to_numpy()[drawn])
        owners = labels.index.to_numpy()[drawn]
        columns = {name: tf.constant(each) for name, each in asked.items()}
        catalogue = {name: tf.constant(each) for name, each in self.items.items()}

        def whole(owner: tf.Tensor, place: tf.Tensor) -> dict[str, tf.Tensor]:
            return {name: tf.gather(each, owner) for name, each in columns.items()} | {
                name: tf.gather(each, place) for name, each in catalogue.items()
            }

        pairs = tf.data.Dataset.from_tensor_slices((owners, places)).map(whole)
        return (
            pairs.shuffle(10_000, seed=self.training.seed)
            .batch(self.training.batch_size, drop_remainder=True)
            .cache()
        )

    def judged(self) -> dict[str, float]:
        """recall@20 and ndcg@10 of the same validation users as Aisle's tower, ranked over the same items."""
        judge = Judge.of(self.dataset, self.training)
        return dict(judge.figures(*self._vectors(judge.users, judge.item_ids)))

    def _queries(self, histories: pd.DataFrame, moments) -> dict[str, np.ndarray]:
        found = queries(self.vocabulary, histories, moments, self.training)
        names = np.array(["", *self.vocabulary.items], dtype=str)
        country = histories["country"].fillna("").to_numpy(dtype=str)
        return {
            "history": names[found.items],
            "weights": found.weights,
            "country": country,
            "log_count": found.log_count,
        }

    def _vectors(self, histories: pd.DataFrame, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(users, dimension) and (len(ids), dimension); their products order a list."""
        asked = self.query_tower(
            {name: tf.constant(each) for name, each in self._queries(histories, self.dataset.cuts.V).items()}
        )
        places = pd.Index(self.items["item_id"]).get_indexer(ids)
        offered = self.candidate_tower({name: tf.constant(each[places]) for name, each in self.items.items()})
        return asked.numpy(), offered.numpy()


def _item_columns(items: pd.DataFrame) -> dict[str, np.ndarray]:
    first = items["categories"].map(lambda path: str(path[0]) if len(path) else "")
    return {
        "item_id": items["item_id"].to_numpy(dtype=str),
        "title": items["title"].fillna("").replace("", "untitled").to_numpy(dtype=str),
        "category": first.to_numpy(dtype=str),
        "log_price": np.log1p(items["price"].astype(float).fillna(0)).to_numpy(np.float32),
    }
