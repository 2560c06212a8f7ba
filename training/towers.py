"""The two-tower's life in a train run: learnt up to the first cut, stopped by the window after it, continued from cut to cut.

Continuing on the newest days costs a tenth of training anew, and in a shop with seasons the newest days are worth most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from aisle.errors import BadModel
from aisle.settings import Training
from engine.towers import TowerExport
from training.dataset import Dataset
from training.judge import Judge
from training.tower_start import start
from training.tower_training import Learned, learn
from training.two_tower import TwoTower, exported, fits, restore, saved, seeded, tf
from training.vocabulary import Queries, Vocabulary, item_inputs, pairs, queries

LABEL_HALF_LIFE_DAYS = 30  # of a label's weight when examples are drawn
WARM_EPOCHS = 2
ANEW_EPOCHS = 3  # where there is no window to judge by: so many are usually kept where there is
WARM_RATE = 1 / 3  # of the learning rate: the new days refine, they do not overwrite
JUDGED_BY = "ndcg@10"
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tower:
    """A trained tower at a cut: as arrays for the engine, as weights to go on from, and how it learnt."""

    export: TowerExport
    weights: Weights
    learned: Learned


def fit(
    dataset: Dataset,
    settings: Training,
    progress: Callable[[str], None] = print,
    weights: Weights | None = None,
) -> dict[str, Tower]:
    """The tower at each cut up to T, by name, oldest first. Deterministic in data, seed and weights.

    It learns up to the first (R, else V), where the window after that chooses the epochs, and is continued on what each
    next one adds: the tower of a cut has seen nothing from then on, of items no more than of labels.
    weights: of an earlier run to go on from, which saw nothing from the first cut on; those of another form or size are not used.
    """
    (name, since), *later = [each for each in dataset.cuts.items() if each[0] != "A"]
    model, examples = _model(dataset, name, settings)
    warm = False
    if weights is not None and fits(model, weights):
        restore(model, weights)
        warm = True
    judge = judging(Judge.of(dataset, settings, name), since, model.vocabulary, settings)
    rate = settings.learning_rate * (WARM_RATE if warm else 1.0)
    learned = _learn(
        model, examples, None, since, epochs=settings.epochs, rate=rate, judge=judge, anew=not warm
    )
    for row in learned.epochs:
        progress(" ".join(f"{figure} {value:.4g}" for figure, value in row.items()))
    found = {name: _tower(dataset, name, model, replace(learned, warm=warm))}
    for name, until in later:
        before = next(reversed(found.values()))
        found[name] = continued(before.weights, dataset, since, name, settings)
        since = until
    return found


def continued(weights: Weights, dataset: Dataset, since: datetime, cut: str, settings: Training) -> Tower:
    """Saved weights, continued on the labels from `since` up to the cut named `cut` ("V" | "T" | "A"); new items get rows.

    Those of an older form of the model cannot be continued: the tower is learnt anew up to the cut.
    """
    settings = settings.model_copy(update={"dimension": weights["item_table"].shape[1]})
    model, examples = _model(dataset, cut, settings)
    until = getattr(dataset.cuts, cut)
    if not fits(model, weights):
        return _anew(dataset, cut, model, examples)
    restore(model, weights)
    rate = settings.learning_rate * WARM_RATE
    return _tower(dataset, cut, model, _learn(model, examples, since, until, epochs=WARM_EPOCHS, rate=rate))


def anew(dataset: Dataset, cut: str, settings: Training) -> Tower:
    """Learnt up to a cut for as many epochs as are usually kept: for who has no window to judge by."""
    return _anew(dataset, cut, *_model(dataset, cut, settings))


def _anew(dataset: Dataset, cut: str, model: TwoTower, examples: pd.DataFrame) -> Tower:
    until, rate = getattr(dataset.cuts, cut), model.settings.learning_rate
    learned = _learn(model, examples, None, until, epochs=ANEW_EPOCHS, rate=rate, anew=True)
    return _tower(dataset, cut, model, learned)


def _model(dataset: Dataset, cut: str, settings: Training) -> tuple[TwoTower, pd.DataFrame]:
    """A model over the items and countries that were known at a cut, as they were then, and the examples before it."""
    examples, items = dataset.frame("examples"), dataset.frame(f"items_{cut}")
    examples = examples[examples["event_timestamp"].lt(getattr(dataset.cuts, cut))]
    seeded(settings.seed)
    vocabulary = Vocabulary.of(items["item_id"], examples["country"])
    return TwoTower(vocabulary, item_inputs(vocabulary, items), settings), examples


def _tower(dataset: Dataset, cut: str, model: TwoTower, learned: Learned) -> Tower:
    return Tower(exported(model, _ids(dataset.frame(f"items_{cut}"))), saved(model), learned)


def _learn(
    model: TwoTower,
    examples: pd.DataFrame,
    since: datetime | None,
    until: datetime,
    *,
    epochs: int,
    rate: float,
    judge=None,
    anew: bool = False,
) -> Learned:
    """Learns the labels of [since, until). anew: from where `tower_start` puts it, not from where it stands."""
    moments = examples["event_timestamp"]
    chosen = moments.lt(until) if since is None else moments.ge(since) & moments.lt(until)
    rows = examples[chosen].reset_index(drop=True)
    if rows.empty:
        return Learned([], 0)
    asked = queries(
        model.vocabulary,
        rows,
        list(pd.DatetimeIndex(rows["event_timestamp"]).to_pydatetime()),
        model.settings,
    )
    wanted = pairs(model.vocabulary, rows, LABEL_HALF_LIFE_DAYS)
    if anew and len(wanted):
        start(model, pd.factorize(rows["user_id"])[0], wanted)
    seed = model.settings.seed
    learned = learn(
        model, asked, wanted, epochs=epochs, learning_rate=rate, seed=seed, judge=judge, by=JUDGED_BY
    )
    bad = [
        name for name, each in saved(model).items() if each.dtype.kind == "f" and not np.isfinite(each).all()
    ]
    if bad:
        raise BadModel(
            f"the two-tower's {', '.join(bad)} are not finite after {len(learned.epochs)} epochs; "
            f"nothing is registered: lower training.learning_rate ({rate:g}), or look for broken prices in the data"
        )
    return learned


def judging(
    judge: Judge, moment: datetime, vocabulary: Vocabulary, settings: Training
) -> Callable[[TwoTower], Mapping[str, float]]:
    """`judge` for `learn`: what the judge's users are asked, looked up once."""
    asked = queries(vocabulary, judge.users, moment, settings)
    rows = vocabulary.item_rows(judge.item_ids)
    return lambda model: judge.figures(*vectors(model, asked, rows))


def vectors(model: TwoTower, asked: Queries, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n_queries, d) of the queries and (n_items, d) of the items at `rows`: a product of both is a score."""
    features = model.item_features()
    arrays = tuple(
        tf.constant(each) for each in (asked.items, asked.weights, asked.countries, asked.log_count)
    )
    return model.queries(arrays, features).numpy(), model.candidates(tf.constant(rows), features).numpy()


def _ids(items: pd.DataFrame) -> list[str]:
    return items["item_id"].tolist()
