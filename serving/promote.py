"""Step `publish.promote`, `aisle promote` and `aisle rollback`: which release is served, by compare-and-set.

The order, and what happens after a kill at any point, is in serving.change.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from aisle.errors import AisleError, GateBlocked, NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from serving import change, live, probe, release
from serving.release import Pointer

if TYPE_CHECKING:
    from aisle.registry import Registry

UNSEEN = "not looked at"


def run(settings: Settings, context: StepContext) -> dict:
    """Releases the version that `publish.stage` staged (or params['version']).

    Returns {"version", "previous", "api": "serving" | "not running" | "already served", "decision_id": of the
    promotion (of the gate, where nothing was left to do), "gate_decision"}. Raises GateBlocked, RaceLost,
    ServiceFailed (the pointer is back by then).
    """
    from aisle.registry import Registry
    from serving import stage

    upstream = (context.params.get("upstream") or {}).get("publish.stage") or {}
    version = context.params.get("version") or upstream.get("version")
    if not version:
        raise NotThere('which version? run publish.stage first, or give --params \'{"version": "4"}\'')
    gate_decision = stage.require_pass(Registry(settings), str(version))
    seen = upstream["seen"] if str(upstream.get("version")) == str(version) else UNSEEN
    decided_by = f"publish:{context.run_id}"
    done = _promote(settings, str(version), "promote", decided_by, "", seen)
    own = done.pop("record_id", None)
    print(_said(done), file=sys.stderr)
    return {**done, "decision_id": own or gate_decision, "gate_decision": gate_decision}


def _promote(
    settings: Settings, version: str, kind: str, decided_by: str, reason: str, seen: str | None = UNSEEN
) -> dict:
    """`seen`: the version served when this was decided; UNSEEN: whatever is served now."""
    with release.lock():
        resumed = change.resume(settings)
        held = release.current()
        if held and held.version == version:
            return _already(settings, held, resumed)
        staged = release.staged(version)
        if staged is None:
            raise NotThere(
                f"version {version} is not staged, or was changed since: "
                f"""`aisle run publish --params '{{"version": "{version}"}}'`"""
            )
        live.load(staged)  # every file against its sum once more: approval may have taken days
        served = held.version if held else None
        to = replace(staged, previous=served)
        api = probe.api_url()
        begun = change.begin(kind, to, served if seen == UNSEEN else seen, decided_by, reason)
        return {"version": version, "previous": served, **change.complete(settings, begun, api)}


def _already(settings: Settings, held: Pointer, resumed: change.Change | None) -> dict:
    """A version that is served is not released again; its alias is put right where it differs."""
    from aisle.registry import CHAMPION, Registry

    registry = Registry(settings)
    named = registry.by_alias(CHAMPION)
    if named is None or str(named.version) != held.version:
        registry.move_alias(CHAMPION, held.version, named.version if named else None)
    return {
        "version": held.version,
        "previous": held.previous,
        "api": "already served",
        "resumed": resumed is not None,
    }


def _said(done: dict) -> str:
    """What a promotion did, in a sentence."""
    if done["api"] == "already served":
        return f"version {done['version']} is already served" + (
            "; its release was completed" if done["resumed"] else ""
        )
    before = f", before it {done['previous']}" if done["previous"] else ""
    return f"version {done['version']} is released{before}; API: {done['api']}"


def who() -> str:
    try:
        return f"command:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "command"


def promote(settings: Settings, version: str, override: str | None = None) -> str:
    """Releases a version by hand. Needs the gate's pass, or `override`: the reason, which is recorded.

    Raises GateBlocked, NotThere, BundleRejected (the smoke check is never overridden), ServiceFailed.
    """
    from aisle.registry import Registry

    registry = Registry(settings)
    version = str(registry.version(version).version)
    require_release(settings, registry, version, override)
    kind = "override" if override else "promote"
    done = _promote(settings, version, kind, who(), (override or "").strip())
    decision = f"; decision {done['record_id']}" if "record_id" in done else ""
    return f"{_said(done)}{decision}"


def require_release(settings: Settings, registry: Registry, version: str, override: str | None) -> None:
    """The gate's pass or a reason to do without, and the version staged. Raises GateBlocked, BundleRejected."""
    from serving import stage

    if override is not None and not override.strip():
        raise GateBlocked(
            "--override needs a reason, which is recorded: --override 'holiday stock must show today'"
        )
    if override is None:
        stage.require_pass(registry, version)
    stage.stage(settings, registry, version)


def _target(held: Pointer) -> Pointer:
    """The newest release before `held` that is not barred and still whole. Raises NotThere."""
    found = next(release.earlier(held), None)
    if found:
        return found
    raise NotThere(
        f"no release before version {held.version} to go back to; `aisle promote V` releases another one"
    )


def rollback(settings: Settings, reason: str = "rolled back by hand") -> str:
    """Serves the release before this one again and bars this one.

    Needs neither Airflow nor, for serving, MLflow.

    Where MLflow cannot be reached, the next publish, promote or rollback moves the aliases.
    Raises NotThere, ServiceFailed.
    """
    with release.lock():
        begun = change.journal()
        if begun and begun.kind in ("rollback", "auto_rollback") and change.resume(settings):
            return f"version {begun.to} is served again; this completed the rollback begun at {begun.at}"
        held = release.current()
        if held is None:
            raise NotThere(
                "nothing is released, so there is nothing to roll back; `aisle promote V` releases a version"
            )
        target = _target(held)
        api = probe.api_url()
        begun = change.begin("rollback", target, held.version, who(), reason)
        return _complete_rollback(settings, begun, api)


def _complete_rollback(settings: Settings, begun: change.Change, api: str | None) -> str:
    text = f"version {begun.to} is served again, {begun.seen} is barred"
    try:
        done = change.complete(settings, begun, api)
    except AisleError:
        raise
    except Exception as error:  # MLflow's and its database's errors share no base; serving needs neither
        return f"{text}; MLflow did not answer ({error}), its aliases follow with the next publish"
    return f"{text}; API: {done['api']}; decision {done['record_id']}"
