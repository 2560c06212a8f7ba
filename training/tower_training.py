"""The training loop of the two-tower: an epoch is one call into the graph, and validation ranks the whole catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from training.two_tower import TwoTower, restore, saved, tf
from training.vocabulary import Pairs, Queries

EXAMPLES_PER_EPOCH = 60_000  # drawn anew each epoch; a large shop is sampled, a small one is read whole
EXAMPLES_PER_ITEM = 3  # of an epoch at least, where there are so many
SAMPLE = 4_096  # items that an example's are told from; a smaller catalogue is taken whole
ITEMS_PER_EXAMPLE = 10  # a step moves every item's vector, so a large catalogue's batches grow with it
GROUP = 4  # items per query in a batch: reading a history costs more than an item, so one reading serves four
PATIENCE = 2  # epochs without a better validation before training stops
Judging = Callable[[TwoTower], Mapping[str, float]]


@dataclass(frozen=True)
class Learned:
    """One row per epoch: epoch, loss, examples, seconds and what the judge said; which epoch was kept; whether from weights
    of an earlier run."""

    epochs: list[dict[str, float]]
    kept: int
    warm: bool = False

    @property
    def examples_per_second(self) -> float:
        """Without the first epoch, which also traces the graph, where there is another."""
        rows = self.epochs[1:] or self.epochs
        return sum(row["examples"] for row in rows) / max(sum(row["seconds"] for row in rows), 1e-9)


@tf.function(reduce_retracing=True)
def _epoch(
    model: TwoTower, places: tf.Tensor, histories: tuple[tf.Tensor, ...], pairs: tuple[tf.Tensor, ...]
) -> tf.Tensor:
    """Mean loss over the steps of an epoch. places: (steps, queries, GROUP) of `pairs` (query, item, rows that were bought)."""
    which, item, sold = pairs
    size = tf.minimum(tf.shape(sold)[0], SAMPLE)
    share = tf.cast(size, tf.float32) / tf.cast(tf.shape(sold)[0], tf.float32)
    total = tf.constant(0.0)
    for step in tf.range(tf.shape(places)[0]):
        query, rows = tf.gather(which, places[step][:, 0]), tf.gather(item, tf.reshape(places[step], [-1]))
        batch = (
            tuple(tf.gather(each, query) for each in histories),
            rows,
            tf.random.shuffle(sold)[:size],
            share,
        )
        total += model.train_step(batch)["total_loss"]
    return total / tf.cast(tf.shape(places)[0], tf.float32)


def _tensors(
    model: TwoTower, queries: Queries, pairs: Pairs
) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
    histories = (queries.items, queries.weights, queries.countries, queries.log_count)
    return tuple(map(tf.constant, histories)), tuple(
        map(tf.constant, (pairs.query, pairs.item, np.unique(pairs.item)))
    )


def _drawn(
    pairs: Pairs, batch: int, random: np.random.Generator, most: int = EXAMPLES_PER_EPOCH
) -> np.ndarray:
    """An epoch's places of pairs, (steps, batch / GROUP, GROUP) int32; those of a row belong to one query.

    Leaders are drawn by weight without repetition (Gumbel top-k), each with GROUP - 1 random others of its basket.
    """
    wanted = max(min(len(pairs), most) // batch, 1) * batch // GROUP
    keys = np.log(pairs.weight) + random.gumbel(size=len(pairs))
    leaders = random.permutation(np.argpartition(-keys, min(wanted, len(pairs)) - 1)[:wanted])
    first = np.searchsorted(pairs.query, pairs.query[leaders])
    size = np.searchsorted(pairs.query, pairs.query[leaders], side="right") - first
    others = first[:, None] + (random.random((len(leaders), GROUP - 1)) * size[:, None]).astype(np.int64)
    return (
        np.concatenate([leaders[:, None], others], axis=1).reshape(-1, batch // GROUP, GROUP).astype(np.int32)
    )


def learn(
    model: TwoTower,
    queries: Queries,
    pairs: Pairs,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    judge: Judging | None = None,
    by: str = "ndcg@10",
) -> Learned:
    """Trains in place. With a judge, stops when `by` stops rising and keeps the best epoch's weights."""
    if not len(pairs):
        return Learned([], 0)
    random = np.random.default_rng(seed)
    items = len(np.unique(pairs.item))
    wanted = max(model.settings.batch_size, items // ITEMS_PER_EXAMPLE)
    batch = max(min(wanted, len(pairs)) // GROUP, 1) * GROUP
    most = max(EXAMPLES_PER_EPOCH, EXAMPLES_PER_ITEM * items)
    model.optimizer.learning_rate.assign(learning_rate)
    tensors, rows, best, kept = _tensors(model, queries, pairs), [], None, 0
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        places = _drawn(pairs, batch, random, most)
        loss = float(_epoch(model, tf.constant(places), *tensors))
        row = {
            "epoch": epoch,
            "loss": loss,
            "examples": places.size,
            "seconds": time.perf_counter() - started,
        }
        rows.append({**row, **(judge(model) if judge else {})})
        if judge is None or kept == 0 or rows[-1][by] > rows[kept - 1][by]:
            best, kept = saved(model) if judge else None, epoch
        elif epoch - kept >= PATIENCE:
            break
    if best is not None:
        restore(model, best)
    return Learned(rows, kept)
