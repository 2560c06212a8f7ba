"""Learns the sequence model from histories, and with a judge, stops where the window after them says so.

Each event predicts the user's next. A basket (events at one moment) is learnt item by item, in an order drawn anew every
epoch, and read as one step afterwards: what is bought together says much of what is bought next. On Online Retail's
validation window that took NDCG@20 on items new to the user from .070 (predicting the next basket only) to .085.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from aisle.errors import BadModel
from engine import metrics
from engine.interactions import Catalogue, Events
from engine.sequence import Histories, SequenceExport, Windows, attributes, batches
from engine.sources.sequence import Sequence
from training.sequence_model import SequenceModel, SequenceSettings, Vocabulary, exported, restore, saved, tf

PATIENCE = 3  # epochs without a better validation before training stops
JUDGED_BY = "new_ndcg@10"  # what a user had, the personal source orders better than any model of taste
DEPTH = 20
USERS = 256  # of the judge's, scored at once
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Judge:
    """Users as they stood at the cut, and what they took after it: truth (users, items), above 0 where they did."""

    events: Events
    truth: sparse.csr_array

    def figures(self, source: Sequence, users: int, seed: int) -> dict[str, float]:
        """ndcg@10 and recall@20 over the whole catalogue, and new_… over the items that a user had not bought.

        Means over a seeded sample of those `users` with a history and something to find.
        """
        some = np.flatnonzero(
            (np.diff(self.truth.indptr) > 0)
            & (np.bincount(self.events.user, minlength=self.events.n_users) > 0)
        )
        some = np.sort(np.random.default_rng(seed).permutation(some)[:users])
        found: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(some), USERS):
            block = some[start : start + USERS]
            events, truth = _of(self.events, block), self.truth[block].toarray() > 0
            scores, had = source.scores(events), events.bought().toarray() > 0
            _add(found, "", scores, truth)
            _add(found, "new_", np.where(had, -np.inf, scores), truth & ~had)
        return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def _add(found: dict[str, list[np.ndarray]], prefix: str, scores: np.ndarray, truth: np.ndarray) -> None:
    there = np.flatnonzero(truth.any(axis=1))
    wanted = sparse.csr_array(truth[there])
    hits, counts = metrics.hits_of(metrics.top_k(scores[there], DEPTH), wanted), np.diff(wanted.indptr)
    found.setdefault(f"{prefix}ndcg@10", []).append(metrics.ndcg(hits, counts, 10))
    found.setdefault(f"{prefix}recall@20", []).append(metrics.recall(hits, counts, DEPTH))


def _of(events: Events, users: np.ndarray) -> Events:
    """Those users' events; `users` ascending."""
    place = np.full(events.n_users, -1, np.int32)
    place[users] = np.arange(len(users), dtype=np.int32)
    keep = place[events.user] >= 0
    return replace(
        events,
        states=[events.states[user] for user in users],
        user=place[events.user[keep]],
        item=events.item[keep],
        weight=events.weight[keep],
        age=events.age[keep],
        countries=events.countries[users],
        sent_back=None if events.sent_back is None else events.sent_back[keep],
        purchases=None if events.purchases is None else events.purchases[keep],
    )


@dataclass(frozen=True)
class Learned:
    """export: for the engine. weights: to go on from. epochs: a row each: epoch, loss, examples, seconds, what the judge
    said. kept: the epoch whose weights these are. warm: from earlier weights."""

    export: SequenceExport
    weights: Weights
    epochs: list[dict[str, float]]
    kept: int
    warm: bool = False

    @property
    def examples_per_second(self) -> float:
        """Without the first epoch, which also traces the graph, where there is another."""
        rows = self.epochs[1:] or self.epochs
        return sum(row["examples"] for row in rows) / max(sum(row["seconds"] for row in rows), 1e-9)


