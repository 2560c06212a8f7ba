"""Answers with reasons: a user's list, what is like an item, what is popular."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import numpy as np

from engine import explain
from engine.blend import Weights
from engine.interactions import Events
from engine.metrics import top_k
from engine.scoring import Ranked, Scored, Scoring
from engine.sources.content import Content
from engine.sources.item_item import ItemItem
from engine.sources.popularity import Popularity
from engine.state import UserState

POPULAR = Weights(again={"popularity": 1.0}, new={"popularity": 1.0})  # for who has no history


@dataclass(frozen=True)
class Recommended:
    """One item of an answer. reason: its source, evidence and parts, see engine.explain."""

    item_id: str
    score: float
    reason: dict[str, Any] = field(default_factory=dict)


class Answering(Scoring):
    """A model that says why."""

    def recommend(
        self, state: UserState, k: int, now: datetime, exclude: Iterable[str] = ()
    ) -> list[Recommended]:
        """The k best items with reasons. Never empty: without a history or a finite score, what is
        popular.
        """
        ranked = self.rank(state, now)
        hidden = [self.catalogue.index[item] for item in exclude if item in self.catalogue.index]
        ranked.scores[hidden] = -np.inf
        listed = self.top(ranked.scores[None], k)[0]
        listed = listed[listed >= 0]
        if not len(listed):
            return self.popular(state.country, k, [*exclude, *self.hidden(state, now)])
        return self.told(ranked, listed)

    def told(self, ranked: Ranked, listed: np.ndarray, exact: bool = True) -> list[Recommended]:
        """The rows of `listed` with their scores and reasons. exact: see `_parts`."""
        events, before = ranked.events, ranked.scored.scores
        parts = self._parts(events, ranked.scored, listed, exact)
        for item in listed:
            moved = float(ranked.scores[item] - before[0, item])
            parts[int(item)] |= {"rules": moved} if moved else {}
        return [
            Recommended(
                self.catalogue.item_ids[item],
                float(ranked.scores[item]),
                explain.reason(self.sources, parts[item], events, int(item), self.catalogue),
            )
            for item in listed
        ]

    def hidden(self, state: UserState, now: datetime) -> list[str]:
        """Items that this user asked not to see again."""
        return [self.catalogue.item_ids[item] for item in self.events([state], now).hidden[1]]

    def _parts(
        self, events: Events, scored: Scored, listed: np.ndarray, exact: bool = True
    ) -> dict[int, dict[str, float]]:
        """What adds up to each listed item's score, by item; 'below' is what keeps an item under the ranked ones.

        exact: by TreeSHAP; else along the trees' paths, which adds up as well and takes a tenth of the time.
        """
        weights = self.recipe.weights if len(events.item) else POPULAR
        found: dict[int, dict[str, float]] = {}
        if self.ranker and scored.candidates:
            among = scored.candidates
            rows = np.flatnonzero(np.isin(among.item, listed))
            if len(rows):
                features = among.features[rows]
                if exact:
                    split = self.ranker.parts(features)
                elif scored.leaves is not None:
                    split = self.paths.parts_of(scored.leaves[rows])
                else:
                    split = self.paths.parts(features)
                found = dict(zip(among.item[rows].tolist(), split, strict=True))
        for item in {int(each) for each in listed} - set(found):
            parts = explain.blend_parts(weights, scored.normalised, events, item)
            below = float(scored.scores[0, item]) - sum(parts.values())
            found[item] = {**parts, "below": below} if abs(below) > 1e-3 else parts
        return found

    def similar(self, item_id: str, k: int) -> list[Recommended]:
        """What is bought by the same people, then what is popular; for an item that came after the fit, what reads like it.

        Raises KeyError for an unknown item.
        """
        item = self.catalogue.index[item_id]
        new = self.catalogue.fitted is not None and item >= self.catalogue.fitted
        source = Content.name if new and Content.name in self.sources else ItemItem.name
        if source == Content.name:
            scores = cast(Content, self.sources[source]).similarity[[item]].toarray().ravel().astype(float)
        else:
            scores = cast(ItemItem, self.sources[source]).similar(item).astype(np.float64)
        scores += 1e-6 * self.popularity.of_country(None)
        scores[item] = -np.inf
        evidence = {"item_id": item_id, "title": self.item(item_id)["title"]}
        evidence |= {"alike": True} if source == Content.name else {}
        return self._listed(scores, k, source, lambda _: evidence)

    def popular(self, country: str | None, k: int, exclude: Iterable[str] = ()) -> list[Recommended]:
        """What was bought most lately in a country, or overall for None and unknown countries."""
        scores = self.popularity.of_country(country).astype(np.float64)
        scores[[self.catalogue.index[item] for item in exclude if item in self.catalogue.index]] = -np.inf
        told = self.popularity.named
        return self._listed(scores, k, "popularity", lambda item: {"popular_in": told(country, item)})

    @property
    def countries(self) -> tuple[str, ...]:
        """Countries that have a popularity list of their own."""
        return self.popularity.countries

    def item(self, item_id: str) -> dict[str, Any]:
        """title, price and categories. Raises KeyError for an unknown or deleted item."""
        row = self.catalogue.index[item_id]
        if row in self.catalogue.gone:
            raise KeyError(item_id)
        return {name: self.catalogue.value(name, row) for name in ("title", "price", "categories")}

    @property
    def popularity(self) -> Popularity:
        return cast(Popularity, self.sources[Popularity.name])

    def _listed(
        self, scores: np.ndarray, k: int, source: str, evidence: Callable[[int], dict]
    ) -> list[Recommended]:
        """The k best by `scores`, each with the evidence of its row."""
        scores[list(self.catalogue.gone)] = -np.inf
        listed = [int(item) for item in top_k(scores[None], k)[0] if item >= 0]
        reasons = [{"source": source, "evidence": evidence(item), "parts": {}} for item in listed]
        ids = self.catalogue.item_ids
        return [
            Recommended(ids[item], float(scores[item]), reason)
            for item, reason in zip(listed, reasons, strict=True)
        ]
