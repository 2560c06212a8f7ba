"""Changes which release is served; a kill at any point leaves a state that the next command completes.

Order of a change, under one lock:

1. the journal ``change.json`` says what is about to happen (a rollback also bars the version it leaves);
2. the release pointer moves (os.replace): from here on the API follows;
3. the API, where it runs, answers that version on /readyz; if it does not, the pointer goes back, an
   `auto_rollback` is recorded, and the command fails;
4. the decision record is written;
5. the registry follows: tags, alias `previous`, and last alias `champion`, by compare-and-set;
6. the journal is removed.

The pointer is the truth of what is served; the registry's aliases follow it. Killed before 2, nothing
happened. Killed after 2, or with the registry out of reach in 5, the journal stays, and the next `publish`,
`promote` or `rollback` goes on from it.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from aisle import decisions
from aisle.errors import RaceLost, ServiceFailed
from aisle.settings import Settings
from serving import probe, release
from serving.release import Pointer

VERDICTS = {
    "promote": "promoted",
    "override": "promoted",
    "rollback": "rolled_back",
    "auto_rollback": "rolled_back",
}


@dataclass(frozen=True)
class Change:
    """One change of release.

    kind: promote, override, rollback, or auto_rollback once it goes back by itself.
    """

    change_id: str
    kind: str
    to: str
    seen: str | None
    decided_by: str
    reason: str
    at: str


def journal() -> Change | None:
    found = release.read_json(release.releases() / "change.json")
    return Change(**found) if found else None


def _write(change: Change) -> None:
    release.write_json(release.releases() / "change.json", asdict(change))


def _done() -> None:
    (release.releases() / "change.json").unlink(missing_ok=True)


def begin(kind: str, to: Pointer, seen: str | None, decided_by: str, reason: str) -> Change:
    """Steps 1 and 2. Raises RaceLost where the served version is not the one that the caller saw."""
    held = release.current()
    served = held.version if held else None
    if served != seen:
        raise RaceLost(
            f"version {served or 'none'} is served, not {seen or 'none'} as when this was decided: "
            f"somebody released meanwhile; look at `aisle status` and decide again"
        )
    change = Change(uuid.uuid4().hex, kind, to.version, seen, decided_by, reason, release.now())
    _write(change)
    if kind == "rollback" and seen:
        release.bar(seen, reason)
    if kind == "override":
        release.unbar(to.version)
    release.point(replace(to, at=change.at))
    return change


def complete(settings: Settings, change: Change, api: str | None) -> dict:
    """Steps 3 to 6 of a change whose pointer has moved. Returns {"api", "record_id"}.

    api: where the API answered before the pointer moved, so that one which the release kills is missed.
    Raises ServiceFailed when the API refused the release; the pointer is back by then.
    """
    try:
        served = probe.wait_until_served(settings, release.current(), api)
    except ServiceFailed as error:
        if change.kind == "rollback":
            raise
        go_back(settings, change, str(error))
        raise
    record_id = _record(settings, change)
    second = release.beside()
    if second and second.pointer.version == change.to:  # it answers everybody now
        release.put_beside(None)
    _registry(settings, change)
    _done()
    return {"api": served, "record_id": record_id}


def go_back(settings: Settings, change: Change, why: str) -> None:
    """Puts the pointer back to what was served before; recorded as `auto_rollback`. Safe to repeat."""
    back = replace(change, kind="auto_rollback", reason=why)
    _write(back)
    release.point(release.released(change.seen) if change.seen else None)
    _record(settings, back)
    _done()


def resume(settings: Settings) -> Change | None:
    """Completes a change that was cut off; returns it where its pointer had moved.

    The caller holds the lock.
    """
    change = journal()
    if change is None:
        return None
    held = release.current()
    if change.kind == "auto_rollback":
        go_back(settings, change, change.reason)
        return None
    if held is None or held.version != change.to or held.at != change.at:
        _done()  # cut off before the pointer moved: nothing happened
        return None
    print(f"going on with the {change.kind} of version {change.to} begun at {change.at}", file=sys.stderr)
    complete(settings, change, probe.api_url())
    return change


def _record(settings: Settings, change: Change) -> str:
    """The decision record of a change.

    Its change_id is in the body, so a resumed change finds its own record.
    """
    held = release.released(change.to)
    as_of = datetime.fromisoformat(held.as_of) if held and held.as_of else None
    body = {**asdict(change), "digest": held.digest if held else None}
    return decisions.record(
        settings, change.kind, VERDICTS[change.kind], change.to, change.seen, as_of, change.decided_by, body
    )


def _registry(settings: Settings, change: Change) -> None:
    """Tags, alias `previous`, alias `champion` last: each moves only from the version that is read here."""
    from aisle.registry import CHAMPION, PREVIOUS, Registry

    registry, pointer = Registry(settings), release.current()
    if change.kind == "rollback":
        registry.tag(change.seen, barred=change.reason)
    else:
        registry.tag(change.to, released_at=change.at, release_kind=change.kind)
        if "barred" in registry.version(change.to).tags:
            registry.client.delete_model_version_tag(registry.name, change.to, "barred")
    for alias, wanted in ((PREVIOUS, pointer.previous), (CHAMPION, pointer.version)):
        now = registry.by_alias(alias)
        seen = now.version if now else None
        if wanted and str(seen) != wanted:
            registry.move_alias(alias, wanted, seen)
        elif not wanted and seen:
            registry.client.delete_registered_model_alias(registry.name, alias)
