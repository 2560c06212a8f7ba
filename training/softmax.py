"""What the two-tower minimises: how unlikely the wanted items are in a softmax over the catalogue, or over a sample of it."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_recommenders as tfrs


class CatalogueSoftmax(tf.keras.layers.Layer, tfrs.tasks.Task):
    """The sampled softmax with a uniform sample that all queries of a batch share (Jean et al. 2015; Wu et al. 2022).

    In-batch negatives come as often as they are bought and need a correction, which is noisy for the rare; a uniform sample
    needs none, and where it is the whole catalogue the softmax is exact.
    """

    def __init__(self, temperature: float):
        super().__init__(name="catalogue_softmax")
        self.temperature = temperature

    def call(
        self,
        queries: tf.Tensor,
        wanted: tf.Tensor,
        others: tf.Tensor,
        rows: tf.Tensor,
        sample: tf.Tensor,
        share: tf.Tensor,
    ) -> tf.Tensor:
        """Mean negative log-likelihood, a scalar.

        queries (b, d); wanted (b * g, d), g in a row for each query, the items at `rows`; others (s, d), those at `sample`,
        distinct; share: of the catalogue that the sample is.
        """
        of_query = tf.reshape(wanted, (tf.shape(queries)[0], -1, tf.shape(queries)[1]))
        liked = tf.reshape(tf.einsum("bd,bgd->bg", queries, of_query), (-1,)) / self.temperature
        logits = tf.matmul(queries, others, transpose_b=True) / self.temperature
        total = tf.repeat(tf.reduce_logsumexp(logits, axis=1), tf.shape(of_query)[1])
        # The catalogue's sum is estimated as the item itself and the other items of the sample, each for 1 / share of them.
        inside = tf.cast(tf.reduce_any(rows[:, None] == sample[None, :], axis=1), tf.float32)
        most = tf.maximum(total, liked)
        weighed = tf.exp(total - most) / share + (1.0 - inside / share) * tf.exp(liked - most)
        return tf.reduce_mean(most - liked + tf.math.log(tf.maximum(weighed, 1e-12)))
