"""`make bench-two_tower`: how long Aisle's two-tower takes to ALS's recall, and what it reaches, alone, without the engine's other sources.

Beside `implicit`'s ALS both learn what lies before the validation window and are judged on the window. Seconds are one core's, whoever else is at work
on it, and without the judging; the tower's are those of its arrays, its start and its epochs. ALS with the configuration that
`make bench-quality` found, where it ran, else the first of its grid; the tower's dimension is chosen on validation as well.
Where a two-tower's figure is published for the set's test, the tower is trained again on all that comes before the test, for
the epochs that validation chose, and the test is looked at once.
Writes bench/results/two_tower.json, with the tower's recall at its start (epoch 0) and after each epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from aisle import settings
from bench import cache, protocols
from bench.contest import VALIDATION_USERS
from bench.judging import DEPTH, Question, judge
from bench.peers.factors import Als
from bench.peers.tutorial import examples_of
from bench.published import FIGURES
from bench.report import Figure, publish
from engine.top_products import TopProducts
from training import towers
from training.tensorflow_import import without_notices
from training.vocabulary import Queries, Vocabulary, item_inputs, pairs, queries

with without_notices():
    from training.tower_start import start
    from training.tower_training import learn
    from training.two_tower import TwoTower, seeded, tf

DIMENSIONS = {
    "online_retail": 128,
    "gowalla": 512,
}  # by validation: Online Retail of 64 and 128, Gowalla of 256 and 512
RECALL = "recall@20"
RIVAL = "YoutubeDNN"  # the published two-tower
TIMES_ALS = 10.0
COLUMN = "new"
USERS = 4_000  # whose histories are read at once


def als(name: str, question: Question) -> dict[str, Any]:
    """recall and seconds of a fit."""
    found = [cache.read(path) for path in (cache.folder() / name).glob("tuned-*.json")]
    trials = [
        each for tuned in found for each in (tuned or {}).get("trials", []) if "alpha" in each["config"]
    ]
    peer = Als()
    config = max(trials, key=lambda trial: trial[COLUMN])["config"] if trials else next(peer.grid(question))
    started = time.process_time()
    peer.fit(question, config)
    seconds = time.process_time() - started
    return {
        "recall": recall(question, peer.lists(question, COLUMN)),
        "seconds": seconds,
        "config": config,
    }


def recall(question: Question, lists: np.ndarray) -> float:
    return float(judge(question, COLUMN, lists, (RECALL,))[RECALL].mean())


@dataclass(frozen=True)
class Trained:
    """One row an epoch: epoch, recall, and the seconds so far; epoch 0 is the start."""

    epochs: list[dict[str, float]]
    kept: int
    recall: float


def tower(name: str, question: Question, epochs: int | None = None) -> Trained:
    """Learns what `question` lets it. epochs: so many, and judged once; None: as many as judging says."""
    training = settings.load().training.model_copy(update={"dimension": DIMENSIONS[name]})
    window = question.window
    examples = examples_of(window, length=training.history_items)
    started = time.process_time()
    vocabulary = Vocabulary.of(window.items["item_id"], examples["country"])
    seeded(training.seed)
    model = TwoTower(vocabulary, item_inputs(vocabulary, window.items), training)
    moments = list(pd.DatetimeIndex(examples["event_timestamp"]).to_pydatetime())
    histories = queries(vocabulary, examples, moments, training)
    wanted = pairs(vocabulary, examples, towers.LABEL_HALF_LIFE_DAYS)
    start(model, pd.factorize(examples["user_id"])[0], wanted)
    spent = time.process_time() - started
    asked = queries(vocabulary, window.histories.iloc[question.asked], window.at, training)
    rows = vocabulary.item_rows(question.item_ids.tolist())
    found: list[dict[str, float]] = []

    def judged(model: TwoTower) -> dict[str, float]:
        nonlocal started, spent
        spent += time.process_time() - started if found else 0.0
        said = recall(question, _lists(question, model, asked, rows))
        found.append({"epoch": len(found), "recall": said, "seconds": spent})
        print(f"{name}: {found[-1]}", file=sys.stderr, flush=True)
        started = time.process_time()
        return {"recall": said}

    if epochs is None:
        judged(model)
    learned = learn(
        model,
        histories,
        wanted,
        epochs=epochs or training.epochs,
        learning_rate=training.learning_rate,
        seed=training.seed,
        judge=judged if epochs is None else None,
        by="recall",
    )
    return Trained(found, learned.kept, recall(question, _lists(question, model, asked, rows)))


def _lists(question: Question, model: TwoTower, asked: Queries, rows: np.ndarray) -> np.ndarray:
    parts = []
    for first in range(0, len(question.asked), USERS):
        some = np.arange(first, min(first + USERS, len(question.asked)))
        users, items = towers.vectors(model, asked.take(some), rows)
        parts.append(TopProducts.of(items).top(users, DEPTH, question.owned[some])[0])
    return np.vstack(parts)


def run(name: str) -> tuple[dict[str, Figure], dict[str, Any]]:
    protocol = protocols.load(name)
    question = Question.of(protocol.validation, VALIDATION_USERS)
    rival, ours = als(name, question), tower(name, question)
    epochs = ours.epochs
    reached = next((row["seconds"] for row in epochs if row["recall"] >= rival["recall"]), None)
    best = max(row["recall"] for row in epochs)
    figures = {
        f"{name}, ALS, {RECALL}": Figure(rival["recall"], ""),
        f"{name}, ALS": Figure(rival["seconds"], "s"),
        f"{name}, two-tower at its start, {RECALL}": Figure(epochs[0]["recall"], ""),
        f"{name}, two-tower, {RECALL}": Figure(best, ""),
        f"{name}, two-tower, {RECALL} over ALS's": Figure(best / rival["recall"], "x", target=1.0),
        f"{name}, two-tower, all epochs": Figure(epochs[-1]["seconds"], "s"),
        f"{name}, time to ALS's recall over ALS's": Figure(
            None if reached is None else reached / rival["seconds"], "x", "<=", TIMES_ALS
        ),
    }
    details: dict[str, Any] = {"dimension": DIMENSIONS[name], "als": rival, "two_tower": epochs}
    published = [each for each in FIGURES if each.set_name == name and each.model == RIVAL]
    if published:
        test = tower(name, Question.of(protocol.test), ours.kept)
        target = published[0].figures[RECALL]
        figures[f"{name}, test, {RIVAL} as published, {RECALL}"] = Figure(target, "")
        figures[f"{name}, test, two-tower, {RECALL}"] = Figure(test.recall, "", target=target)
        details["test"] = {"epochs": ours.kept, "recall": test.recall}
    return figures, details


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.two_tower --set gowalla",
    )
    parser.add_argument("--set", default=" ".join(DIMENSIONS), help=f"default: {' '.join(DIMENSIONS)}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
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
