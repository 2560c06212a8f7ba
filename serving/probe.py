"""Asks the running API, over HTTP, which release it serves."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

from aisle.errors import ServiceFailed
from aisle.lake import home
from aisle.settings import Settings
from serving import release
from serving.release import Pointer

STARTING_SECONDS = 60.0  # an API that has just started reads its features first


def api_url() -> str | None:
    """Where `aisle up` started the API, if that answers; None where no API runs."""
    found = (release.read_json(home() / "run" / "services.json") or {}).get("api") or {}
    url = str(found.get("url", "")).rstrip("/")
    return url if url and ask(f"{url}/healthz") is not None else None


def ask(url: str) -> dict | None:
    """The JSON of an answer, whatever its status; None where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            return json.load(error)
        except ValueError:
            return None
    except (OSError, ValueError):
        return None


def wait_until_served(settings: Settings, pointer: Pointer, url: str | None) -> str:
    """Returns 'serving' once /readyz at `url` names this release, or 'not running' without one.

    Raises ServiceFailed after serving.swap_seconds (an API that is still starting gets a minute), or as
    soon as the API says that it refused the release.
    """
    if url is None:
        return "not running"
    started = time.monotonic()
    said: dict | None = None
    while True:
        said = ask(f"{url}/readyz")
        if said and (said.get("version"), said.get("digest")) == (pointer.version, pointer.digest):
            return "serving"
        fault = (said or {}).get("fault") or {}
        if fault.get("at") == pointer.at:
            raise ServiceFailed(f"the API at {url} refused version {pointer.version}: {fault.get('detail')}")
        starting = (said or {}).get("status") == "starting"
        if time.monotonic() - started > (STARTING_SECONDS if starting else settings.serving.swap_seconds):
            break
        time.sleep(0.1)
    raise ServiceFailed(
        f"the API at {url} did not serve version {pointer.version} in time; "
        f"/readyz says {json.dumps(said)[:300]}; see its log"
    )
