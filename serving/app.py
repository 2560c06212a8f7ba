"""The API: recommendations over HTTP. `serving.server` runs it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from aisle.lake import home
from aisle.settings import Settings
from serving import (
    described,
    explaining,
    graph_ql,
    heap,
    items_in,
    page,
    people,
    problems,
    reference,
    routes,
    ruling,
    search,
    tracing,
    writes,
)
from serving.answers import Answers
from serving.door import Doors, Slashes
from serving.exposures import Exposures
from serving.features import Histories, OnlineStore, Store
from serving.figures import Figures, Served
from serving.headers import Cors, completed
from serving.keys import Keyring
from serving.landing import Landing
from serving.live import LiveRelease, Loaded, beside_requests
from serving.overlay import Overlay
from serving.prepared import Prepared
from serving.rulebook import Rulebook
from serving.schemas import Readiness
from serving.search_service import Searching
from serving.sessions import Sessions
from serving.shared import SharedLists
from serving.straight import Shortcuts, Ways, ways
from serving.telemetry import RequestLog
from serving.together import Together
from serving.told_items import ToldItems

log = logging.getLogger("aisle.api")
FEATURES_SECONDS = 90.0  # so long a release waits for the online store before it is served without histories
OTHERS_SECONDS = 90.0  # so long a worker leaves the requests to its siblings, until it looked for its release
FORGET_SECONDS = 5.0  # after a swap, so that requests under way find what they began with

DESCRIPTION = """Recommendations of the released model. A new release is swapped in without dropping a
request; an answer says which version gave it (`model_version`), how (`rung`) and why (`reason`). Errors are
problem documents (RFC 9457)."""


class Service:
    """What the routes answer with: the live release, users' histories, and the figures."""

    def __init__(self, settings: Settings, store: Store):
        self.settings = settings
        self.figures = Figures(self._served)
        self.keys = Keyring(settings.serving.auth, settings.serving.public_users)
        self.histories = Histories(settings, store, self.figures.features.observe)
        self.live = LiveRelease(settings.serving.pointer_seconds, self._accepts, self._swapped)
        self.live.dropped = self._forget_soon
        self.overlay = Overlay(segment=settings.features.segment)
        self.sessions = Sessions(settings, self.overlay.profile)
        self.searching = Searching(settings, self)
        self.told = ToldItems(self.overlay)
        alone = settings.serving.cache == "process"
        self.shared = None if alone else SharedLists(settings, self.told, self.figures.registry)
        held = (self.histories.take, *((self.shared.take,) if self.shared else ()))
        followers = (self.overlay.take, self.sessions.take, self.searching.take, self.told.take, *held)
        self.landing = Landing(settings, followers, self.figures.registry, self.overlay.rows)
        self.exposures = Exposures(settings.answers.exposure_queue, self.landing.offer, self.figures.registry)
        self.rulebook, self.together = Rulebook(), Together()
        self.answers = Answers(settings, self)
        self.prepared = Prepared(settings, self, self.answers, self.figures.registry)
        self._forgetting = threading.Timer(0.0, self._forget)  # of the release before; begins with a swap
        self.settle: Callable[[], None] = lambda: None  # serving.heap's, where the process is the API's own

    def start(self) -> None:
        tracing.start()
        self.keys.start()
        self.exposures.start()
        self.overlay.start()
        self.together.start()
        if self.shared:
            self.shared.start()
        self.prepared.start()
        self.histories.start()
        self.live.start()
        self.landing.start()  # reads back the newest events, while the threads above open the store and load the release

    def stop(self) -> None:
        self.live.stop()
        self._forgetting.cancel()
        self.histories.stop()
        self.prepared.stop()
        self.searching.stop()
        self.answers.stop()
        if self.shared:
            self.shared.stop()
        self.together.stop()
        self.overlay.stop()
        self.exposures.stop()
        self.landing.stop()
        tracing.stop()

    def _accepts(self, loaded: Loaded) -> None:
        """Refuses a model whose feature service cannot be filled, as far as the online store can be asked."""
        self.histories.settled.wait(FEATURES_SECONDS)
        if self.histories.state == "open":
            self.histories.store.check(loaded.recommender.recipe.feature_service)
        self.answers.warm(loaded.recommender)
        current = self.live.current
        self.searching.prepare(loaded.recommender, first=current is None)
        # Of the same version anew, views are kept under one name: the one that answers would be made again and again.
        if current and current.pointer.version != loaded.pointer.version:
            self.overlay.prepare(loaded)
            self.searching.views.of(self.answers.views.make_ready(loaded))

    def _swapped(self, loaded: Loaded | None) -> None:
        self.figures.swaps.labels("swapped" if loaded else "refused").inc()
        if loaded:
            self.histories.follow(loaded.recommender.recipe.feature_service)
            self.together.refresh()
            self.prepared.refresh()
        self._forget_soon()  # also what was made of one that is refused

    def _forget_soon(self) -> None:
        self._forgetting.cancel()
        self._forgetting = threading.Timer(FORGET_SECONDS, self._forget)
        self._forgetting.daemon = True
        self._forgetting.start()

    def _forget(self) -> None:
        """Of releases that are served no more nothing stays in memory. What only explaining asks for is made now."""
        second = self.live.second
        served = [each for each in (self.live.current, second[0] if second else None) if each]
        versions = {each.pointer.version for each in served}
        keepers = (self.overlay, self.answers.views, self.searching.views)
        heap.let_go([gone for keeper in keepers for gone in keeper.keep(versions)])
        with beside_requests():
            for each in served:
                if each.recommender.ranker:
                    each.recommender.ranker.model  # noqa: B018
        self.settle()

    def _served(self) -> Served:
        """For /metrics: what is served, and since when."""
        filled = _written(home() / "feast" / "published.json")
        loaded = self.live.current
        if loaded is None:
            return Served(features=filled)
        indexed = _written(Path(loaded.pointer.path) / "manifest.json")
        return Served(loaded.pointer.version, loaded.released_at, indexed, filled)

    def readiness(self) -> Readiness:
        """no_release: nothing to answer with. starting: the release or Feast's import is still under way."""
        current, told = self.live.current, self.histories.state
        if current and told != "opening":
            status = "ready"
        else:
            status = "no_release" if not current and self.live.looked.is_set() else "starting"
        pointer = current.pointer if current else None
        return Readiness(
            status=status,
            version=pointer.version if pointer else None,
            digest=pointer.digest if pointer else None,
            released_at=pointer.at if pointer else None,
            features=told,
            fault=self.live.fault,
            beside=self.live.told_beside(),
        )


