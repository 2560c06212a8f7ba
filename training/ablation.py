"""What each part of the recommender is worth: it is left out, and the validation window's users are answered again.

Nothing is learnt anew. A source that is left out is unknown (NaN) to the ranker, brings no candidate and weighs nothing in the
blend; what the others would have learnt in its absence is not seen, so that the loss is an upper bound of its worth. The ranker
left out is the blend alone, the last stage left out the plain order. New items keep what they read like, also without
`content`. `train.fit` keeps the recommender that it judged at the
start of the window (`keep`), because the registered one has been fitted to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aisle.settings import Final, Settings
from engine import intervals
from engine.blend import Weights
from engine.evaluation import COLUMNS, HeldOut, evaluate
from engine.interactions import Events
from engine.recommender import Recommender

if TYPE_CHECKING:
    from training.dataset import Dataset

FOLDER = "validation"  # of a run's work folder
METRIC = "ndcg@10"
WHOLE, RANKER, LAST_STAGE = "whole", "ranker", "last stage"
USERS = 400
CELLS = 40_000_000  # scores of all sources that are held at once: 160 MB


@dataclass(frozen=True)
class Recorded:
    """A source's scores, kept: it is asked once, not once a part. values: (n_users, n_items); row: by user id."""

    name: str
    values: np.ndarray
    row: Mapping[str, int]

    def scores(self, events: Events) -> np.ndarray:
        return self.values[[self.row[state.user_id] for state in events.states]]


@dataclass(frozen=True)
class Unknown:
    """A source that was left out: NaN of every item."""

    name: str

    def scores(self, events: Events) -> np.ndarray:
        return np.full((events.n_users, events.n_items), np.nan, np.float32)


def keep(fitted: Recommender, folder: Path) -> None:
    """The recommender as validation judged it: fitted at V, with the ranker of the window before or none."""
    fitted.save(folder / FOLDER)


def of_run(settings: Settings, dataset: Dataset, folder: Path) -> pd.DataFrame | None:
    """The table of a train run; None where `train.fit` kept no recommender of V."""
    if not (folder / FOLDER).exists():
        return None
    fitted = Recommender.load(folder / FOLDER)
    gate = settings.gate
    return table(
        fitted,
        dataset.frame("histories_V"),
        dataset.frame("truth_validation"),
        seed=settings.training.seed,
        samples=gate.bootstrap_samples,
        confidence=gate.confidence,
    )


def table(
    fitted: Recommender,
    histories: pd.DataFrame,
    truth: pd.DataFrame,
    users: int = USERS,
    seed: int = 7,
    samples: int = 1000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """part, column, whole, without, change, low, high, n: mean METRIC, and its change by user when a part is left out.

    histories: as of the recommender's cut; truth: user_id, item_id bought after it. A seeded sample of the buyers with a
    history answers. change below zero: the part helps; low and high bound it, paired by user.
    """
    if fitted.recipe.cut is None:
        raise ValueError("the recommender was not fitted at a cut")
    most = CELLS // (len(fitted.sources) * len(fitted.catalogue))
    known = histories[histories["user_id"].isin(set(truth["user_id"]))].sort_values("user_id")
    chosen = known.sample(min(users, max(most, 1), len(known)), random_state=seed).sort_values("user_id")
    bought = truth[truth["user_id"].isin(set(chosen["user_id"]))]
    held = HeldOut.of(fitted, chosen, bought, fitted.recipe.cut)
    values = {name: _values(held, model) for name, model in without(recorded(fitted, held))}
    rows = []
    for name, each in values.items():
        for column in COLUMNS if name != WHOLE else ():
            whole, left = values[WHOLE][column].align(each[column], join="inner")
            found = intervals.of_difference(left.to_numpy(), whole.to_numpy(), samples, confidence, seed)
            means = {"whole": whole.mean(), "without": left.mean(), "change": found.mean}
            rows.append(
                {"part": name, "column": column, **means, "low": found.low, "high": found.high, "n": found.n}
            )
    return pd.DataFrame(rows)


def recorded(fitted: Recommender, held: HeldOut) -> Recommender:
    """The same recommender for the held-out users alone, each source's scores computed once."""
    events = fitted.events(held.states, held.now)
    row = {state.user_id: place for place, state in enumerate(held.states)}
    sources = {name: Recorded(name, each, row) for name, each in fitted.source_scores(events).items()}
    return _with(fitted, sources, fitted.recipe.weights)


def without(whole: Recommender) -> Iterator[tuple[str, Recommender]]:
    """The whole first, then each part left out."""
    yield WHOLE, whole
    weights = whole.recipe.weights
    for name in whole.sources:
        left = Weights(
            *(
                {key: value for key, value in each.items() if key != name}
                for each in (weights.again, weights.new)
            ),
            weights.offset,
        )
        yield name, _with(whole, {**whole.sources, name: Unknown(name)}, left)
    if whole.ranker:
        yield RANKER, _made(whole, whole.with_ranker(None), "last_stage", "cold")
    if whole.recipe.final != Final():
        yield LAST_STAGE, _made(whole, whole.with_final(Final()), "cold")


def _with(model: Recommender, sources: Mapping, weights: Weights) -> Recommender:
    recipe = model.recipe.model_copy(update={"weights": weights})
    found = Recommender(recipe, model.catalogue, dict(sources), model.trends, model.ranker)
    return _made(model, found, "last_stage", "cold")


def _made(model: Recommender, found: Recommender, *names: str) -> Recommender:
    """`found` with what the model has made of its sources' similarities, which a record does not keep."""
    for name in names:
        found.__dict__[name] = getattr(model, name)
    return found


def _values(held: HeldOut, model: Recommender) -> dict[str, pd.Series]:
    """METRIC by user, by column."""
    rows = evaluate(held, held.lists(model))
    rows = rows[rows["slice"].eq("all") & rows["metric"].eq(METRIC)]
    return {
        column: rows[rows["column"].eq(column)].set_index("user_id")["value"].sort_index()
        for column in COLUMNS
    }
