"""A fitted model's scores: sources, their blend, the ranker over their candidates, and what the last stage moves.

The parts and what is made of them once. `engine.recommender.Recommender` is this and what is built on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from engine import one_user
from engine.blend import combine, normalise
from engine.cold import Cold
from engine.discovery import Discovery
from engine.diversity import LastStage, demote
from engine.index import Indexed
from engine.interactions import Catalogue, Events, Types
from engine.one_user import OneUser, Plan
from engine.paths import Paths
from engine.pauses import breathe
from engine.ranker import Ranker
from engine.ranking import Candidates, Things, candidates
from engine.recipe import Recipe
from engine.sources.base import Source
from engine.sources.content import Content
from engine.sources.popularity import Popularity
from engine.state import UserState
from engine.trees import Ranking
from engine.trends import Trends
from engine.vector_sources import indexed

if TYPE_CHECKING:
    from engine.recommender import Recommender

CELLS = 2_000_000  # of a (users, items) array that is held at once: 8 MB each


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


class Scoring:
    """Fitted parts, immutable; may be read from many threads."""

    discovery: Discovery | None = None  # of a model with discovery slots, see `Recommender.with_discovery`

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

    def events(self, states: Sequence[UserState], now: datetime) -> Events:
        recipe = self.recipe
        return Events.of(states, self.catalogue.index, now, recipe.event_weights, recipe.counting)

    def scores(self, states: Sequence[UserState], now: datetime) -> np.ndarray:
        """(n_users, n_items) float32, as the answers are ordered but for caps and diversity; columns as `catalogue.item_ids`."""
        events = self.events(states, now)
        return self._settled(events, self._scored(events).scores)

    @cached_property
    def types(self) -> Types:
        """Event types as the recipe counts them."""
        return Types.of(self.recipe.event_weights, self.recipe.counting)

    @cached_property
    def plan(self) -> Plan:
        """What one user's path need not look up for everyone."""
        return Plan.of(cast("Recommender", self))

    def source_scores(self, events: Events) -> dict[str, np.ndarray]:
        """Each source's scores, before the blend and before normalisation."""
        return {name: source.scores(events) for name, source in self.sources.items()}

    def _scored(self, events: Events) -> Scored:
        """Candidates by the ranker, and all others below them by the blend."""
        scores, normalised = self._blend(events)
        if self.recipe.repeat is False:
            scores[events.bought().nonzero()] = -np.inf
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
        return ranking.reached(found)

    @cached_property
    def paths(self) -> Paths:
        """Of the ranker, which must be there."""
        return Paths.of(cast(Ranker, self.ranker))

    @cached_property
    def indexed(self) -> dict[str, Indexed]:
        """Sources whose items one user's path finds by an index, on a large catalogue."""
        return indexed(self.sources, len(self.catalogue), self.cold)

    def warm(self) -> None:
        """Makes what the first question would wait for."""
        for made in (
            "cold",
            "lately",
            "things",
            "last_stage",
            "indexed",
            "types",
            "plan",
            *(("ranking", "paths") if self.ranker else ()),
        ):
            getattr(self, made)
            breathe()

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
        return LastStage.of(self.recipe.final, self.catalogue, self.sources, self.discovery)

    def top(self, scores: np.ndarray, k: int) -> np.ndarray:
        """(n_users, k) rows of the items that are shown, best first, -1 after a list's end, from what `chunks` yields."""
        return self.last_stage.top(scores, k)

    def _settled(self, events: Events, scores: np.ndarray) -> np.ndarray:
        """The same scores, moved in place: own dislikes down, boosts; what its user hid or the shop deleted is not finite."""
        demote(scores, events)
        self.last_stage.boost(scores)
        if events.hidden.shape[1]:
            scores[tuple(events.hidden)] = -np.inf
        if self.catalogue.gone:
            scores[:, self.catalogue.gone] = -np.inf
        return scores

    def _moves(self, events: Events) -> bool:
        """Whether `_settled` may change a score."""
        mine = events.hidden.shape[1] or (events.weight < 0).any()
        return bool(mine or self.catalogue.gone or len(self.last_stage.moved))

    # -- one user, and many

    def rank(self, state: UserState, now: datetime, allowed: np.ndarray | None = None) -> Ranked:
        """Every item's score for one user, as lists are ordered but for caps and diversity.

        allowed: (n_items,) bool, among which alone candidates are looked for: what else a rule leaves out. Where the sources are
        behind an index, a rule that leaves little would find none of it among the best of all.
        """
        events = OneUser.alone(state, self.catalogue.index, now, self.types)
        scored = self._scored_alone(events, allowed) or self._scored(events)
        if not self._moves(events):
            return Ranked(events, scored.scores[0], scored)
        before = scored.scores.copy()
        scores = self._settled(events, scored.scores)
        return Ranked(events, scores[0], replace(scored, scores=before))

    def _scored_alone(self, events: OneUser, allowed: np.ndarray | None = None) -> Scored | None:
        """As `_scored`, by the way of `engine.one_user`."""
        found = one_user.scored(cast("Recommender", self), events, allowed)
        if found is None:
            return None
        return Scored(found.scores[None], found.sheet, found.candidates, found.leaves)

    def batch(
        self, states: Sequence[UserState], k: int, now: datetime, new_only: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """ids (n, k) str and scores (n, k) float32 of many users, best first; '' and -inf after a list's end.

        new_only: leaves out what a user already bought. Memory is bounded by CELLS, whatever the number of
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
                scored[events.bought().nonzero()] = -np.inf
            yield scored
