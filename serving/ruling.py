"""The shop's rules over HTTP: read, replace, look back, and try before."""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from aisle.errors import RaceLost
from aisle.settings import Settings
from engine.places import Places
from engine.rules import Rules, had
from engine.state import epoch
from serving import examples
from serving.asking import Ask, bodies
from serving.cached import Pool
from serving.making import Made, work
from serving.rulebook import LONGEST_HISTORY, RuleBook, Version, history
from serving.schemas import Problem
from serving.view import View

PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "Every fault of the document."}
}
CHANGED: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Somebody else changed the rules since the version in If-Match."},
    503: {"model": Problem, "description": "The document on disk was tampered with; nothing was written."},
}
PREVIEWED = 50  # users of one preview


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RulesTold(BaseModel):
    """A version of the rules. digest: of this version, which names that of the one before."""

    model_config = ConfigDict(json_schema_extra={"example": examples.RULES})

    version: int = Field(description="From 1 on; 0: nobody wrote rules yet.")
    at: str
    by: str
    note: str
    digest: str
    previous_digest: str
    rules: RuleBook
    warnings: list[str] = Field(
        default=[], description="What the document names and the released catalogue does not know."
    )
    fault: str | None = Field(
        default=None, description="Why the document on disk is not read; the last good version goes on."
    )


class History(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"versions": [examples.RULES]}})

    versions: list[RulesTold] = Field(description="Newest first.")


class Change(BaseModel):
    """What would change in one user's list."""

    user_id: str | None
    rung: str
    before: list[str]
    after: list[str]
    added: list[str]
    removed: dict[str, list[str]] = Field(
        description="By item, the rules that forbid it, or the caps that had no room for it (`caps.category`, `caps.brand`); "
        "none: others come before it."
    )


class Preview(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": examples.PREVIEW})

    version: int = Field(description="Of the rules in force, which the document was compared with.")
    warnings: list[str]
    allowed: dict[str, int] = Field(
        description="Items that rules of the scope `all` let through, before and after."
    )
    changes: list[Change]


def routes(settings: Settings, service: Any) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["rules"], responses=PROBLEMS)
    Id = bodies(settings).Id

    class PreviewQuestion(BaseModel):
        model_config = ConfigDict(extra="forbid")

        rules: RuleBook
        users: list[Id] = Field(
            default=[], max_length=PREVIEWED, description="Nobody: what a stranger would see."
        )
        country: Id | None = None
        category: Id | None = None
        placement: Id | None = None
        k: Annotated[int, Field(ge=1, le=settings.serving.max_k)] = settings.serving.k

    class PutParameters(_Parameters):
        note: Annotated[str, Field(max_length=500, description="Why, for the history.")] = ""

    class PastParameters(_Parameters):
        limit: Annotated[int, Field(ge=1, le=1000)] = 50
        before: Annotated[int | None, Field(ge=1, le=10**9)] = None

    def warnings(book: RuleBook) -> list[str]:
        loaded = service.live.current
        return unknown(book, service.answers.views.of(loaded)) if loaded else []

    def told(version: Version, fault: str | None = None) -> RulesTold:
        return RulesTold(**version.told(), warnings=warnings(version.book), fault=fault)

    @router.get("/rules", summary="The shop's rules in force")
    def current(response: Response) -> RulesTold:
        found = service.rulebook.current()
        response.headers["ETag"] = f'"{found.version}"'
        return told(found, service.rulebook.fault)

    @router.put("/rules", summary="Replace the shop's rules", responses=CHANGED)
    def put(
        request: Request,
        response: Response,
        book: RuleBook,
        asked: Annotated[PutParameters, Query()],
        if_match: Annotated[
            str | None, Header(max_length=100, description="The version you read, as its ETag.")
        ] = None,
    ) -> RulesTold:
        """In force with the next answer of every process. The same document again is no new version."""
        found = service.rulebook.put(book, who(request), asked.note, expected(if_match))
        response.headers["ETag"] = f'"{found.version}"'
        return told(found)

    @router.get("/rules/history", summary="Who changed the rules, when and to what")
    def past(asked: Annotated[PastParameters, Query()]) -> History:
        """Newest first, versions below `before`. The chain of digests is checked as it is read."""
        before = asked.before
        found = [each for each in history()[-LONGEST_HISTORY:] if before is None or each.version < before]
        return History(versions=[RulesTold(**each.told()) for each in reversed(found[-asked.limit :])])

    @router.post(
        "/rules/preview",
        summary="What a document would change, without putting it in force",
        responses={404: {"model": Problem, "description": "No such category."}},
    )
    def preview(
        question: Annotated[PreviewQuestion, Body(openapi_examples={"stock": {"value": PREVIEW_EXAMPLE}})],
    ) -> Preview:
        loaded = service.live.serving()
        view, rules = service.answers.views.of(loaded), service.rulebook.current()
        tried = replace(rules, book=question.rules)
        asked = Ask(
            k=question.k, country=question.country, category=question.category, placement=question.placement
        )
        changes = []
        for user in question.users or [None]:
            ask = replace(asked, user_id=user)
            state, known, degraded = service.answers.state_now(ask)
            before, after = (
                work(view, ask, state, each, service.together, known, settings.answers.page_items, degraded)
                for each in (rules, tried)
            )
            changes.append(change(view, ask, tried.book, before, after))
        counts = {
            name: int(view.assortment.allowed((each.book.all,)).sum())
            for name, each in (("before", rules), ("after", tried))
        }
        return Preview(
            version=rules.version, warnings=unknown(tried.book, view), allowed=counts, changes=changes
        )

    return router


