"""Why this, why not that, why empty: one question gone through again, stage by stage, with what each stage did to an item."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field

from aisle.checked import Checked
from aisle.errors import NotThere
from aisle.settings import Settings
from engine.ranking import DEPTH
from engine.recommender import Ranked
from engine.rules import had
from engine.state import UserState, epoch
from serving import examples, reasons
from serving.asking import Ask, Kind, bodies
from serving.ladder import Listing, climb, hidden, speaks
from serving.routes import NOT_THERE
from serving.rulebook import RuleBook
from serving.schemas import Finite, Problem, Reason, Rung
from serving.telemetry import request_id

EXAMPLE = {"question": {"user_id": "12347", "k": 10, "rules": {"in_stock": True}}, "item_id": "22423"}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "Every fault of the question."},
    503: {"model": Problem, "description": "No release is loaded yet."},
}


class Step(BaseModel):
    """How many items were left after a stage."""

    stage: str
    items: int


class OfSource(BaseModel):
    """What one source says of the item. place: among all items, from 1 on."""

    source: str
    place: int
    score: Finite
    candidate: bool = Field(description="Whether it was among the best that this source hands to the ranker.")


class OfItem(BaseModel):
    """One item on its way. Places count from 1; None where it did not get so far."""

    item_id: str
    title: str
    verdict: str = Field(description="In one line.")
    shown_at: int | None = Field(description="Its place in the list; None: it is not on the first page.")
    removed_by: list[str] = Field(description="Every rule that forbids it, with the scope that it stands in.")
    sources: list[OfSource]
    candidate: bool | None = Field(
        description="Whether the ranker saw it; None where this rung asks no ranker."
    )
    ranked: int | None = Field(description="Its place by the ranker, among the candidates.")
    place: int | None = Field(
        description="Its place in the whole order, after boosts and before caps and pins."
    )
    score: Finite
    reason: Reason | None = Field(
        description="Why it is where it is, parts by TreeSHAP; None for a forbidden item."
    )
    parts_by_feature: dict[str, float] = Field(
        {},
        description="What each feature that the ranker reads added, largest first: the reason's parts are their sums. Empty where no ranker ordered it.",
    )


class Explanation(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), json_schema_extra={"example": examples.EXPLANATION})

    request_id: str
    model_version: str
    rules_version: int
    rung: Rung
    degraded: list[str]
    history_events: int = Field(description="Of the user and the session, that the answer could go by.")
    trace: list[Step]
    items: list[str] = Field(description="The first page.")
    item: OfItem | None = None


def _can_be_asked(question: Any, kind: Kind) -> list[str]:
    """As the list's own path would say it."""
    faults = []
    if kind in ("similar", "together") and not (question.item_id or question.basket):
        faults.append(f"question: {kind} needs item_id or basket: what should the items go with?")
    if kind == "similar" and question.basket:
        faults.append("question: similar goes by one item_id, not by a basket")
    return faults


def _first_page(question: Any) -> list[str]:
    """Which is the one that is worked out again."""
    if question.page == 1 and question.request_id is None:
        return []
    return ["question: the first page is explained; leave page and request_id out"]


def routes(settings: Settings, service: Any) -> APIRouter:
    router, asked = APIRouter(prefix="/v1", tags=["version 1"], responses=PROBLEMS), bodies(settings)

    class ExplainQuestion(Checked):
        model_config = ConfigDict(extra="forbid")

        question: asked.RecommendationQuestion
        kind: Kind = Field(
            "recommendations", description="Which list: that of /v1/recommendations, /v1/popular, …"
        )
        item_id: asked.Id | None = Field(
            default=None, description="Why is it there, or why not? Without it: the trace alone."
        )

        between = (_can_be_asked, _first_page)

    @router.post("/explain", summary="Why this, why not that, why empty", responses=NOT_THERE)
    def explain(
        request: Request,
        question: Annotated[ExplainQuestion, Body(openapi_examples={"item": {"value": EXAMPLE}})],
    ) -> Explanation:
        """The question is answered again, now; it is not logged as shown."""
        ask = question.question.ask(question.kind)
        loaded = service.live.serving_for(ask.user_id or ask.session_id)
        view, rules = service.answers.views.of(loaded), service.rulebook.current()
        state, known, degraded = service.answers.state_now(ask)
        depth = settings.answers.page_items
        listing = climb(view, ask, state, rules.book, service.together, known, depth)
        rows = listing.rows(1, ask.k)
        ids = view.recommender.catalogue.item_ids
        return Explanation(
            request_id=request_id(),
            model_version=loaded.pointer.version,
            rules_version=rules.version,
            rung=listing.rung,
            degraded=[*degraded, *listing.degraded],
            history_events=len(state.item_ids),
            trace=trace(listing, rules.book, ask, state, rows),
            items=[ids[row] for row in rows],
            item=of_item(listing, rules.book, ask, state, rows, question.item_id)
            if question.item_id
            else None,
        )

    return router


