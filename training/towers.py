"""The two-tower's life in a train run: learnt up to the first cut, stopped by the window after it, continued from cut to cut.

Continuing on the newest days costs a tenth of training anew, and in a shop with seasons the newest days are worth most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.errors import BadModel
from aisle.settings import Training
from engine.towers import TowerExport
from training.dataset import Dataset
from training.judge import Judge
from training.tower_start import start
from training.tower_training import Learned, learn
from training.two_tower import TwoTower, exported, fits, restore, saved, seeded, tf, vocabulary_of
from training.vocabulary import Queries, Vocabulary, item_inputs, pairs, queries

LABEL_HALF_LIFE_DAYS = 30  # of a label's weight when examples are drawn
WARM_EPOCHS = 2
ANEW_EPOCHS = 3  # where there is no window to judge by: so many are usually kept where there is
WARM_RATE = 1 / 3  # of the learning rate: the new days refine, they do not overwrite
JUDGED_BY = "ndcg@10"


@dataclass(frozen=True)
class Tower:
    """A trained tower at a cut: as arrays for the engine, as weights to go on from, and how it learnt."""

    export: TowerExport
    weights: dict[str, np.ndarray]
    learned: Learned


def fit(dataset: Dataset, settings: Training, progress: Callable[[str], None] = print) -> dict[str, Tower]:
    """The tower at each cut up to T, by name, oldest first. Deterministic in data and seed.

    It learns up to the first (R, else V), where the window after that chooses the epochs, and is continued on what each
    next one adds: the tower of a cut has seen nothing from then on.
    """
    examples, items = dataset.frame("examples"), dataset.frame("items_T")
    seeded(settings.seed)
    vocabulary = Vocabulary.of(items["item_id"], examples["country"])
    model = TwoTower(vocabulary, item_inputs(vocabulary, items), settings)
    cuts = dataset.cuts
    (name, since), *later = [each for each in cuts.items() if each[0] != "A"]
    judge = judging(Judge.of(dataset, settings, name), since, vocabulary, settings)
    learned = _learn(
        model, examples, None, since, epochs=settings.epochs, rate=settings.learning_rate, judge=judge
    )
    for row in learned.epochs:
        progress(" ".join(f"{figure} {value:.4g}" for figure, value in row.items()))
    found = {name: Tower(exported(model, _ids(dataset.frame(f"items_{name}"))), saved(model), learned)}
    for name, until in later:
        found[name] = _continued(model, examples, (since, until), _ids(dataset.frame(f"items_{name}")))
        since = until
    return found


def continued(
    weights: dict[str, np.ndarray], dataset: Dataset, since: datetime, cut: str, settings: Training
) -> Tower:
    """Saved weights, continued on the labels from `since` up to the cut named `cut` ("T" | "A"); new items get rows.

    Those of an older form of the model cannot be continued: the tower is learnt anew up to the cut.
    """
    examples, items = dataset.frame("examples"), dataset.frame(f"items_{cut}")
    settings = settings.model_copy(update={"dimension": weights["item_table"].shape[1]})
    seeded(settings.seed)
    vocabulary = vocabulary_of(weights).grown(items["item_id"], examples["country"])
    model = TwoTower(vocabulary, item_inputs(vocabulary, items), settings)
    until = getattr(dataset.cuts, cut)
    if not fits(model, weights):
        learned = _learn(model, examples, None, until, epochs=ANEW_EPOCHS, rate=settings.learning_rate)
        return Tower(exported(model, _ids(items)), saved(model), learned)
    restore(model, weights)
    return _continued(model, examples, (since, until), _ids(items))


def _continued(
    model: TwoTower, examples: pd.DataFrame, window: tuple[datetime, datetime], ids: list[str]
) -> Tower:
    rate = model.settings.learning_rate * WARM_RATE
    learned = _learn(model, examples, *window, epochs=WARM_EPOCHS, rate=rate)
    return Tower(exported(model, ids), saved(model), learned)


def _learn(
    model: TwoTower,
    examples: pd.DataFrame,
    since: datetime | None,
    until: datetime,
    *,
    epochs: int,
    rate: float,
    judge=None,
) -> Learned:
    """Learns the labels of [since, until)."""
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
    if since is None and len(wanted):
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


def write_weights(tower: Tower, path: Path) -> Path:
    """As .npz; read again with `read_weights`."""
    np.savez_compressed(path, **tower.weights)
    return path


def read_weights(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