PREVIEW_EXAMPLE = {
    "rules": {"all": {"in_stock": True, "caps": {"brand": 2}}},
    "users": ["12347", "12348"],
    "k": 10,
}


def change(view: View, ask: Ask, book: RuleBook, before: Made, after: Made) -> Change:
    old, new = ([each["item_id"] for each in made.items] for made in (before, after))
    documents = book.rules(ask)
    gone = [item for item in old if item not in new]
    return Change(
        user_id=ask.user_id,
        rung=after.rung,
        before=old,
        after=new,
        added=[item for item in new if item not in old],
        removed={
            item: forbidding(view, documents, after.pool, item)
            or full(view, documents, ask.k, after.pool, new, item)
            for item in gone
        },
    )


def forbidding(view: View, documents: tuple[Rules, ...], pool: Pool, item: str) -> list[str]:
    """The rules that forbid an item. pool: of the list that it is not on."""
    row, found, now = view.assortment.catalogue.index[item], [], epoch(pool.now)
    for each in documents:
        found += [name for name, mask in view.assortment.checks(each) if not mask[row]]
        found += ["exclude"] if item in each.exclude else []
        found += ["already"] if item in had(pool.state, [each], now) else []
    return list(dict.fromkeys(found))


def full(
    view: View, documents: tuple[Rules, ...], k: int, pool: Pool, shown: list[str], item: str
) -> list[str]:
    """The caps that had no room left for an item whose turn came."""
    index, place = view.assortment.catalogue.index, {each: at for at, each in enumerate(pool.ids)}
    rows, row = [index[each] for each in shown], index[item]
    places = Places.of(view.assortment, documents, np.ones(len(view), bool))
    pinned = {*places.pins.values()}
    last = max((place.get(each, -1) for each in shown if index[each] not in pinned), default=-1)
    if item not in place or (place[item] > last and len(shown) >= k):
        return []
    return [
        f"caps.{name}"
        for name, codes, most in places.caps
        if codes[row] >= 0 and int((codes[rows] == codes[row]).sum()) >= most
    ]


def unknown(book: RuleBook, view: View) -> list[str]:
    """What a document names and the catalogue does not know: a slip, or an item that is still to come."""
    known = {
        "item_id": view.assortment.catalogue.index,
        **{column: view.assortment.rows.get(column, {}) for column in ("categories", "brand")},
    }
    return [
        f"no item has {column} {value!r}"
        if column != "item_id"
        else f"no item {value!r} in the released model"
        for column, values in book.named().items()
        for value in sorted(values)
        if value not in known[column]
    ]


def who(request: Request) -> str:
    """The name of the caller's key; without keys, the address."""
    key = request.scope.get("aisle", {}).get("key")
    return str(key or (request.client.host if request.client else "unknown"))


def expected(if_match: str | None) -> int | None:
    """The version that If-Match names. Raises RaceLost for one that is none of ours."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > 9:
        raise RaceLost(
            f"If-Match {if_match[:40]!r} is no version of the rules: send the ETag of GET /v1/rules"
        )
    return int(text)
