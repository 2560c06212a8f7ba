"""The API: recommendations over HTTP. `create_app` for tests and containers, `main` for `aisle serve`."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aisle.errors import PortTaken
from aisle.lake import home
from aisle.settings import Settings
from engine.recommender import Recommender
from serving import page, problems, reference, routes
from serving.features import Histories, OnlineStore, Store
from serving.live import LiveRelease, Loaded
from serving.schemas import Readiness
from serving.telemetry import Figures, RequestLog, log_as_json

log = logging.getLogger("aisle.api")
FEATURES_SECONDS = 90.0  # so long a release waits for Feast's import before it is served without histories

DESCRIPTION = """Recommendations of the released model. A new release is swapped in without dropping a
request; an answer says which version gave it (`model_version`), how (`rung`) and why (`reason`). Errors are
problem documents (RFC 9457)."""


class Service:
    """What the routes answer with: the live release, users' histories, and the figures."""

    def __init__(self, settings: Settings, store: Store):
        self.settings = settings
        self.figures = Figures()
        self.histories = Histories(settings, store, self.figures.features.observe)
        self.live = LiveRelease(settings.serving.pointer_seconds, self._accepts, self._swapped)

    def start(self) -> None:
        self.histories.start()
        self.live.start()

    def stop(self) -> None:
        self.live.stop()
        self.histories.stop()

    def _accepts(self, recommender: Recommender) -> None:
        """Refuses a model whose feature service cannot be filled, as far as the online store can be asked."""
        self.histories.settled.wait(FEATURES_SECONDS)
        if self.histories.state == "open":
            self.histories.store.check(recommender.recipe.feature_service)

    def _swapped(self, loaded: Loaded | None) -> None:
        self.figures.swaps.labels("swapped" if loaded else "refused").inc()
        if loaded:
            self.histories.follow(loaded.recommender.recipe.feature_service)
            self.figures.model.clear()
            self.figures.model.labels(loaded.pointer.version).set(1)
            self.figures.age.set_function(lambda: time.time() - loaded.released_at)

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
        )


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """The application; its threads start and end with it. Starts without a release: up, but not ready.

    store: where histories come from; None: the Feast online store.
    """
    service = Service(settings, store or OnlineStore(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    app = FastAPI(
        title="Aisle", version="1", description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    app.add_middleware(RequestLog, figures=service.figures)
    problems.install(app)
    app.include_router(routes.v1(settings, service))
    app.include_router(page.routes(settings, service))
    _operations(app, service)
    reference.install(app)
    reports = home() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    app.mount("/reports", StaticFiles(directory=reports, html=True), name="reports")
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
        return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises PortTaken with the setting that names another port."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortTaken(
            f"port {port} on {host} is taken ({error.strerror}): "
            "stop what listens there, or set AISLE_PORTS__API to another one"
        ) from None
    return found


def main(settings: Settings) -> None:
    """Serves in the foreground until SIGTERM or SIGINT; open requests get ten seconds to finish."""
    import uvicorn

    listener = listen(settings.serving.host, settings.ports.api)
    log_as_json()
    config = uvicorn.Config(
        create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=10
    )
    log.info("listening on http://%s:%d", settings.serving.host, listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])
