"""The Transformer over a user's events in TensorFlow, exported to the arrays of `engine.sequence`.

Trained with a sampled softmax, as in Klenitskiy and Vasilev (Turning dross into gold loss: is BERT4Rec really better than
SASRec?, 2023) and Petrov and Macdonald (gSASRec, 2023), who showed that SASRec's one negative an example is what held it
back. Negatives are shared by a batch: some drawn evenly, the others are the targets of the batch, all corrected for how
often they are drawn.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before the first import of TensorFlow
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from dataclasses import dataclass

import numpy as np

from engine.sequence import EPSILON, SequenceExport
from training.tensorflow_import import without_notices

with without_notices():
    import tensorflow as tf

STDDEV = 0.02  # of embeddings at the start, as in BERT
WIDENING = 2  # of the feed-forward layer
TABLES = {"item_table": "items", "attribute_table": "attributes"}  # with a row per id, in this order


@dataclass(frozen=True)
class Vocabulary:
    """Rows of the tables. item_attributes: (n, 2) int64 pairs of item row and attribute row, sorted."""

    items: list[str]
    attributes: list[str]
    item_attributes: np.ndarray


@dataclass(frozen=True)
class SequenceSettings:
    """Sizes and how it learns. length: newest events read; steps: distances told apart, in steps back.

    negatives: evenly drawn, per batch. batch_events: events of a batch, padding counted. epoch_events: a larger shop is
    sampled down to these in an epoch, with each user's newest events first. half_life_days: of an example's weight.
    """

    dimension: int = 64
    blocks: int = 1
    heads: int = 2
    length: int = 100
    steps: int = 50
    dropout: float = 0.3
    negatives: int = 1024
    batch_events: int = 1536
    epoch_events: int = 200_000
    epochs: int = 20
    learning_rate: float = 2e-3
    half_life_days: float | None = None
    judged_users: int = 3000
    seed: int = 7


class SequenceModel(tf.Module):
    """Variables by the names of `SequenceExport`; tables have a row per id."""

    def __init__(self, vocabulary: Vocabulary, settings: SequenceSettings):
        super().__init__()
        self.vocabulary, self.settings = vocabulary, settings
        size, blocks = settings.dimension, settings.blocks
        self.variables_by_name = {
            "item_table": _normal(len(vocabulary.items), size),
            "attribute_table": _normal(max(len(vocabulary.attributes), 1), size),
            "distances": tf.zeros((settings.steps + 1, settings.heads)),
            "strength": tf.zeros((size,)),
            "norms": tf.tile(_scale_and_shift(size), (blocks, 2, 1)),
            "last_norm": _scale_and_shift(size)[0],
        }
        for name, inside, outside in (
            ("qkv", size, 3 * size),
            ("merge", size, size),
            ("seen_gate", size, size),
            ("widen", size, 2 * WIDENING * size),
            ("narrow", WIDENING * size, size),
            ("wide_gate", size, size),
        ):
            spread = (2 / (inside + outside)) ** 0.5
            self.variables_by_name[name] = tf.random.normal((blocks, inside, outside), stddev=spread)
            self.variables_by_name[f"{name}_bias"] = tf.zeros((blocks, outside))
        self.variables_by_name = {
            name: tf.Variable(start, name=name) for name, start in self.variables_by_name.items()
        }
        self.shares = _shares(vocabulary)
        self.optimizer = tf.keras.optimizers.Adam(settings.learning_rate, beta_2=0.98)
        self.optimizer.build(self.trained)

    @property
    def trained(self) -> list[tf.Variable]:
        return list(self.variables_by_name.values())

    def item_vectors(self) -> tf.Tensor:
        """(n, size): an item's own vector and the mean of its attributes'."""
        tables = self.variables_by_name
        return tables["item_table"] + tf.sparse.sparse_dense_matmul(self.shares, tables["attribute_table"])

    def hidden(self, vectors: tf.Tensor, windows: tuple[tf.Tensor, ...], training: bool = False) -> tf.Tensor:
        """(n, width, size): as `engine.sequence.hidden`; `windows` are item, weight, step and there."""
        item, weight, step, there = windows
        weights, settings = self.variables_by_name, self.settings
        n, width, heads = tf.shape(item)[0], tf.shape(item)[1], settings.heads
        each = settings.dimension // heads

        def dropped(x: tf.Tensor) -> tf.Tensor:
            return tf.nn.dropout(x, settings.dropout) if training and settings.dropout else x

        def dense(x: tf.Tensor, name: str, block: int) -> tf.Tensor:
            kernel = weights[name][block]
            flat = tf.reshape(x, (-1, kernel.shape[0])) @ kernel + weights[f"{name}_bias"][block]
            return tf.reshape(flat, (n, width, kernel.shape[1]))

        back = step[:, :, None] - step[:, None, :]
        near = tf.gather(weights["distances"], tf.clip_by_value(back, 0, settings.steps))
        mask = tf.where((back >= 0) & there[:, None, :], 0.0, -1e9)[:, None] + tf.transpose(
            near, (0, 3, 1, 2)
        )
        x = dropped(tf.gather(vectors, item) + weight[:, :, None] * weights["strength"])
        for block in range(settings.blocks):
            norms = weights["norms"][block]
            qkv = tf.reshape(dense(_norm(x, norms[:2]), "qkv", block), (n, width, 3, heads, each))
            query, key, value = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)))
            seen = dropped(tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * each**-0.5 + mask)) @ value
            seen = tf.reshape(tf.transpose(seen, (0, 2, 1, 3)), (n, width, settings.dimension))
            x += dropped(dense(seen, "merge", block)) * tf.sigmoid(dense(x, "seen_gate", block))
            wide, gate = tf.split(dense(_norm(x, norms[2:]), "widen", block), 2, axis=-1)
            wide = dense(dropped(wide * tf.nn.silu(gate)), "narrow", block)
            x += dropped(wide) * tf.sigmoid(dense(x, "wide_gate", block))
        together = tf.cast((back == 0) & there[:, None, :], tf.float32)
        together /= tf.maximum(tf.reduce_sum(together, axis=2, keepdims=True), 1.0)
        return _norm(together @ x, weights["last_norm"])

    def loss(
        self, windows: tuple[tf.Tensor, ...], target: tf.Tensor, importance: tf.Tensor, shares: tf.Tensor
    ) -> tf.Tensor:
        """Weighted mean cross-entropy of the targets (n, width) int32, -1 where there is none.

        importance: (n, width) of each target; shares: (n_items,) of each item among all targets.
        """
        vectors = self.item_vectors()
        places = tf.where(target >= 0)
        query = tf.gather_nd(self.hidden(vectors, windows, training=True), places)
        wanted, weight = tf.gather_nd(target, places), tf.gather_nd(importance, places)
        n_items, drawn = len(self.vocabulary.items), self.settings.negatives
        sampled = tf.concat([tf.random.uniform((drawn,), 0, n_items, tf.int32), wanted], 0)
        batch = tf.cast(tf.shape(wanted)[0], tf.float32)
        expected = drawn / n_items + batch * tf.gather(shares, sampled)  # times an item is among the sampled
        others = tf.matmul(query, tf.gather(vectors, sampled), transpose_b=True) - tf.math.log(expected)
        others = tf.where(wanted[:, None] == sampled, -1e9, others)
        own = tf.reduce_sum(query * tf.gather(vectors, wanted), axis=1, keepdims=True)
        losses = tf.reduce_logsumexp(tf.concat([own, others], axis=1), axis=1) - own[:, 0]
        return tf.reduce_sum(losses * weight) / tf.maximum(tf.reduce_sum(weight), 1e-9)

    @tf.function(reduce_retracing=True)
    def train_step(
        self, windows: tuple[tf.Tensor, ...], target: tf.Tensor, importance: tf.Tensor, shares: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self.loss(windows, target, importance, shares)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trained), self.trained, strict=True))
        return loss


def _normal(rows: int, size: int) -> tf.Tensor:
    return tf.random.normal((rows, size), stddev=STDDEV)


def _scale_and_shift(size: int) -> tf.Tensor:
    return tf.stack([tf.ones(size), tf.zeros(size)])[None]


def _norm(x: tf.Tensor, scale_and_shift: tf.Tensor) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    spread = tf.math.rsqrt(tf.reduce_mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return centred * spread * scale_and_shift[0] + scale_and_shift[1]


def _shares(vocabulary: Vocabulary) -> tf.SparseTensor:
    """(n_items, n_attributes) whose product with a table is the mean over each item's attributes."""
    pairs = vocabulary.item_attributes.reshape(-1, 2)
    count = np.bincount(pairs[:, 0], minlength=len(vocabulary.items))
    shape = (len(vocabulary.items), max(len(vocabulary.attributes), 1))
    return tf.SparseTensor(pairs, (1.0 / count[pairs[:, 0]]).astype(np.float32), shape)