def create_app(settings: Settings, store: Store | None = None, siblings: bool = False) -> FastAPI:
    """The application; its threads start and end with it. Starts without a release: up, but not ready.

    store: where histories come from; None: the Feast online store. siblings: whether other processes answer on the same socket, so
    that this one takes a request only once it looked for a release: whoever is served by them never meets one that is loading.
    """
    service = Service(settings, store or OnlineStore(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if siblings:
            await asyncio.to_thread(service.live.looked.wait, OTHERS_SECONDS)
        yield
        service.stop()

    app = FastAPI(
        title="Aisle", version="1", description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    doors = Doors(settings, service.keys, service.figures)
    app.add_middleware(Cors, origins=settings.serving.cors_origins, of_keys=service.keys.origins)
    app.add_middleware(Slashes)
    shortcuts: Ways = {}
    app.add_middleware(Shortcuts, ways=shortcuts)
    app.add_middleware(RequestLog, figures=service.figures, completed=completed, defect=problems.defect)
    problems.install(app)
    app.include_router(routes.v1(settings, service))
    app.include_router(search.routes(settings, service))
    app.include_router(explaining.routes(settings, service))
    app.include_router(ruling.routes(settings, service))
    app.include_router(writes.routes(settings, service))
    app.include_router(items_in.routes(settings, service))
    app.include_router(people.routes(settings, service))
    app.include_router(graph_ql.routes(settings, service))
    app.include_router(page.routes(settings, service))
    _operations(app, service)
    reference.install(app)
    reports = home() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    app.mount("/reports", StaticFiles(directory=reports, html=True), name="reports")
    doors.hang(app)
    shortcuts |= ways(app)
    described.install(app)
    return app


def _operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operations"], summary="Is the process up?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="Which release answers?",
        responses={503: {"model": Readiness}},
    )
    async def readyz(response: Response) -> Readiness:
        found = service.readiness()
        response.status_code = 200 if found.status == "ready" else 503
        return found

    @app.get("/metrics", tags=["operations"], summary="Prometheus figures", response_class=Response)
    def metrics() -> Response:
        return Response(service.figures.text(), media_type=CONTENT_TYPE_LATEST)


def _written(file: Path) -> float | None:
    """When a file was written last, in seconds since 1970; None where there is none."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return None
