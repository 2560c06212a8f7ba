"""The recommender: sources, their blend, the ranker over their candidates, and answers with reasons.

A fitted recommender is immutable and holds no row of a user (docs/adr/0004): who asks brings a `UserState`.
It may be read from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from aisle.settings import Final
from engine import bundle, explain, one_user
from engine.blend import Weights, combine, normalise
from engine.cold import Cold
from engine.diversity import LastStage, demote
from engine.index import Indexed
from engine.interactions import Catalogue, Events
from engine.metrics import top_k
from engine.new_items import grow
from engine.one_user import OneUser
from engine.ranker import Ranker
from engine.ranking import Candidates, Things, candidates
from engine.recipe import Recipe
from engine.sources import FROM_EXPORTS, FROM_HISTORIES, Export
from engine.sources.base import Source
from engine.sources.content import Content
from engine.sources.item_item import ItemItem
from engine.sources.popularity import Popularity
from engine.state import UserState, from_frame
from engine.trees import Ranking
from engine.trends import Trends
from engine.vector_sources import indexed

CELLS = 2_000_000  # of a (users, items) array that is held at once: 8 MB each
POPULAR = Weights(again={"popularity": 1.0}, new={"popularity": 1.0})  # for who has no history


@dataclass(frozen=True)
class Recommended:
    """One item of an answer. reason: its source, evidence and parts, see engine.explain."""

    item_id: str
    score: float
    reason: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """scores: (n_users, n_items) float32. normalised: the sources' own. candidates: what the ranker ordered, where there is one.

    leaves: (candidates, trees) LightGBM's numbers of those that the ranker reached, where they are known.
    """

    scores: np.ndarray
    normalised: Mapping[str, np.ndarray]
    candidates: Candidates | None = None
    leaves: np.ndarray | None = None


@dataclass(frozen=True)
class Ranked:
    """scores: (n_items,) float32 of the one user of `events`; what must not be shown is not finite. scored: before own dislikes and boosts."""

    events: Events
    scores: np.ndarray
    scored: Scored


class Recommender:
    """See `fit` and `load`; the constructor takes fitted parts."""

    def __init__(
        self,
        recipe: Recipe,
        catalogue: Catalogue,
        sources: dict[str, Source],
        trends: Trends,
        ranker: Ranker | None = None,
    ):
        self.recipe = recipe
        self.catalogue = catalogue
        self.sources = sources
        self.trends = trends
        self.ranker = ranker

    @classmethod
    def fit(
        cls,
        items: pd.DataFrame,
        histories: pd.DataFrame,
        cut: datetime,
        recipe: Recipe,
        exports: Mapping[str, Export] | None = None,
        ranker: Ranker | None = None,
    ) -> Recommender:
        """Fits every source of the recipe to what was known before `cut`. The ranker is taken as it is: None ranks by the blend.

        items: item_id, title, categories, brand, price, n_buyers, n_buyers_30d, deleted; histories: user_id,
        country, item_ids, event_types, event_times (epoch s), quantities, newest first. exports: learned models by source;
        a learned source of the recipe without one is left out. Raises ValueError without items.
        """
        catalogue = Catalogue.of(items)
        if not len(catalogue):
            raise ValueError(
                f"no item to recommend before {cut.isoformat()}: the items frame is empty or all deleted"
            )
        events = Events.of(from_frame(histories), catalogue.index, cut, recipe.event_weights, recipe.counting)
        exports = exports or {}
        sources = {
            name: fit_source(name, settings, events, catalogue, exports.get(name))
            for name, settings in recipe.sources.items()
            if name in FROM_HISTORIES or name in exports
        }
        kept = {name: settings for name, settings in recipe.sources.items() if name in sources}
        recipe = recipe.model_copy(update={"cut": cut, "sources": kept})
        return cls(recipe, catalogue, sources, Trends.fit(events), ranker)

    def without(self, names: Collection[str]) -> Recommender:
        """The same sources but for these, without the ranker, which reads them."""
        left = {name: source for name, source in self.sources.items() if name not in names}
        settings = {name: self.recipe.sources.get(name, {}) for name in left}
        recipe = self.recipe.model_copy(update={"sources": settings})
        return Recommender(recipe, self.catalogue, left, self.trends)

    def with_weights(self, weights: Weights) -> Recommender:
        """The same sources under another blend, without the ranker."""
        recipe = self.recipe.model_copy(update={"weights": weights})
        return Recommender(recipe, self.catalogue, self.sources, self.trends)

    def with_ranker(self, ranker: Ranker | None) -> Recommender:
        """The same sources and blend, their candidates ordered by another ranker, or by none."""
        return Recommender(self.recipe, self.catalogue, self.sources, self.trends, ranker)

    def with_final(self, final: Final) -> Recommender:
        """The same ranking under another last stage; `Final()` for none."""
        recipe = self.recipe.model_copy(update={"final": final})
        return Recommender(recipe, self.catalogue, self.sources, self.trends, self.ranker)

    def with_items(self, items: pd.DataFrame) -> Recommender:
        """The same model over the catalogue of now, without a refit: see `engine.new_items.grow`.

        It cannot be saved: a bundle holds what was fitted.
        """
        grown = grow(self.catalogue, self.sources, self.trends, items)
        return Recommender(self.recipe, *grown, self.ranker)

    def over(self, catalogue: Catalogue, changed: Collection[str]) -> Recommender:
        """The same model over the same items with other values in the `changed` columns, or others gone.

        What was made of the model stays made, but for what such a value is read for.
        """
        found = Recommender(self.recipe, catalogue, self.sources, self.trends, self.ranker)
        final, made = self.recipe.final, self.__dict__
        kept = {"cold", "lately", "indexed", "paths"}
        if not {*changed} & {*final.caps, *(boost.column for boost in final.boosts)}:
            kept.add("last_stage")
        if "price" not in changed:
            kept |= {"things", "ranking"}
        elif made.get("ranking") is not None:
            found.__dict__["ranking"] = made["ranking"].over(self.things, found.things)
        found.__dict__.update({name: made[name] for name in kept & made.keys()})
        return found

    # -- scores

    def events(self, states: Sequence[UserState], now: datetime) -> Events:
        recipe = self.recipe
        return Events.of(states, self.catalogue.index, now, recipe.event_weights, recipe.counting)

    def scores(self, states: Sequence[UserState], now: datetime) -> np.ndarray:
        """(n_users, n_items) float32, as the answers are ordered but for caps and diversity; columns as `catalogue.item_ids`."""
        events = self.events(states, now)
        return self._settled(events, self._scored(events).scores)

    def source_scores(self, events: Events) -> dict[str, np.ndarray]:
        """Each source's scores, before the blend and before normalisation."""
        return {name: source.scores(events) for name, source in self.sources.items()}

    def _scored(self, events: Events) -> Scored:
        """Candidates by the ranker, and all others below them by the blend."""
        scores, normalised = self._blend(events)
        if self.recipe.repeat is False:
            scores[events.owned().nonzero()] = -np.inf
        if self.ranker is None:
            return Scored(scores, normalised)
        found = self.candidates(events, normalised)
        kept = np.isfinite(scores[found.user, found.item])  # what is not finite must not be shown
        user, item, ranked = found.user[kept], found.item[kept], self.ranker.scores(found)[kept]
        least = np.full(events.n_users, np.inf, np.float32)
        np.minimum.at(least, user, ranked)
        some = np.isfinite(least)
        finite = np.where(np.isfinite(scores[some]), scores[some], -np.inf)
        scores[some] -= (finite.max(axis=1, initial=-1e9) - least[some] + 1.0)[:, None]
        scores[user, item] = ranked
        return Scored(scores, normalised, found)

    def candidates(self, events: Events, normalised: dict[str, np.ndarray]) -> Candidates:
        """What the ranker orders, with the features that it reads; without one, those that one would be fitted to."""
        sources = self.ranker.sources if self.ranker else tuple(self.sources)
        repeat = self.recipe.repeat is not False
        return candidates(events, normalised, self.lately, self.catalogue, sources, repeat, self.things)

    @cached_property
    def things(self) -> Things:
        """What the ranker reads of items, whoever asks."""
        return Things.of(self.lately, self.catalogue)

    @cached_property
    def ranking(self) -> Ranking | None:
        """Of the ranker, which must be there; None where LightGBM has to walk its trees."""
        return Ranking.of(cast(Ranker, self.ranker), self.things)

    def quick(self, found: Candidates) -> tuple[np.ndarray, np.ndarray | None]:
        """One user's candidates' scores by the ranker, (n,) float32, and the leaves of its trees that they reached, if known."""
        ranking = self.ranking
        if ranking is None:
            return cast(Ranker, self.ranker).scores(found), None
        leaves = ranking.leaves(found)
        return ranking.trees.scores(leaves), ranking.trees.number[leaves]

    @cached_property
    def indexed(self) -> dict[str, Indexed]:
        """Sources whose items one user's path finds by an index, on a large catalogue."""
        return indexed(self.sources, len(self.catalogue), self.cold)

    def warm(self) -> None:
        """Makes what the first question would wait for."""
        self.things, self.last_stage, self.indexed  # noqa: B018
        if self.ranker:
            self.ranking, self.paths  # noqa: B018

    @cached_property
    def lately(self) -> Trends:
        """`trends`, with those of new items; made once, not once a question."""
        return self.cold.trends(self.trends) if self.cold else self.trends

    @cached_property
    def cold(self) -> Cold | None:
        """Items without a buyer, and whom they read like; None without words to go by."""
        content = self.sources.get(Content.name)
        return Cold.of(cast(Content, content), self.trends) if content else None

    def normalised_scores(self, events: Events) -> dict[str, np.ndarray]:
        """Each source's scores, comparable per user: what the blend weighs and the ranker reads."""
        fill = self.cold.fill if self.cold else (lambda _, scores: scores)
        return {name: normalise(fill(name, source.scores(events))) for name, source in self.sources.items()}

    def _blend(self, events: Events) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        normalised = self.normalised_scores(events)
        blended = combine(normalised, events.owned(), self.recipe.weights)
        empty = np.bincount(events.user, minlength=events.n_users) == 0
        blended[empty] = normalised[Popularity.name][empty]
        return blended, normalised

    # -- the last stage

    @cached_property
    def last_stage(self) -> LastStage:
        """Raises ValueError where the recipe asks for what the catalogue or the sources do not have."""
        return LastStage.of(self.recipe.final, self.catalogue, self.sources)

    def top(self, scores: np.ndarray, k: int) -> np.ndarray:
        """(n_users, k) rows of the items that are shown, best first, -1 after a list's end, from what `chunks` yields."""
        return self.last_stage.top(scores, k)

    def _settled(self, events: Events, scores: np.ndarray) -> np.ndarray:
        """The same scores, moved in place: own dislikes down, boosts; what its user hid or the shop deleted is not finite."""
        demote(scores, events)
        self.last_stage.boost(scores)
        scores[tuple(events.hidden)] = -np.inf
        scores[:, self.catalogue.gone] = -np.inf
        return scores

    # -- answers

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

    def rank(self, state: UserState, now: datetime, allowed: np.ndarray | None = None) -> Ranked:
        """Every item's score for one user, as lists are ordered but for caps and diversity.

        allowed: (n_items,) bool, among which alone candidates are looked for: what else a rule leaves out. Where the sources are
        behind an index, a rule that leaves little would find none of it among the best of all.
        """
        events = OneUser.over(self.events([state], now))
        scored = self._scored_alone(events, allowed) or self._scored(events)
        before = scored.scores.copy()
        scores = self._settled(events, scored.scores)
        return Ranked(events, scores[0], replace(scored, scores=before))

    def _scored_alone(self, events: OneUser, allowed: np.ndarray | None = None) -> Scored | None:
        """As `_scored`, by the way of `engine.one_user`."""
        found = one_user.scored(self, events, allowed)
        if found is None:
            return None
        return Scored(found.scores[None], found.sheet, found.candidates, found.leaves)

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

    @cached_property
    def paths(self) -> explain.Paths:
        """Of the ranker, which must be there."""
        return explain.Paths.of(cast(Ranker, self.ranker))

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
            lists.append(self.top(blended, k))
            scores.append(np.where(lists[-1] >= 0, np.take_along_axis(blended, lists[-1], axis=1), -np.inf))
        return ids[np.vstack(lists)], np.vstack(scores[1:]) if len(scores) > 1 else scores[0]

    def chunks(
        self, states: Sequence[UserState], now: datetime, new_only: bool = False
    ) -> Iterator[np.ndarray]:
        """Scores of the states in order, some at a time, as `top` reads them."""
        size = max(1, CELLS // len(self.catalogue))
        for start in range(0, len(states), size):
            events = self.events(states[start : start + size], now)
            scored = self._settled(events, self._scored(events).scores)
            if new_only:
                scored[events.owned().nonzero()] = -np.inf
            yield scored

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

    # -- soundness and storage

    def faults(self) -> list[str]:
        """Arrays with values that are not finite, each with how many: such a model must not be released."""
        found = []
        try:
            self.last_stage  # noqa: B018 - made now, not at the first question
        except ValueError as error:
            found.append(str(error))
        stored = {name: source.arrays() for name, source in self.sources.items()} | {
            "trends": self.trends.arrays()
        }
        for name, arrays in stored.items():
            for key, array in arrays.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    found.append(
                        f"{name}.{key}: {np.count_nonzero(~np.isfinite(array))} values are not finite"
                    )
        return found

    def save(self, folder: Path) -> None:
        """Writes the bundle; see engine.bundle. Raises ValueError where items came or went since the fit."""
        if self.catalogue.fitted is not None:
            raise ValueError(
                "items came or went since the fit: save the recommender that with_items was asked of"
            )
        files = {
            "recipe.json": bundle.pack_json(self.recipe.model_dump(mode="json")),
            "items.parquet": bundle.pack_frame(self.catalogue.frame),
        }
        files |= {f"{name}.npz": bundle.pack_arrays(source.arrays()) for name, source in self.sources.items()}
        files["trends.npz"] = bundle.pack_arrays(self.trends.arrays())
        if self.ranker:
            files["ranker.txt"] = self.ranker.text.encode()
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
        for name, kind in (FROM_HISTORIES | FROM_EXPORTS).items():
            if name in recipe.sources or f"{name}.npz" in files:
                with bundle.rejecting(folder, f"{name}.npz"):
                    sources[name] = kind.from_arrays(bundle.unpack_arrays(files[f"{name}.npz"]))
        with bundle.rejecting(folder, "trends.npz"):
            trends = Trends(**bundle.unpack_arrays(files["trends.npz"]))
        ranker = Ranker(files["ranker.txt"].decode()) if "ranker.txt" in files else None
        if ranker:
            ranker.names  # noqa: B018 - parsed now, so that no request waits for it
        return cls(recipe, catalogue, sources, trends, ranker)


def _whole(settings: Mapping[str, float]) -> dict[str, float | int]:
    """Hyperparameters as they are: JSON has one kind of number, counts are whole."""
    return {key: int(value) if float(value).is_integer() else value for key, value in settings.items()}


def fit_source(
    name: str,
    settings: Mapping[str, float],
    events: Events,
    catalogue: Catalogue,
    export: Export | None = None,
) -> Source:
    """One source of the recipe. export: of a learned one."""
    if export is not None:
        found: Source = FROM_EXPORTS[name].fit(export, catalogue)
        return found
    fitted: Source = FROM_HISTORIES[name].fit(events, catalogue, **_whole(settings))
    return fitted
