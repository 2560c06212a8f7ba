"""The routes of search: GET and POST /v1/search."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from aisle.settings import Settings
from serving import asking, search_asking
from serving.routes import JSON, NOT_THERE, PROBLEMS
from serving.same_question import sent
from serving.search_asking import EXAMPLES, SearchAnswer, Searched
from serving.telemetry import request_id


def routes(settings: Settings, service: Any) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEMS)
    asked = search_asking.bodies(settings, asking.bodies(settings))

    async def answer(request: Request, searched: Searched) -> Response:
        searched = replace(searched, ask=sent(searched.ask, request))
        found = await service.searching.ask(searched, request_id())
        told = {"rung": found.found.rung, "model_version": found.head["model_version"]}
        request.scope["aisle"] = {**request.scope.get("aisle", {}), **told}
        return Response(found.body, headers={"Cache-Control": "private, no-cache"}, media_type=JSON)

    @router.get(
        "/search", summary="Items that a text finds", response_model=SearchAnswer, responses=NOT_THERE
    )
    async def search_get(request: Request, question: Annotated[asked.SearchParameters, Query()]) -> Response:
        """Text and preference in one ranking: misspelt words, other forms and any order of words find the same items, those that this
        shopper may like come first. Without a text: all that the filters let through, by preference.
        """
        return await answer(request, question.searched())

    @router.post(
        "/search",
        summary="Items that a text finds, under rules",
        response_model=SearchAnswer,
        responses=NOT_THERE,
    )
    async def search_post(
        request: Request, question: Annotated[asked.SearchQuestion, Body(openapi_examples=EXAMPLES)]
    ) -> Response:
        """As the GET, with all the rules that there are."""
        return await answer(request, question.searched())

    return router