def trace(listing: Listing, book: RuleBook, ask: Ask, state: UserState, rows: list[int]) -> list[Step]:
    """Items left after each stage, from the catalogue to the page."""
    assortment = listing.view.assortment
    left = ~assortment.gone
    steps = [Step(stage="catalogue", items=len(left)), Step(stage="not deleted", items=int(left.sum()))]

    def after(stage: str) -> None:
        steps.append(Step(stage=stage, items=int(left.sum())))

    for scope, rules in book.scoped(ask):
        for name, mask in assortment.checks(rules):
            left &= mask
            after(f"rule {scope}: {name}")
        if rules.exclude:
            left[assortment.rows_of(rules.exclude)] = False
            after(f"rule {scope}: exclude")
        if rules.already:
            left[assortment.rows_of(tuple(had(state, [rules], epoch(listing.now))))] = False
            after(f"rule {scope}: already")
    left[hidden(listing.view.recommender, state, listing.now)] = False
    after("not hidden by the user")
    ranked = listing.head.ranked
    if ranked and ranked.scored.candidates:
        among = np.zeros(len(left), bool)
        among[ranked.scored.candidates.item] = True
        steps.append(Step(stage="candidates of the ranker", items=int(among.sum())))
        steps.append(Step(stage="of them allowed", items=int((among & left).sum())))
    steps.append(Step(stage=f"rung {listing.rung}", items=listing.own))
    steps.append(Step(stage="with lower rungs", items=len(listing.order)))
    steps.append(Step(stage="on the page", items=len(rows)))
    return steps


def of_item(
    listing: Listing, book: RuleBook, ask: Ask, state: UserState, rows: list[int], item_id: str
) -> OfItem:
    """Raises NotThere for an item that the catalogue never had."""
    view, ranked = listing.view, own(listing, ask, state)
    row = view.assortment.catalogue.index.get(item_id)
    if row is None:
        raise NotThere(f"no item {item_id!r} in the released model; it may be new, or misspelt")
    removed = removed_by(listing, book, ask, state, row)
    place = np.flatnonzero(listing.order == row)
    found = ranked.scored.candidates if ranked else None
    candidate = bool(np.isin(row, found.item)) if found is not None else None
    by_ranker = None
    if ranked and found is not None and candidate:
        scores = ranked.scored.scores[0]
        by_ranker = 1 + int((scores[found.item] > scores[row]).sum())
    shown_at = rows.index(row) + 1 if row in rows else None
    told = None if removed else listing.told([row], exact=True)[0]
    by_feature: dict[str, float] = {}
    if ranked and told and told.reason["parts"]:
        by_feature = view.recommender.parts_by_feature(ranked, row)
    return OfItem(
        item_id=item_id,
        title=view.titles[row],
        verdict=verdict(listing, ask, removed, row, rows, place),
        shown_at=shown_at,
        removed_by=removed,
        sources=of_sources(listing, ranked, row),
        candidate=candidate,
        ranked=by_ranker,
        place=int(place[0]) + 1 if len(place) else None,
        score=told.score if told else None,
        reason=reasons.of(told.reason) if told else None,
        parts_by_feature={name: round(part, reasons.DIGITS) for name, part in by_feature.items()},
    )


def removed_by(listing: Listing, book: RuleBook, ask: Ask, state: UserState, row: int) -> list[str]:
    """Everything that forbids an item, not the first of it."""
    assortment, item = listing.view.assortment, listing.view.assortment.catalogue.item_ids[row]
    found = ["deleted"] if assortment.gone[row] else []
    for scope, rules in book.scoped(ask):
        found += [f"{scope}: {name}" for name, mask in assortment.checks(rules) if not mask[row]]
        found += [f"{scope}: exclude"] if item in rules.exclude else []
        found += [f"{scope}: already"] if item in had(state, [rules], epoch(listing.now)) else []
    if row in hidden(listing.view.recommender, state, listing.now):
        found.append("hidden by the user")
    return found


def own(listing: Listing, ask: Ask, state: UserState) -> Ranked | None:
    """What the engine makes of the history, whether or not its rung had something left to show; None where it is not asked."""
    if listing.head.ranked is not None or ask.kind != "recommendations" or ask.subjects:
        return listing.head.ranked
    return listing.view.ranked(state, listing.now) if speaks(listing.view.recommender, state) else None


def of_sources(listing: Listing, ranked: Ranked | None, row: int) -> list[OfSource]:
    """What each source of a personal rung says; of another rung, what it went by."""
    if ranked is None:
        scores = listing.head.scores
        place = 1 + int((scores > scores[row]).sum())
        return [OfSource(source=listing.head.source, place=place, score=float(scores[row]), candidate=False)]
    fresh = np.ones(len(listing.view), bool)
    fresh[ranked.events.item[ranked.events.weight > 0]] = False
    found = []
    for name, values in ranked.scored.normalised.items():
        scores = values[0]
        above = scores > scores[row]
        place = 1 + int(above.sum())
        best = place <= DEPTH or bool(fresh[row] and (above & fresh).sum() < DEPTH)
        found.append(OfSource(source=name, place=place, score=round(float(scores[row]), 4), candidate=best))
    return found


def verdict(
    listing: Listing, ask: Ask, removed: list[str], row: int, rows: list[int], place: np.ndarray
) -> str:
    if row in rows:
        pinned = " by a pin" if row in listing.places.pins.values() else ""
        return f"shown at place {rows.index(row) + 1}{pinned}, rung {listing.rung}"
    if removed:
        return f"not shown: {', '.join(removed)}"
    if not len(place):
        return f"not shown: beyond the best {len(listing.order)} that pages are made of"
    if place[0] < ask.k:
        full = [
            name
            for name, codes, most in listing.places.caps
            if codes[row] >= 0 and sum(codes[each] == codes[row] for each in rows) >= most
        ]
        return f"not on this page: {'the cap on its ' + ' and '.join(full) + ' is full' if full else 'pinned items took its place'}"
    return f"not on this page: place {int(place[0]) + 1} of {len(listing.order)}, {ask.k} are shown"
