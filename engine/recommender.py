"""The recommender: sources, their blend, and answers with reasons.

A fitted recommender is immutable and holds no row of a user (docs/adr/0004): who asks brings a `UserState`.
It may be read from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from engine import bundle, explain
from engine.blend import Weights, combine, normalise
from engine.interactions import Catalogue, Events
from engine.metrics import top_k
from engine.recipe import Recipe
from engine.sources import FROM_HISTORIES
from engine.sources.base import Source
from engine.sources.item_item import ItemItem
from engine.sources.popularity import Popularity
from engine.sources.two_tower import TwoTower
from engine.state import UserState, from_frame
from engine.towers import TowerExport

CELLS = 2_000_000  # of a (users, items) array that is held at once: 8 MB each
POPULAR = Weights(again={"popularity": 1.0}, new={"popularity": 1.0})  # for who has no history


@dataclass(frozen=True)
class Recommended:
    """One item of an answer. reason: its source, evidence and parts, see engine.explain."""

    item_id: str
    score: float
    reason: dict[str, Any] = field(default_factory=dict)


class Recommender:
    """See `fit` and `load`; the constructor takes fitted parts."""

    def __init__(self, recipe: Recipe, catalogue: Catalogue, sources: dict[str, Source]):
        self.recipe = recipe
        self.catalogue = catalogue
        self.sources = sources

    @classmethod
    def fit(
        cls,
        items: pd.DataFrame,
        histories: pd.DataFrame,
        cut: datetime,
        recipe: Recipe,
        tower: TowerExport | None = None,
    ) -> Recommender:
        """Fits every source of the recipe to what was known before `cut`.

        items: item_id, title, categories, brand, price, n_buyers, n_buyers_30d, deleted; histories: user_id,
        country, item_ids, event_types, event_times (epoch s), quantities, newest first. Raises ValueError
        without items.
        """
        catalogue = Catalogue.of(items)
        if not len(catalogue):
            raise ValueError(
                f"no item to recommend before {cut.isoformat()}: the items frame is empty or all deleted"
            )
        events = Events.of(from_frame(histories), catalogue.index, cut, recipe.event_weights)
        sources: dict[str, Source] = {
            name: FROM_HISTORIES[name].fit(events, catalogue, **_whole(settings))
            for name, settings in recipe.sources.items()
        }
        if tower is not None:
            sources[TwoTower.name] = TwoTower.fit(tower, catalogue)
        return cls(recipe.model_copy(update={"cut": cut}), catalogue, sources)

    def with_weights(self, weights: Weights) -> Recommender:
        """The same sources under another blend."""
        return Recommender(self.recipe.model_copy(update={"weights": weights}), self.catalogue, self.sources)

    # -- scores

    def events(self, states: Sequence[UserState], now: datetime) -> Events:
        return Events.of(states, self.catalogue.index, now, self.recipe.event_weights)

    def scores(self, states: Sequence[UserState], now: datetime) -> np.ndarray:
        """(n_users, n_items) float32, blended; columns as `catalogue.item_ids`."""
        return self._blend(self.events(states, now))[0]

    def source_scores(self, events: Events) -> dict[str, np.ndarray]:
        """Each source's scores, before the blend and before normalisation."""
        return {name: source.scores(events) for name, source in self.sources.items()}

    def _blend(self, events: Events) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        normalised = {name: normalise(scores) for name, scores in self.source_scores(events).items()}
        blended = combine(normalised, events.owned(), self.recipe.weights)
        empty = np.bincount(events.user, minlength=events.n_users) == 0
        blended[empty] = normalised[Popularity.name][empty]
        return blended, normalised

    # -- answers

    def recommend(
        self, state: UserState, k: int, now: datetime, exclude: Iterable[str] = ()
    ) -> list[Recommended]:
        """The k best items with reasons. Never empty: without a history or a finite score, what is
        popular.
        """
        events = self.events([state], now)
        blended, normalised = self._blend(events)
        hidden = [self.catalogue.index[item] for item in exclude if item in self.catalogue.index]
        blended[0, hidden] = -np.inf
        listed = top_k(blended, k)[0]
        listed = listed[listed >= 0]
        if not len(listed):
            return self.popular(state.country, k, exclude)
        weights = self.recipe.weights if len(events.item) else POPULAR
        return [
            Recommended(
                self.catalogue.item_ids[item],
                float(blended[0, item]),
                explain.reason(self.sources, normalised, weights, events, int(item), self.catalogue),
            )
            for item in listed
        ]

    def batch(
        self, states: Sequence[UserState], k: int, now: datetime, new_only: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """ids (n, k) str and scores (n, k) float32 of many users, best first; '' and -inf after a list's end.

        new_only: leaves out what a user already had. Memory is bounded by CELLS, whatever the number of
        users.
        """
        ids = np.array([*self.catalogue.item_ids, ""], dtype=object)
        lists, scores = [np.empty((0, min(k, len(self.catalogue))), np.int64)], [np.empty((0, 0), np.float32)]
        for blended in self.chunks(states, now, new_only):
            lists.append(top_k(blended, k))
            scores.append(np.where(lists[-1] >= 0, np.take_along_axis(blended, lists[-1], axis=1), -np.inf))
        return ids[np.vstack(lists)], np.vstack(scores[1:]) if len(scores) > 1 else scores[0]

    def chunks(
        self, states: Sequence[UserState], now: datetime, new_only: bool = False
    ) -> Iterator[np.ndarray]:
        """Blended scores of the states in order, some at a time."""
        size = max(1, CELLS // len(self.catalogue))
        for start in range(0, len(states), size):
            events = self.events(states[start : start + size], now)
            blended = self._blend(events)[0]
            if new_only:
                blended[events.owned().nonzero()] = -np.inf
            yield blended

    def similar(self, item_id: str, k: int) -> list[Recommended]:
        """What is bought by the same people, then what is popular. Raises KeyError for an unknown item."""
        item = self.catalogue.index[item_id]
        scores = cast(ItemItem, self.sources[ItemItem.name]).similar(item).astype(np.float64)
        scores += 1e-6 * self._popularity.of_country(None)
        scores[item] = -np.inf
        evidence = {"item_id": item_id, "title": self.item(item_id)["title"]}
        return self._listed(scores, k, "item_item", lambda _: evidence)

    def popular(self, country: str | None, k: int, exclude: Iterable[str] = ()) -> list[Recommended]:
        """What was bought most lately in a country, or overall for None and unknown countries."""
        scores = self._popularity.of_country(country).astype(np.float64)
        scores[[self.catalogue.index[item] for item in exclude if item in self.catalogue.index]] = -np.inf
        told = self._popularity.named
        return self._listed(scores, k, "popularity", lambda item: {"popular_in": told(country, item)})

    @property
    def countries(self) -> tuple[str, ...]:
        """Countries that have a popularity list of their own."""
        return self._popularity.countries

    def item(self, item_id: str) -> dict[str, Any]:
        """title, price and categories. Raises KeyError for an unknown or deleted item."""
        row = self.catalogue.index[item_id]
        return {name: self.catalogue.value(name, row) for name in ("title", "price", "categories")}

    @property
    def _popularity(self) -> Popularity:
        return cast(Popularity, self.sources[Popularity.name])

    def _listed(
        self, scores: np.ndarray, k: int, source: str, evidence: Callable[[int], dict]
    ) -> list[Recommended]:
        """The k best by `scores`, each with the evidence of its row."""
        listed = [int(item) for item in top_k(scores[None], k)[0] if item >= 0]
        reasons = [{"source": source, "evidence": evidence(item), "parts": {}} for item in listed]
        ids = self.catalogue.item_ids
        return [
            Recommended(ids[item], float(scores[item]), reason)
            for item, reason in zip(listed, reasons, strict=True)
        ]

    # -- soundness and storage

    def faults(self) -> list[str]:
        """Arrays with values that are not finite, each with how many: such a model must not be released."""
        found = []
        for name, source in self.sources.items():
            for key, array in source.arrays().items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    found.append(
                        f"{name}.{key}: {np.count_nonzero(~np.isfinite(array))} values are not finite"
                    )
        return found

    def save(self, folder: Path) -> None:
        """Writes the bundle; see engine.bundle."""
        files = {
            "recipe.json": bundle.pack_json(self.recipe.model_dump(mode="json")),
            "items.parquet": bundle.pack_frame(self.catalogue.frame),
        }
        files |= {f"{name}.npz": bundle.pack_arrays(source.arrays()) for name, source in self.sources.items()}
        bundle.write(Path(folder), files)

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Raises BundleRejected, naming the file, where one is missing, altered or not what it should be."""
        files = bundle.read(Path(folder))
        with bundle.rejecting(folder, "recipe.json"):
            recipe = Recipe.model_validate_json(files["recipe.json"])
        with bundle.rejecting(folder, "items.parquet"):
            catalogue = Catalogue.of(bundle.unpack_frame(files["items.parquet"]))
        sources: dict[str, Source] = {}
        for name, kind in {**FROM_HISTORIES, TwoTower.name: TwoTower}.items():
            if name in recipe.sources or f"{name}.npz" in files:
                with bundle.rejecting(folder, f"{name}.npz"):
                    sources[name] = kind.from_arrays(bundle.unpack_arrays(files[f"{name}.npz"]))
        return cls(recipe, catalogue, sources)


def _whole(settings: dict[str, float]) -> dict[str, float | int]:
    """Hyperparameters as they are: JSON has one kind of number, counts are whole."""
    return {key: int(value) if float(value).is_integer() else value for key, value in settings.items()}
