"""The two-tower of the TensorFlow Recommenders tutorial (bench/tutorial_two_tower.py), with Aisle's inputs.

Without `FactorizedTopK` inside `fit`, which ranks the catalogue for every batch and would eat the minutes of tuning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from aisle import settings
from aisle.goal import had
from bench.judging import Question
from bench.peers.base import Config, Peer
from engine.windows import Window
from training.tensorflow_import import without_notices

with without_notices():
    from bench.tutorial_two_tower import TutorialTower, tf
    from training.two_tower import seeded

FOLDS = 5  # of a history without times: each in turn is asked for from the rest
LENGTH = 50  # events of a history that a query reads
LISTS = ("item_ids", "event_types", "event_times", "quantities")


@dataclass(frozen=True)
class Frames:
    """What TutorialTower reads of a dataset: labels before `at`, each with the history before it."""

    examples: pd.DataFrame
    items: pd.DataFrame
    at: datetime

    @property
    def cuts(self) -> SimpleNamespace:
        return SimpleNamespace(V=self.at)

    def frame(self, name: str) -> pd.DataFrame:
        return {"examples": self.examples, "items_T": self.items}[name]


def examples_of(window: Window, seed: int = 7, length: int = LENGTH) -> pd.DataFrame:
    """user_id, country, event_timestamp, label_items and the `length` newest events before it, newest first.

    One row per user and day with purchases; where a whole history is of one moment, one per fold of it.
    """
    random = np.random.default_rng(seed)
    rows = []
    for user in window.histories.itertuples(index=False):
        columns = [np.asarray(getattr(user, name), dtype=object) for name in LISTS]
        times, bought = columns[2].astype(np.int64), np.isin(columns[1], had(window.goal))
        if times.min() == times.max() and len(times) > 1:
            fold = random.permutation(len(times)) % FOLDS
            moment = pd.Timestamp(window.at - timedelta(seconds=1))
            parts = [(moment, fold == each, fold != each) for each in range(min(FOLDS, len(times)))]
        else:
            day = times // 86_400
            parts = [
                (pd.Timestamp(each * 86_400, unit="s", tz="UTC"), day == each, day < each)
                for each in np.unique(day)
            ]
        for moment, asked, before in parts:
            labels = columns[0][asked & bought]
            if len(labels) and before.any():
                history = [each[before][:length].tolist() for each in columns]
                rows.append([user.user_id, user.country, moment, list(dict.fromkeys(labels)), *history])
    return pd.DataFrame(rows, columns=["user_id", "country", "event_timestamp", "label_items", *LISTS])


class Tutorial(Peer):
    READS = ("title", "categories", "price", "country")

    def grid(self, question: Question) -> Iterator[Config]:
        for examples, learning_rate in (
            (100_000, 0.003),
            (100_000, 0.001),
            (300_000, 0.003),
            (300_000, 0.001),
            (600_000, 0.001),
        ):
            yield {"examples": examples, "learning_rate": learning_rate, "dimension": 64}

    def fit(self, question: Question, config: Config) -> None:
        said = {name: config[name] for name in ("learning_rate", "dimension")}
        training = settings.load().training.model_copy(update={**said, "history_items": LENGTH})
        window = question.window
        seeded(training.seed)
        self.model = TutorialTower(Frames(examples_of(window), window.items, window.at), training)
        self.model.task.factorized_metrics = None
        self.model.fit(self.model.batches(config["examples"]), verbose=0)
        items = self.model.items
        place = pd.Index(items["item_id"]).get_indexer(question.item_ids)
        columns = {name: each[place] for name, each in items.items()}
        self.items = np.vstack(
            [
                self.model.candidate_tower(
                    {name: tf.constant(each[start : start + 4096]) for name, each in columns.items()}
                ).numpy()
                for start in range(0, len(place), 4096)
            ]
        )
        self.histories, self.at = window.histories, window.at

    def scores(self, users: np.ndarray) -> np.ndarray:
        asked = self.model._queries(self.histories.iloc[users], self.at)
        queries = self.model.query_tower({name: tf.constant(each) for name, each in asked.items()})
        return queries.numpy() @ self.items.T