def fit(
    events: Events,
    catalogue: Catalogue,
    settings: SequenceSettings,
    judge: Judge | None = None,
    start: Weights | None = None,
    progress: Callable[[str], None] = print,
) -> Learned:
    """The model of `events`, `settings.epochs` long, or with a judge as long as JUDGED_BY rises. Deterministic in data and seed.

    start: weights of an earlier model of the same sizes, to go on from; items that it lacks get rows. Only items that
    somebody had get rows at all: the others are spoken for by their attributes. Raises ValueError where no user has two
    events, and BadModel where the weights are not finite in the end.
    """
    tf.keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    vocabulary = _vocabulary(events, catalogue, start)
    model = SequenceModel(vocabulary, settings)
    if start is not None:
        restore(model, start)
    examples = Examples.of(events, catalogue, vocabulary, settings)
    random = np.random.default_rng(settings.seed)
    rows: list[dict[str, float]] = []
    best, kept = None, 0
    for epoch in range(1, settings.epochs + 1):
        rows.append({"epoch": epoch, **_epoch(model, examples, random)})
        if judge is not None:
            source = Sequence.fit(exported(model), catalogue)
            rows[-1] |= judge.figures(source, settings.judged_users, settings.seed)
        progress(" ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()))
        if judge is None or kept == 0 or rows[-1][JUDGED_BY] > rows[kept - 1][JUDGED_BY]:
            best, kept = saved(model) if judge else None, epoch
        elif epoch - kept >= PATIENCE:
            break
    if best is not None:
        restore(model, best)
    return Learned(exported(model), _finite(saved(model), settings), rows, kept, start is not None)


def _finite(weights: Weights, settings: SequenceSettings) -> Weights:
    bad = [name for name, each in weights.items() if each.dtype.kind == "f" and not np.isfinite(each).all()]
    if bad:
        raise BadModel(
            f"the sequence model's {', '.join(bad)} are not finite; nothing is registered: lower its learning rate "
            f"({settings.learning_rate:g})"
        )
    return weights


def _vocabulary(events: Events, catalogue: Catalogue, start: Weights | None) -> Vocabulary:
    """What `start` knows and is still there, then what is new, each sorted; attributes of at least two items."""
    items, names = ([], []) if start is None else (start["items"].tolist(), start["attributes"].tolist())
    items = [item for item in items if item in catalogue.index]  # what is gone is not dragged along
    had = np.unique(events.item[events.weight > 0])
    items += sorted({catalogue.item_ids[row] for row in had} - set(items))
    owned = {item: attributes(catalogue, catalogue.index[item]) for item in items if item in catalogue.index}
    count: dict[str, int] = {}
    for name in (each for some in owned.values() for each in some):
        count[name] = count.get(name, 0) + 1
    names += sorted({name for name, n in count.items() if n > 1} - set(names))
    index = {name: row for row, name in enumerate(names)}
    pairs = [
        (row, column)
        for row, item in enumerate(items)
        for column in sorted(index[name] for name in owned.get(item, []) if name in index)
    ]
    return Vocabulary(items, names, np.array(pairs, np.int64).reshape(-1, 2))


@dataclass(frozen=True)
class Examples:
    """Histories by the model's rows. user: of each event; shares: (n_items,) of each item among all answers.

    importance: float32 of each event as an answer: its weight by type, halved with age where settings say so.
    """

    histories: Histories
    user: np.ndarray
    importance: np.ndarray
    shares: np.ndarray
    settings: SequenceSettings

    @classmethod
    def of(
        cls, events: Events, catalogue: Catalogue, vocabulary: Vocabulary, settings: SequenceSettings
    ) -> Examples:
        index = {item: row for row, item in enumerate(vocabulary.items)}
        rows = np.array([index.get(item, -1) for item in catalogue.item_ids], np.int32)
        histories = Histories.of(events.user, rows[events.item], events.weight, events.age, events.n_users)
        lengths = np.diff(histories.start)
        if lengths.max(initial=0) < 2:
            raise ValueError("no user has two events: there is no order to learn")
        age = 0.0 if settings.half_life_days is None else histories.age / settings.half_life_days
        importance = (histories.weight * 0.5**age).astype(np.float32)
        first = histories.start[:-1][lengths > 0]
        answers = np.bincount(np.delete(histories.item, first), minlength=len(vocabulary.items))
        shares = (answers / answers.sum()).astype(np.float32)
        return cls(histories, np.repeat(np.arange(events.n_users), lengths), importance, shares, settings)

    def one_by_one(self, random: np.random.Generator) -> tuple[Histories, np.ndarray]:
        """The histories with each basket in a random order, every event a step of its own; and the importance
        beside: 0 for the first of a user, which answers nothing.
        """
        histories = self.histories
        order = np.lexsort((random.random(len(self.user)), histories.step, self.user))
        step = (np.arange(len(self.user)) - histories.start[self.user]).astype(np.int32)
        shuffled = Histories(
            histories.item[order], histories.weight[order], histories.age[order], step, histories.start
        )
        return shuffled, np.where(step > 0, self.importance[order], 0.0).astype(np.float32)

    def windows(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's windows [first, last): each user's events cut from the newest back, at places that change by epoch.

        The newest window of everybody comes first; where all together are more than `epoch_events`, older ones are drawn.
        """
        start, length = self.histories.start, self.settings.length
        size = np.diff(start)
        shift = np.where(size > length, random.integers(0, length, len(size)), 0)
        n = -(-(size + shift) // length)
        user = np.repeat(np.arange(len(size)), n)
        back = np.arange(len(user)) - np.repeat(np.cumsum(n) - n, n)
        last = start[user + 1] + shift[user] - back * length
        first, last = np.maximum(last - length, start[user]), np.minimum(last, start[user + 1])
        order = np.lexsort((random.random(len(user)), back > 1))
        taken = order[: np.searchsorted(np.cumsum((last - first)[order]), self.settings.epoch_events) + 1]
        return first[taken], last[taken]

    def epoch(self, random: np.random.Generator) -> Iterator[tuple[Windows, np.ndarray, np.ndarray]]:
        """Batches of an epoch, shuffled: windows, targets (-1: none) and their importance, (n, width) each."""
        histories, importance = self.one_by_one(random)
        first, last = self.windows(random)
        shuffled = random.permutation(len(first))
        first, last = first[shuffled], last[shuffled]
        chosen = list(batches(last - first, self.settings.batch_events))
        for place in random.permutation(len(chosen)):
            one = chosen[place]
            windows = histories.windows(first[one], last[one])
            answer = first[one][:, None] + np.arange(windows.item.shape[1]) + 1
            there = windows.there & (answer < histories.start[self.user[first[one]] + 1][:, None])
            answer = np.where(there, answer, 0)
            target = np.where(there, histories.item[answer], -1).astype(np.int32)
            if there.any():
                yield windows, target, importance[answer]


def _epoch(model: SequenceModel, examples: Examples, random: np.random.Generator) -> dict[str, float]:
    started, losses, seen = time.perf_counter(), [], 0
    shares = tf.constant(examples.shares)
    for windows, target, importance in examples.epoch(random):
        arrays = tuple(
            tf.constant(each) for each in (windows.item, windows.weight, windows.step, windows.there)
        )
        losses.append(float(model.train_step(arrays, tf.constant(target), tf.constant(importance), shares)))
        seen += int((target >= 0).sum())
    return {"loss": float(np.mean(losses)), "examples": seen, "seconds": time.perf_counter() - started}
