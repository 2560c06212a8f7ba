"""A two-tower retrieval model (TensorFlow Recommenders), trained on integer ids and exported to NumPy.

Query tower: what the history's items say, pooled, and what an MLP adds to it from that, the country and how much history there
is -> unit vector. Candidate tower: an item's own vector, its words', its categories', and what an MLP adds from these and the
price; its length is free, for some items are liked by many. Both are linear where they start, so that they can start where
the truncated SVD of who bought what ends (training/tower_start.py). The loss is a softmax over the catalogue (training/softmax.py).

Fast on a CPU because nothing is looked up by string, a basket's history is stored once and gathered, one sample of the catalogue
serves all queries of a batch, and an epoch is one call into the graph.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before the first import of TensorFlow, or TFRS refuses
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd

from aisle.settings import Training
from engine.towers import TowerExport
from training.tensorflow_import import without_notices
from training.vocabulary import CATEGORY_BUCKETS, WORD_BUCKETS, ItemInputs, Vocabulary

with without_notices():
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    from training.softmax import CatalogueSoftmax

HIDDEN = 128
COUNTRY_SIZE = 8
TEMPERATURE = 0.125
ID_DROPOUT = (
    0.1  # share of candidates shown without their id, so that an item nobody bought yet gets a vector
)


def seeded(seed: int) -> None:
    """The same data and seed give the same weights, bit by bit."""
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


class TwoTower(tfrs.Model):
    """Both towers over one vocabulary. Tables have a row per id, row 0 (padding, unknown) stays zero."""

    def __init__(self, vocabulary: Vocabulary, inputs: ItemInputs, settings: Training):
        super().__init__()
        self.vocabulary, self.settings = vocabulary, settings
        size = settings.dimension
        self.described = bool(inputs.words.any() or inputs.categories.any())  # else all that is spared
        # Ids start at zero: what was never trained says nothing, and words, categories and price speak for it.
        self.item_table = self._table("item", len(vocabulary.items) + 1, size, zero=True)
        self.history_table = self._table("history", len(vocabulary.items) + 1, size, zero=True)
        self.country_table = self._table("country", len(vocabulary.countries) + 1, COUNTRY_SIZE, zero=True)
        self.word_table = self._table("word", WORD_BUCKETS, size, trainable=self.described)
        self.category_table = self._table("category", CATEGORY_BUCKETS, size, trainable=self.described)
        self.query_tower = _mlp("query", size + COUNTRY_SIZE + 1, size)
        self.item_tower = _mlp("candidate", 2 * size + 1, size)
        self.task = CatalogueSoftmax(TEMPERATURE)
        self.words = _means(inputs.words, WORD_BUCKETS)
        self.categories = _means(inputs.categories, CATEGORY_BUCKETS)
        self.log_price = tf.constant(inputs.log_price[:, None])
        self.compile(optimizer=tf.keras.optimizers.Adam(settings.learning_rate))
        self.optimizer.build(self.trainable_variables)  # a graph must not make variables of its own

    def _table(
        self, name: str, rows: int, size: int, zero: bool = False, trainable: bool = True
    ) -> tf.Variable:
        start = tf.zeros((rows, size)) if zero else tf.random.normal((rows, size), stddev=0.05)
        return tf.Variable(start, trainable=trainable, name=f"{name}_table")

    def item_features(self) -> tf.Tensor | None:
        """(n + 1, 2 size): the mean of an item's word vectors beside the mean of its categories'. Once a step for all items.

        None where no item has a word or a category.
        """
        if not self.described:
            return None
        words = tf.sparse.sparse_dense_matmul(self.words, self.word_table)
        return tf.concat([words, tf.sparse.sparse_dense_matmul(self.categories, self.category_table)], axis=1)

    def candidates(self, rows: tf.Tensor, features: tf.Tensor | None, training: bool = False) -> tf.Tensor:
        """(b, size) vectors of the items at `rows`, of any length; `features` is `item_features()`."""
        ids = tf.gather(self.item_table, rows)
        if training:
            # One draw an item and step: a wanted item must be the same vector as its copy in the sample, see training/softmax.py.
            kept = tf.random.uniform((tf.shape(self.item_table)[0], 1)) >= ID_DROPOUT
            ids = ids * tf.cast(tf.gather(kept, rows), tf.float32)
        none = tf.zeros((tf.shape(rows)[0], 2 * self.settings.dimension))
        said = none if features is None else tf.gather(features, rows)
        words, categories = tf.split(said, 2, axis=1)
        return (
            ids + words + categories + self.item_tower(tf.concat([said, tf.gather(self.log_price, rows)], 1))
        )

    def history_vectors(self, features: tf.Tensor | None) -> tf.Tensor:
        """(n + 1, size): what the query tower reads of an item in a history: its id and its words."""
        if features is None:
            return tf.convert_to_tensor(self.history_table)
        return self.history_table + features[:, : self.settings.dimension]

    def queries(self, query: tuple[tf.Tensor, ...], features: tf.Tensor | None) -> tf.Tensor:
        """(b, size) unit vectors of users at a moment; `query` are the arrays of `Queries`."""
        items, weights, countries, log_count = query
        # As a sparse product: histories are of all lengths, and gathered vectors would be mostly padding.
        place = tf.where(tf.not_equal(weights, 0.0))
        read = tf.stack([place[:, 0], tf.cast(tf.gather_nd(items, place), tf.int64)], axis=1)
        shape = tf.stack([tf.shape(items, tf.int64)[0], tf.shape(self.history_table, tf.int64)[0]])
        histories = tf.SparseTensor(read, tf.gather_nd(weights, place), shape)
        pooled = tf.sparse.sparse_dense_matmul(histories, self.history_vectors(features))
        inputs = tf.concat([pooled, tf.gather(self.country_table, countries), log_count[:, None]], axis=1)
        return tf.math.l2_normalize(pooled + self.query_tower(inputs), axis=1)

    def compute_loss(self, batch: tuple, training: bool = False) -> tf.Tensor:
        """batch: (arrays of b queries), (b * g,) item rows, g in a row for each query, (s,) rows of a sample of what was bought
        and its share of that."""
        query, rows, sample, share = batch
        features = self.item_features()
        vectors = self.candidates(tf.concat([rows, sample], axis=0), features, training=training)
        wanted, others = tf.split(vectors, [tf.shape(rows)[0], tf.shape(sample)[0]])
        return self.task(self.queries(query, features), wanted, others, rows, sample, share)


def _means(buckets: np.ndarray, size: int) -> tf.SparseTensor:
    """(n, size) whose product with a table of vectors is the mean over each row's buckets (0 = none, zeros if all are)."""
    row, place = np.nonzero(buckets)
    share = 1.0 / np.maximum((buckets > 0).sum(axis=1), 1)
    indices = np.stack([row, buckets[row, place]], axis=1).astype(np.int64)
    # A title may name a word twice: one entry per (row, bucket), or the sparse product is undefined.
    distinct, which = np.unique(indices, axis=0, return_inverse=True)
    values = np.bincount(which.ravel(), weights=share[row], minlength=len(distinct))
    return tf.SparseTensor(distinct.reshape(-1, 2), values.astype(np.float32), (len(buckets), size))


