"""The page at /: a customer's purchases beside their recommendations, and a search as they would see it, made on the server."""

import logging
import threading
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from pydantic import ValidationError

from aisle.errors import NotThere, ServiceFailed
from aisle.settings import Settings
from serving import asking, sample, search_asking
from serving import routes as version1
from serving.schemas import printable

log = logging.getLogger("aisle.page")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; base-uri 'none'"
EVENTS = 25  # of a history, on the page
FACETS = 8  # values of a facet, on the page
FILTERS = ("category", "brand", "min_price", "max_price")


class Tries:
    """A few known customers to click on; read from gold once a release, in the background."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._for: str | None = None

    def of(self, version: str) -> list[str]:
        if self._for != version:
            self._for = version
            threading.Thread(target=self._read, name="tries", daemon=True).start()
        return self._found

    def _read(self) -> None:
        try:
            self._found = sample.users(8)
        except Exception:  # the page does without
            log.exception("no customers to try")


def routes(settings: Settings, service: Any) -> APIRouter:
    router, tries = APIRouter(include_in_schema=False), Tries()
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files("serving") / "page.html").read_text()
    )
    longest = settings.ingest.max_id_length
    question = search_asking.bodies(settings, asking.bodies(settings)).SearchParameters

    def searched(asked: dict[str, str]) -> dict:
        """What the page shows of a search; {} where there is none."""
        given = {name: value for name, value in asked.items() if value.strip()}
        if not given.keys() & {"q", *FILTERS}:
            return {}
        try:
            brands = {"brand": [given["brand"]]} if "brand" in given else {}
            asking_for = question(**{**given, **brands}, k=settings.serving.k)
            answer = service.searching.now(asking_for.searched()).plain
        except ValidationError as error:
            faults = (fault["msg"].removeprefix("Value error, ") for fault in error.errors())
            return {"search_note": "; ".join(faults)}
        except (NotThere, ServiceFailed) as error:
            return {"search_note": str(error)}

        def link(**changed: object) -> str:
            told = {**given, **changed}
            return "/?" + urlencode({name: value for name, value in told.items() if value not in (None, "")})

        chosen = [(name, given[name], link(**{name: None})) for name in FILTERS if name in given]
        return {"search": answer, "link": link, "chosen": chosen, "facets": FACETS}

    def told(user_id: str, country: str) -> dict:
        try:
            loaded = service.live.serving()
        except ServiceFailed as error:
            return {"note": str(error)}
        faults = [fault for text in (user_id, country) if (fault := _fault(text, longest))]
        if faults:
            return {"note": "; ".join(faults), "tries": tries.of(loaded.pointer.version)}
        found = version1.recommend(service, loaded, user_id or None, country or None, settings.serving.k)
        about = {
            "answer": found,
            "version": loaded.pointer.version,
            "tries": tries.of(loaded.pointer.version),
        }
        if not user_id:
            return about
        try:
            return {**about, "history": version1.history_of(service, loaded, user_id)}
        except ServiceFailed as error:
            return {**about, "note": str(error)}

    @router.get("/", response_class=HTMLResponse)
    def page(
        user_id: Annotated[str, Query()] = "",
        country: Annotated[str, Query()] = "",
        q: Annotated[str, Query()] = "",
        category: Annotated[str, Query()] = "",
        brand: Annotated[str, Query()] = "",
        min_price: Annotated[str, Query()] = "",
        max_price: Annotated[str, Query()] = "",
    ) -> HTMLResponse:
        user_id, country = user_id.strip(), country.strip()
        asked = {"user_id": user_id, "country": country, "q": q, "category": category}
        asked |= {"brand": brand, "min_price": min_price, "max_price": max_price}
        shown = {
            "user": user_id[:longest],
            "country": country[:longest],
            "longest": longest,
            "events": EVENTS,
            "q": q[: settings.search.max_query],
            "longest_query": settings.search.max_query,
        }
        text = template.render(**shown, **told(user_id, country), **searched(asked))
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    return router


def _fault(text: str, longest: int) -> str | None:
    """Why a text is no id; None for one that is, and for none."""
    if len(text) > longest:
        return f"An id of {len(text)} characters is too long; at most {longest}"
    try:
        printable(text or "-")
    except ValueError as error:
        return f"That id {error}"
    return None
