"""`aisle serve`: the API under uvicorn, in this process or in several workers that share one socket."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from aisle import settings as settings_module
from aisle.errors import PortTaken, SettingsError
from aisle.lake import home
from aisle.settings import Settings
from serving import figures, heap
from serving.telemetry import log_as_json

log = logging.getLogger("aisle.api")
SWITCH_SECONDS = 0.001  # an answer's thread keeps Python no longer than this from the loop that takes in and refuses requests
KEEP_ALIVE_SECONDS = 30  # longer than a shop's backend keeps an idle connection in its pool


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


def config(settings: Settings, app: Any, **more: Any) -> Any:
    """uvicorn's configuration for an app, or for the import string of a factory of one."""
    import uvicorn

    sys.setswitchinterval(SWITCH_SECONDS)
    return uvicorn.Config(
        app,
        http="serving.protocol:Bounded",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=settings.serving.limits.max_connections,
        proxy_headers=True,
        forwarded_allow_ips=settings.serving.trusted_proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.serving.grace_seconds,
        **more,
    )


def import_lightgbm() -> None:
    """Without scikit-learn, for which it has wrappers that a server does not use: their import takes longer than all else of ours.

    For a process of the API's own, before it has threads.
    """
    if "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import lightgbm  # noqa: F401
    finally:
        del sys.modules["sklearn"]


def worker() -> FastAPI:
    """The app of one of several workers, in a process of its own."""
    sys.setswitchinterval(SWITCH_SECONDS)
    heap.sparing()
    import_lightgbm()
    log_as_json()
    return made(settings_module.load(), siblings=True)


def made(settings: Settings, siblings: bool = False) -> FastAPI:
    """The app of a process that does nothing else. siblings: see `create_app`."""
    from serving.app import create_app

    app = create_app(settings, siblings=siblings)
    heap.seldom()
    app.state.service.settle = heap.settle
    app.state.service.live.undisturbed = heap.undisturbed
    return app


def require_closed(settings: Settings) -> None:
    """Raises SettingsError where everybody on the network could ask for everything."""
    host = settings.serving.host
    try:
        inside = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if settings.serving.auth == "open" and not inside:
        raise SettingsError(
            f'serving.auth = "open" with serving.host = {host!r} would show every customer to the network: '
            'set serving.auth = "keys", or serving.host = "127.0.0.1"'
        )


def main(settings: Settings) -> None:
    """Serves in the foreground until SIGTERM or SIGINT; open requests get serving.grace_seconds to finish."""
    import uvicorn

    require_closed(settings)
    listener = listen(settings.serving.host, settings.ports.api)
    log_as_json()
    log.info("listening on http://%s:%d", settings.serving.host, listener.getsockname()[1])
    if settings.serving.workers == 1:
        heap.sparing()
        import_lightgbm()
        uvicorn.Server(config(settings, made(settings))).run(sockets=[listener])
        return
    from serving.keys import page_secret

    page_secret()  # made here, so that all workers sign the same
    os.environ[figures.FOLDER] = os.environ[figures.SHARED] = str(_fresh(home() / "run" / "figures"))
    several = config(settings, "serving.server:worker", factory=True, workers=settings.serving.workers)
    listener.set_inheritable(True)
    uvicorn.supervisors.Multiprocess(several, sockets=[listener]).run()


def _fresh(folder: Path) -> Path:
    """An empty folder for the workers' figures: counts begin at 0 with the service, as in one process."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
