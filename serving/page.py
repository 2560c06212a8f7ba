"""The page at /: a customer's purchases beside their recommendations, made on the server."""

import logging
import threading
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment

from aisle.errors import ServiceFailed
from aisle.settings import Settings
from serving import routes as version1
from serving import sample
from serving.schemas import printable

log = logging.getLogger("aisle.page")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; base-uri 'none'"
EVENTS = 25  # of a history, on the page


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
    def page(user_id: Annotated[str, Query()] = "", country: Annotated[str, Query()] = "") -> HTMLResponse:
        user_id, country = user_id.strip(), country.strip()
        shown = {
            "user": user_id[:longest],
            "country": country[:longest],
            "longest": longest,
            "events": EVENTS,
        }
        text = template.render(**shown, **told(user_id, country))
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
