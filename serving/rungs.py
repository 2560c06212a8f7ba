"""What each rung of the ladder below the user's own says of the items: popular, trending, related, curated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aisle.errors import NotThere
from engine.interactions import PURCHASE
from engine.recommender import Ranked, Recommender
from engine.sources.content import Content
from engine.sources.item_item import ItemItem
from serving.asking import Ask
from serving.rulebook import RuleBook
from serving.together import Together
from serving.view import View


@dataclass(frozen=True)
class Head:
    """What one rung says. scores: (n_items,), not finite where it does not show an item. source and evidence: of its
    reasons, where there is no `ranked` to tell them from."""

    rung: str
    scores: np.ndarray
    source: str = ""
    evidence: Callable[[int], dict] = lambda _: {}
    ranked: Ranked | None = None


def popular(view: View, country: str | None, rung: str) -> Head:
    named = view.recommender.popularity.named
    return Head(
        rung, view.popular_scores(country), "popularity", lambda row: {"popular_in": named(country, row)}
    )


def trending(view: View, country: str | None) -> Head | None:
    """What is bought more in the last week than the weeks before let expect: `Trends.rise`.

    For a country, times how much more of the item it buys than everybody does.
    """
    trends, others = view.recommender.trends, _others(view.recommender)
    week, _, month, _ = trends.recent
    rise = trends.rise
    if view.knows_country(country):
        overall = view.popular_scores(None)
        rise = rise * np.clip(view.popular_scores(country) / np.maximum(overall, 1e-9), 0.1, 10)
    scores = np.where((week > 0) & (rise > 0), rise, -np.inf).astype(np.float32)
    return Head(
        "trending",
        scores,
        "trending",
        lambda row: {"buyers_7d": int(week[row]), "buyers_30d": int(month[row]), "trending": True, **others},
    )


def related(view: View, ask: Ask, together: Together) -> Head | None:
    """What goes with an item or a basket; None where the release knows none of it, unless the question is about nothing else."""
    recommender = view.recommender
    wanted = [item for item in (*ask.basket, ask.item_id) if item and view.row(item) is not None]
    if not wanted:
        if ask.kind in ("similar", "together"):
            named = ask.item_id or ", ".join(ask.basket[:5])
            raise NotThere(f"no item {named!r} in the released model; it may be new, deleted or misspelt")
        return None
    bought = ask.kind == "together" or bool(ask.basket)
    scores, source = together.scores(recommender, wanted) if bought else _similar(recommender, wanted[0])
    alike = {"alike": True} if source == Content.name else {}
    title = view.titles[recommender.catalogue.index[wanted[0]]]
    evidence: dict[str, Any] = {"item_id": wanted[0], "title": title, **alike, **_others(recommender)}
    if len(wanted) > 1:
        evidence["with"] = wanted
    scores = np.where(scores > 0, scores, -np.inf) if bought else scores
    return Head("related", scores, source, lambda _: dict(evidence))


def _others(recommender: Recommender) -> dict[str, str]:
    """What a reason needs to tell of others where nobody buys, see `engine.explain.reasons`."""
    goal = recommender.recipe.goal
    return {} if goal == PURCHASE else {"goal": goal}


def _similar(recommender: Recommender, item_id: str) -> tuple[np.ndarray, str]:
    """As `Recommender.similar`: bought by the same people, or for an item that came after the fit, read alike."""
    row, fitted = recommender.catalogue.index[item_id], recommender.catalogue.fitted
    if fitted is not None and row >= fitted and Content.name in recommender.sources:
        source: Any = recommender.sources[Content.name]
        scores = source.similarity[[row]].toarray().ravel().astype(np.float32)
        return scores + np.float32(1e-6) * recommender.popularity.of_country(None), Content.name
    source = recommender.sources[ItemItem.name]
    scores = source.similar(row).astype(np.float32)
    return scores + np.float32(1e-6) * recommender.popularity.of_country(None), ItemItem.name


def curated(view: View, book: RuleBook) -> Head:
    """The shop's own list, then all else in no order."""
    scores = np.zeros(len(view), np.float32)
    for place, item in enumerate(reversed(book.curated), 1):
        row = view.row(item)
        if row is not None:
            scores[row] = place
    return Head("curated", scores, "curated", lambda row: {"curated": bool(scores[row])})
