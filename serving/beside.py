"""`aisle beside`: a second release for a share of the shoppers, chosen by a stable hash of who they are, and back again."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aisle import decisions
from aisle.errors import FeatureMismatch, NotThere, ServiceFailed, SettingsError
from aisle.settings import Settings
from serving import live, probe, promote, release
from serving.release import Beside, Pointer

WAYS = "`aisle beside V --share 0.1` sets one, `aisle beside --off` takes it away"


def show() -> str:
    """What stands beside the served release."""
    found = release.beside()
    if found is None:
        return f"no second release stands beside the served one; {WAYS}"
    return (
        f"version {found.pointer.version} answers {found.share:.1%} of the shoppers since {found.pointer.at}"
    )


def put(settings: Settings, version: str, share: float, override: str | None = None) -> str:
    """Puts a version beside the served one, or changes its share; recorded as a decision of kind `beside`.

    share: of the shoppers, above 0 and below 1. As `promote`, it wants the gate's pass or `override`, a reason that is recorded.
    Raises SettingsError, NotThere, GateBlocked, BundleRejected, FeatureMismatch, ServiceFailed where the running API refuses it: then
    it was taken away again.
    """
    from aisle.registry import Registry

    if not 0 < share < 1:
        raise SettingsError(
            f"--share {share:g} is no share: name one above 0 and below 1, such as 0.1; "
            f"`aisle promote {version}` gives the version to everybody, `aisle beside --off` to nobody"
        )
    registry = Registry(settings)
    version = str(registry.version(version).version)
    promote.require_release(settings, registry, version, override)
    with release.lock():
        held = _served(version)
        staged = release.staged(version)
        if staged is None:
            raise NotThere(
                f"version {version} is not staged: `aisle run publish` stages it, or say this again"
            )
        live.load(staged)
        _require_same_features(held, staged)
        before = release.beside()
        pointer = replace(staged, previous=held.version, at=release.now())
        if before and (before.pointer.version, before.pointer.digest) == (version, pointer.digest):
            pointer = before.pointer  # another share alone, for which nothing is loaded again
        second = Beside(pointer, share)
        release.put_beside(second)
        try:
            api = wait_until_served(settings, second, probe.api_url())
        except ServiceFailed:
            release.put_beside(before)
            raise
        record_id = _record(settings, "beside", held, second, (override or "").strip())
    return f"version {version} answers {share:.1%} of the shoppers, {held.version} the others; API: {api}; decision {record_id}"


def off(settings: Settings) -> str:
    """Takes the second release away: its shoppers go back to the first. Raises NotThere where there is none."""
    with release.lock():
        held, second = release.current(), release.beside()
        if second is None:
            raise NotThere(
                f"no second release stands beside the served one, so there is none to take away; {WAYS}"
            )
        release.put_beside(None)
        record_id = _record(settings, "taken_away", held, second, "")
    first = f"version {held.version}" if held else "the served version"
    return (
        f"version {second.pointer.version} answers nobody any more, {first} answers all; decision {record_id}"
    )


def _served(version: str) -> Pointer:
    """The first release. Raises NotThere where there is none, or where it is this version."""
    held = release.current()
    if held is None:
        raise NotThere(
            f"nothing is released that version {version} could stand beside: `aisle promote {version}`"
        )
    if held.version == version:
        raise NotThere(
            f"version {version} is the one that is served; name another one, `aisle models` lists them"
        )
    return held


def _require_same_features(first: Pointer, second: Pointer) -> None:
    """Raises FeatureMismatch: users' histories are read for both releases at once."""
    found = [json.loads((Path(each.path) / "recipe.json").read_bytes()) for each in (first, second)]
    services = [each["feature_service"] for each in found]
    if services[0] != services[1]:
        raise FeatureMismatch(
            f"version {second.version} reads feature service {services[1]!r}, version {first.version} {services[0]!r}: they cannot "
            f"stand side by side; `aisle promote {second.version}` releases it to everybody"
        )


def wait_until_served(settings: Settings, second: Beside, url: str | None) -> str:
    """'serving' once /readyz at `url` names the second release, 'not running' without one. Raises ServiceFailed."""
    if url is None:
        return "not running"
    started, wanted = time.monotonic(), (second.pointer.version, second.pointer.at, second.share)
    while time.monotonic() - started < settings.serving.swap_seconds:
        said = probe.ask(f"{url}/readyz") or {}
        told = said.get("beside") or {}
        if (told.get("version"), told.get("at"), told.get("share")) == wanted:
            if told.get("fault"):
                raise ServiceFailed(
                    f"the API at {url} refused version {wanted[0]} beside the served one: {told['fault']}; it was taken away again"
                )
            return "serving"
        time.sleep(0.1)
    raise ServiceFailed(
        f"the API at {url} did not serve version {wanted[0]} beside the served one in {settings.serving.swap_seconds:g} s "
        "(serving.swap_seconds); it was taken away again, see the API's log"
    )


def _record(settings: Settings, verdict: str, held: Pointer | None, second: Beside, reason: str) -> str:
    """A decision record. change_id: so that the same thing done twice is two records."""
    as_of = datetime.fromisoformat(second.pointer.as_of) if second.pointer.as_of else None
    body = {
        "change_id": uuid.uuid4().hex,
        "share": second.share if verdict == "beside" else 0.0,
        "digest": second.pointer.digest,
        "reason": reason,
        "at": release.now(),
    }
    champion = held.version if held else None
    return decisions.record(
        settings, "beside", verdict, second.pointer.version, champion, as_of, promote.who(), body
    )
