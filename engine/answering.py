"""Answers with reasons: a user's list, what is like an item, what is popular."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from engine import discovery, explain
from engine.blend import Weights
from engine.interactions import Events
from engine.metrics import top_k
from engine.ranker import Ranker
from engine.scoring import Ranked, Scored, Scoring
from engine.sources.content import Content
from engine.sources.item_item import ItemItem
from engine.sources.popularity import Popularity
from engine.state import UserState

POPULAR = Weights(again={"popularity": 1.0}, new={"popularity": 1.0})  # for who has no history


class Recommended(NamedTuple):
    """One item of an answer. reason: its source, evidence and parts, see engine.explain."""

    item_id: str
    score: float
    reason: dict[str, Any]


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
        found = self.told(ranked, listed)
        self.mark(found, listed.tolist(), listed)
        return found

    def mark(self, told: Sequence[Recommended], rows: Sequence[int], order: np.ndarray) -> None:
        """Says in the evidence of those of `rows` that stand in a discovery slot of `order` that it is one, in place."""
        stage = self.last_stage
        if not stage.slots:
            return
        there = stage.discovered(order)
        for each, row in zip(told, rows, strict=True):
            if row in there:
                each.reason["evidence"][discovery.MARK] = True

    def told(
        self, ranked: Ranked, listed: np.ndarray, exact: bool = True, written: int | None = None
    ) -> list[Recommended]:
        """The rows of `listed` with their scores and reasons. exact: see `_parts`; written: see `explain.reasons`."""
        events, scored, items = ranked.events, ranked.scored, np.asarray(listed, np.int64)
        scores, before = ranked.scores[items].tolist(), scored.scores[0][items].tolist()
        parts = self._parts(events, scored, items, exact)
        if scores != before:
            moved = [now - was if now != was else 0.0 for now, was in zip(scores, before, strict=True)]
            parts[:, self.kinds.names.index("rules")] = moved
        reasons = explain.reasons(
            self.sources, self.kinds, parts, events, items, self.catalogue, written, self.recipe.goal
        )
        ids = self.catalogue.item_ids
        return list(map(Recommended, [ids[item] for item in items.tolist()], scores, reasons))

    def hidden(self, state: UserState, now: datetime) -> list[str]:
        """Items that this user asked not to see again."""
        return [self.catalogue.item_ids[item] for item in self.events([state], now).hidden[1]]

    @cached_property
    def kinds(self) -> explain.Kinds:
        """What the scores are made of."""
        return explain.Kinds.of(self.sources, self.paths.owners if self.ranker else ())

    def _parts(self, events: Events, scored: Scored, items: np.ndarray, exact: bool = True) -> np.ndarray:
        """(n, parts) float64, by `kinds`: what adds up to each item's score, 0 for none; 'below' is what keeps an item under the
        ranked ones.

        exact: by TreeSHAP; else along the trees' paths, which adds up as well and takes a tenth of the time.
        """
        found = np.zeros((len(items), len(self.kinds.names)))
        ranked = np.zeros(len(items), bool)
        if self.ranker and scored.candidates:
            among = scored.candidates
            if not exact and scored.leaves is not None:
                ranked = self.paths.split(items, among.item, scored.leaves, found)
            elif len(rows := np.flatnonzero(np.isin(among.item, items))):
                features, mine = among.features[rows], among.item[rows]
                if exact:
                    ranked = self._fill_exact(found, items, mine, features)
                else:
                    ranked = self.paths.split(items, mine, self.paths.reached(features), found)
        if not ranked.all():
            rows = np.flatnonzero(~ranked)
            weights = self.recipe.weights if len(events.item) else POPULAR
            others, left = items[rows], found[rows]
            self.kinds.fill_blend(left, others, scored.scores[0, others], weights, scored.normalised, events)
            found[rows] = left
        return found

    def _fill_exact(
        self, found: np.ndarray, items: np.ndarray, ranked: np.ndarray, features: np.ndarray
    ) -> np.ndarray:
        """As `Paths.split`, by TreeSHAP."""
        by_item = dict(zip(ranked.tolist(), cast(Ranker, self.ranker).parts(features), strict=True))
        for row, item in enumerate(items.tolist()):
            for name, part in by_item.get(item, {}).items():
                found[row, self.kinds.names.index(name)] = part
        return np.isin(items, ranked)

    def parts_by_feature(self, ranked: Ranked, item: int) -> dict[str, float]:
        """What each feature that the ranker reads added to the item's score, and 'base', largest first; empty where no ranker
        ordered it. The parts of a reason are their sums."""
        among = ranked.scored.candidates
        if not (self.ranker and among and (among.item == item).any()):
            return {}
        (found,) = self.ranker.by_feature(among.features[among.item == item])
        return dict(sorted(found.items(), key=lambda each: -abs(each[1])))

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