def _mlp(name: str, width: int, size: int) -> tf.keras.Sequential:
    """Its last layer starts at zero: it adds nothing yet to what is beside it."""
    layers = tf.keras.layers
    tower = tf.keras.Sequential(
        [layers.Dense(HIDDEN, activation="relu"), layers.Dense(size, kernel_initializer="zeros")], name=name
    )
    tower.build((None, width))
    return tower


def saved(model: TwoTower) -> dict[str, np.ndarray]:
    """Weights and vocabulary by name, for `np.savez`: plain arrays, no pickle."""
    tables = {each.name.split(":")[0]: each.numpy() for each in _tables(model)}
    dense = {
        f"{tower.name}/{i}": each for tower in _towers(model) for i, each in enumerate(tower.get_weights())
    }
    names = {"items": model.vocabulary.items, "countries": model.vocabulary.countries}
    return {
        **tables,
        **dense,
        **{f"names/{key}": np.array(list(each), dtype=str) for key, each in names.items()},
    }


def vocabulary_of(weights: dict[str, np.ndarray]) -> Vocabulary:
    return Vocabulary(
        *(pd.Index(weights[f"names/{key}"].tolist(), dtype=object) for key in ("items", "countries"))
    )


def restore(model: TwoTower, weights: dict[str, np.ndarray]) -> None:
    """Puts saved weights back, by id: what is new stays as it starts, what the model does not know falls away."""
    known, rows = vocabulary_of(weights), {}
    rows[model.country_table.name] = known.country_rows(model.vocabulary.countries)
    for table in (model.item_table, model.history_table):
        rows[table.name] = known.item_rows(model.vocabulary.items)
    for table in _tables(model):
        old, mine = weights[table.name.split(":")[0]], rows.get(table.name)
        if mine is not None:
            there = np.concatenate([[True], mine > 0])  # row 0 is what is unknown to both
            old = np.where(there[:, None], old[np.concatenate([[0], mine])], table.numpy())
        table.assign(old)
    for tower in _towers(model):
        tower.set_weights([weights[f"{tower.name}/{i}"] for i in range(len(tower.get_weights()))])


def fits(model: TwoTower, weights: dict[str, np.ndarray]) -> bool:
    """Whether saved weights are of this form of the model: an older Aisle's had MLPs of other widths."""
    return all(
        weights[f"{tower.name}/{i}"].shape == each.shape
        for tower in _towers(model)
        for i, each in enumerate(tower.get_weights())
    )


def _tables(model: TwoTower) -> list[tf.Variable]:
    return [
        model.item_table,
        model.history_table,
        model.country_table,
        model.word_table,
        model.category_table,
    ]


def _towers(model: TwoTower) -> list[tf.keras.Sequential]:
    return [model.query_tower, model.item_tower]


def exported(model: TwoTower, item_ids: list[str]) -> TowerExport:
    """Both towers as arrays over `item_ids`, which the vocabulary must know. The longest item vector gets length 1."""
    features, rows = model.item_features(), model.vocabulary.item_rows(item_ids)
    vectors = model.candidates(tf.constant(rows), features).numpy()
    vectors /= max(float(np.linalg.norm(vectors, axis=1).max(initial=0.0)), 1e-9)
    return TowerExport(
        item_ids=list(item_ids),
        item_vectors=vectors,
        history_embeddings=model.history_vectors(features).numpy()[rows],
        countries=list(model.vocabulary.countries),
        country_embeddings=model.country_table.numpy(),
        layers=_layers(model),
        half_life_days=model.settings.history_half_life_days,
        history_items=model.settings.history_items,
        event_weights=dict(model.settings.event_weights),
    )


def _layers(model: TwoTower) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The query tower as two dense layers: what goes past its MLP goes through them as relu(x) - relu(-x)."""
    size = model.settings.dimension
    first, bias, second, last = (each.numpy() for each in model.query_tower.trainable_variables)
    past = np.eye(len(first), size, dtype=np.float32)
    back = np.eye(size, dtype=np.float32)
    return [
        (np.hstack([first, past, -past]), np.pad(bias, (0, 2 * size)), "relu"),
        (np.vstack([second, back, -back]), last, "linear"),
    ]