def saved(model: SequenceModel) -> dict[str, np.ndarray]:
    """Weights and vocabulary by name, for `np.savez`: plain arrays, no pickle."""
    names = {
        name: np.array(getattr(model.vocabulary, name), dtype=np.str_) for name in ("items", "attributes")
    }
    return {**names, **{name: each.numpy() for name, each in model.variables_by_name.items()}}


def restore(model: SequenceModel, weights: dict[str, np.ndarray]) -> None:
    """The inverse of `saved`, by id: what is new starts at zero, what the model does not know falls away."""
    for name, variable in model.variables_by_name.items():
        old = weights[name]
        if name in TABLES:
            here = getattr(model.vocabulary, TABLES[name])
            row = {known: place for place, known in enumerate(weights[TABLES[name]].tolist())}
            mine = np.array([row.get(each, -1) for each in here], np.int64)
            moved = np.zeros(variable.shape, np.float32)
            moved[: len(mine)][mine >= 0] = old[mine[mine >= 0]]
            old = moved
        variable.assign(old)


def fits(weights: dict[str, np.ndarray], settings: SequenceSettings) -> bool:
    """Whether saved weights are of the sizes that the settings ask for."""
    size, blocks = settings.dimension, settings.blocks
    return (
        weights["item_table"].shape[1] == size
        and weights["distances"].shape == (settings.steps + 1, settings.heads)
        and weights["narrow"].shape == (blocks, WIDENING * size, size)
    )


def exported(model: SequenceModel) -> SequenceExport:
    weights = {name: each.numpy() for name, each in model.variables_by_name.items()}
    item_vectors = model.item_vectors().numpy()
    del weights["item_table"]
    return SequenceExport(
        item_ids=list(model.vocabulary.items),
        item_vectors=item_vectors,
        attributes=list(model.vocabulary.attributes),
        attribute_vectors=weights.pop("attribute_table")[: len(model.vocabulary.attributes)],
        distances=weights.pop("distances"),
        strength=weights.pop("strength"),
        length=model.settings.length,
        layers=weights,
    )
