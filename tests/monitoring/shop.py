"""Real recommenders on a slice of the real shop, and the rows of `ops.evaluations` that come of them.

Every figure that the gate reads here was computed from a ranking; none is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from engine import tuning
from engine.evaluation import HeldOut, baseline, evaluate
from engine.interactions import Events
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.windows import Window
from tests.training.frames import write_dataset
from training.dataset import Dataset

N_ITEMS = 800
BASELINES = {"popularity": "popularity", "personal_frequency": "personal", "item_item": "item_item"}


@dataclass(frozen=True)
class Shop:
    """A dataset folder as `train.dataset` writes it, and what may be asked of it."""

    dataset: Dataset

    @classmethod
    def build(cls, folder: Path, users: int) -> Shop:
        return cls(Dataset.load(write_dataset(folder, users=users)))

    def items(self, cut: str) -> pd.DataFrame:
        """The items that most people buy: fewer of them make a quicker test."""
        return self.dataset.frame(f"items_{cut}").nlargest(N_ITEMS, "n_buyers")

    @cached_property
    def recommender(self) -> Recommender:
        """Fitted at T as it should be, with the blend that the engine starts from."""
        return Recommender.fit(
            self.items("T"), self.dataset.frame("histories_T"), self.dataset.cuts.T, Recipe()
        )

    def train(self, joined: Callable[[pd.DataFrame], pd.DataFrame]) -> Recommender:
        """As `train.fit` does: the blend chosen on the validation days. `joined` stands for the join that gives
        users their histories.
        """
        frame, cuts = self.dataset.frame, self.dataset.cuts
        valid, test = joined(frame("histories_V")), joined(frame("histories_T"))
        truth = frame("truth_validation")
        recipe, _ = tuning.choose(Window(cuts.V, self.items("V"), valid, truth), Recipe(), max_users=150)
        return Recommender.fit(self.items("T"), test, cuts.T, recipe)

    @cached_property
    def held(self) -> HeldOut:
        frame = self.dataset.frame
        return HeldOut.of(self.recommender, frame("histories_T"), frame("truth_test"), self.dataset.cuts.T)

    def rows(self, version: str, recommender: Recommender) -> pd.DataFrame:
        found = evaluate(self.held, self.held.lists(recommender))
        return found.assign(evaluation_id="run", version=version, window="test")

    @cached_property
    def baselines(self) -> pd.DataFrame:
        models = {name: baseline(self.recommender, source) for name, source in BASELINES.items()}
        return pd.concat([self.rows(name, model) for name, model in models.items()], ignore_index=True)

    def evaluation(self, challenger: Recommender, champion: Recommender | None) -> pd.DataFrame:
        """Version 2 against the baselines and, where there is one, champion 1."""
        parts = [self.baselines, self.rows("2", challenger)]
        return pd.concat(
            [*parts, *([self.rows("champion:1", champion)] if champion else [])], ignore_index=True
        )


class Muted(Recommender):
    """Hides the items bought least: as a minimum support that was set too high would."""

    share = 0.5

    def _blend(self, events: Events) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        blended, parts = super()._blend(events)
        buyers = self.catalogue.numbers("n_buyers")
        blended[:, np.argsort(buyers, kind="stable")[: int(self.share * len(buyers))]] = -np.inf
        return blended, parts


def muted(recommender: Recommender, share: float) -> Recommender:
    found = Muted(recommender.recipe, recommender.catalogue, recommender.sources, recommender.trends)
    found.share = share
    return found


def with_arrays(
    recommender: Recommender, source: str, arrays: Mapping[str, np.ndarray], folder: Path
) -> Recommender:
    """The same bundle but for some arrays of a source, written and read again: its manifest fits."""
    kind = type(recommender.sources[source])
    changed = kind.from_arrays({**recommender.sources[source].arrays(), **arrays})
    sources = {**recommender.sources, source: changed}
    Recommender(recommender.recipe, recommender.catalogue, sources, recommender.trends).save(folder)
    return Recommender.load(folder)
