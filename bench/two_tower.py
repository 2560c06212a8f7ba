"""`make bench-two_tower`: how long Aisle's two-tower takes to ALS's recall, and what it reaches, beside `implicit`'s ALS.

Both learn what lies before the validation window and are judged on the window: nothing here looks at a test. One core each, the
judging is not counted. ALS with the configuration that `make bench-quality` found, where it ran, else the first of its grid.
Writes bench/results/two_tower.json, with the tower's recall after each epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from aisle import settings
from bench import cache, protocols
from bench.contest import VALIDATION_USERS
from bench.judging import Question, judge
from bench.peers.factors import Als
from bench.peers.tutorial import LENGTH, examples_of
from bench.report import Figure, publish
from training import towers
from training.tensorflow_import import without_notices
from training.vocabulary import Vocabulary, item_inputs, pairs, queries

with without_notices():
    from training.tower_training import learn
    from training.two_tower import TwoTower, seeded, tf

SETS = ("online_retail", "gowalla")
RECALL = "recall@20"
TIMES_ALS = 10.0
EPOCHS = 60


def als(name: str, question: Question, column: str) -> dict[str, Any]:
    """recall and seconds of a fit."""
    found = [cache.read(path) for path in (cache.folder() / name).glob("tuned-*.json")]
    trials = [
        each for tuned in found for each in (tuned or {}).get("trials", []) if "alpha" in each["config"]
    ]
    peer = Als()
    config = max(trials, key=lambda trial: trial[column])["config"] if trials else next(peer.grid(question))
    started = time.perf_counter()
    peer.fit(question, config)
    seconds = time.perf_counter() - started
    return {
        "recall": recall(question, column, peer.lists(question, column)),
        "seconds": seconds,
        "config": config,
    }


def recall(question: Question, column: str, lists: np.ndarray) -> float:
    return float(judge(question, column, lists, (RECALL,))[RECALL].mean())


def tower(question: Question, column: str) -> list[dict[str, float]]:
    """One row an epoch: recall, and the seconds of training so far."""
    training = settings.load().training.model_copy(update={"history_items": LENGTH})
    window = question.window
    examples = examples_of(window)
    vocabulary = Vocabulary.of(window.items["item_id"], examples["country"])
    seeded(training.seed)
    model = TwoTower(vocabulary, item_inputs(vocabulary, window.items), training)
    moments = list(pd.DatetimeIndex(examples["event_timestamp"]).to_pydatetime())
    asked_now = queries(vocabulary, window.histories.iloc[question.asked], window.at, training)
    rows = vocabulary.item_rows(question.item_ids.tolist())

    def judged(model: TwoTower) -> dict[str, float]:
        scores = towers.ranked(model, asked_now, rows)
        return {"recall": recall(question, column, _lists(question, column, scores))}

    learned = learn(
        model,
        queries(vocabulary, examples, moments, training),
        pairs(vocabulary, examples, towers.LABEL_HALF_LIFE_DAYS),
        epochs=EPOCHS,
        learning_rate=training.learning_rate,
        seed=training.seed,
        judge=judged,
        by="recall",
    )
    seconds = np.cumsum([row["seconds"] for row in learned.epochs]).tolist()
    return [
        {"epoch": row["epoch"], "recall": row["recall"], "seconds": spent}
        for row, spent in zip(learned.epochs, seconds, strict=True)
    ]


def _lists(question: Question, column: str, scores: np.ndarray) -> np.ndarray:
    from bench.judging import DEPTH
    from engine import metrics

    if column == "new":
        scores[question.owned.nonzero()] = -np.inf
    return metrics.top_k(scores, DEPTH)


def run(name: str) -> tuple[dict[str, Figure], dict[str, Any]]:
    protocol = protocols.load(name)
    question = Question.of(protocol.validation, VALIDATION_USERS)
    column = "new"
    rival, epochs = als(name, question, column), tower(question, column)
    reached = next((row["seconds"] for row in epochs if row["recall"] >= rival["recall"]), None)
    best = max(row["recall"] for row in epochs)
    figures = {
        f"{name}, ALS, {RECALL}": Figure(rival["recall"], ""),
        f"{name}, ALS": Figure(rival["seconds"], "s"),
        f"{name}, two-tower, {RECALL} over ALS's": Figure(best / rival["recall"], "x", target=1.0),
        f"{name}, two-tower, all epochs": Figure(epochs[-1]["seconds"], "s"),
        f"{name}, time to ALS's recall over ALS's": Figure(
            None if reached is None else reached / rival["seconds"], "x", "<=", TIMES_ALS
        ),
    }
    return figures, {"als": rival, "two_tower": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", default=" ".join(SETS), help=f"default: {' '.join(SETS)}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    for name in parser.parse_args().set.replace(",", " ").split():
        try:
            mine, details[name] = run(name)
        except protocols.NotHere as why:
            print(why, file=sys.stderr)
            continue
        figures |= mine
    if figures:
        publish("two_tower", figures, {"sets": details})


if __name__ == "__main__":
    main()
