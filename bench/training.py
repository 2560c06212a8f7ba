"""`make bench-training`: the two-tower's training speed and recall against the TFRS tutorial's way of training the same model.

The tutorial's way: the same inputs, width, batch size, optimiser and loss, but ids, words and countries are looked up by string
layers inside the towers, each example carries its history, and `FactorizedTopK` ranks the catalogue inside `fit`. Both learn
from as many labels, drawn alike, and are ranked by the same judge on the same validation days. Reads the shipped invoices; no services.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pandas as pd

from aisle import settings
from aisle.settings import Training
from bench.report import Figure, publish
from bench.tutorial_two_tower import TutorialTower
from tests.training.frames import write_dataset
from training import towers
from training.dataset import Dataset
from training.judge import Judge
from training.tower_start import start
from training.tower_training import Learned, learn
from training.two_tower import TwoTower, seeded
from training.vocabulary import Vocabulary, item_inputs, pairs, queries

TARGET_RATIO = 10.0


def ours(dataset: Dataset, training: Training) -> Learned:
    """As `train.fit` learns up to V."""
    examples, items = dataset.frame("examples"), dataset.frame("items_T")
    rows = examples[examples["event_timestamp"].lt(dataset.cuts.V)].reset_index(drop=True)
    vocabulary = Vocabulary.of(items["item_id"], examples["country"])
    seeded(training.seed)
    model = TwoTower(vocabulary, item_inputs(vocabulary, items), training)
    asked = queries(
        vocabulary, rows, list(pd.DatetimeIndex(rows["event_timestamp"]).to_pydatetime()), training
    )
    labels = pairs(vocabulary, rows, towers.LABEL_HALF_LIFE_DAYS)
    start(model, pd.factorize(rows["user_id"])[0], labels)
    judge = towers.judging(Judge.of(dataset, training), dataset.cuts.V, vocabulary, training)
    rate, seed = training.learning_rate, training.seed
    return learn(model, asked, labels, epochs=training.epochs, learning_rate=rate, seed=seed, judge=judge)


def tutorial(dataset: Dataset, training: Training, examples: int) -> dict[str, float]:
    """The tutorial's way on as many labels as ours learnt; its speed is that of `fit` alone, after a first step."""
    seeded(training.seed)
    model = TutorialTower(dataset, training)
    batches = model.batches(examples)
    model.fit(batches.take(1), verbose=0)
    started = time.perf_counter()
    model.fit(batches, verbose=0)
    seconds = time.perf_counter() - started
    seen = int(batches.cardinality()) * training.batch_size
    return {"examples_per_second": seen / seconds, "seconds": seconds, "examples": seen, **model.judged()}


def figures(fast: Learned, slow: dict[str, float]) -> dict[str, Figure]:
    best = fast.epochs[fast.kept - 1]
    learnt = sum(row["examples"] for row in fast.epochs[: fast.kept])
    return {
        "examples_per_second": Figure(fast.examples_per_second, "1/s"),
        "tutorial_examples_per_second": Figure(slow["examples_per_second"], "1/s"),
        "speed_ratio": Figure(
            fast.examples_per_second / slow["examples_per_second"], "x", ">=", TARGET_RATIO
        ),
        "recall@20": Figure(best["recall@20"], "share", ">=", slow["recall@20"]),
        "tutorial_recall@20": Figure(slow["recall@20"], "share"),
        "ndcg@10": Figure(best["ndcg@10"], "share"),
        "tutorial_ndcg@10": Figure(slow["ndcg@10"], "share"),
        "examples": Figure(learnt, "labels"),
        "tutorial_examples": Figure(slow["examples"], "labels"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m bench.training --quick")
    parser.add_argument("--quick", action="store_true", help="600 customers and fewer epochs")
    quick = parser.parse_args().quick
    training = settings.load().training.model_copy(update={"epochs": 2} if quick else {})
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.load(write_dataset(Path(scratch), users=600 if quick else None))
        fast = ours(dataset, training)
        seen = int(sum(row["examples"] for row in fast.epochs[: fast.kept]))
        slow = tutorial(dataset, training, examples=seen)
    found = figures(fast, slow)
    publish("training", found, quick=quick)
    return 1 if not quick and any(each.met is False for each in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
