"""Releases on disk: staged bundles, and the one pointer that says which of them is served.

Layout under ``$AISLE_HOME/releases``::

    current.json            the release pointer; moved by os.replace, so a reader sees the old or the new
    beside.json             a second release for a share of the shoppers, and the share; absent where there is none
    change.json             journal of a change of release that is under way (see serving.change)
    .lock                   held by whoever changes the release
    <version>/bundle/       the staged bundle, as the engine wrote it
    <version>/smoke.json    what its smoke check found
    <version>/pointer.json  with which it was released; its `previous` is where a rollback goes next
    <version>/barred.json   why it may not be released again without an override
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from aisle.errors import BundleRejected, NotThere
from aisle.lake import home

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Pointer:
    """What is served.

    `path`: the bundle's folder. `digest`: SHA-256 of its manifest, which names all its files.

    previous: the version served before. at: when it was released, ISO. as_of: end of its data, ISO.
    """

    version: str
    path: str
    digest: str
    previous: str | None = None
    at: str = ""
    as_of: str | None = None


def releases() -> Path:
    return home() / "releases"


def folder(version: str) -> Path:
    """The folder of a staged version.

    Raises NotThere for a name that is no version (it would leave the folder).
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(version)):
        raise NotThere(f"{version!r} is no model version; `aisle models` lists them")
    return releases() / str(version)


def lock() -> FileLock:
    """Held while a release is changed. Raises filelock.Timeout after two minutes."""
    releases().mkdir(parents=True, exist_ok=True)
    return FileLock(releases() / ".lock", timeout=120)


def write_json(path: Path, found: object) -> None:
    """Writes beside and replaces: after a kill the old or the new text is there, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w") as file:
        json.dump(found, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BundleRejected(f"{path} is no JSON ({error}); `aisle promote V` writes it anew") from None


def _pointer(path: Path) -> Pointer | None:
    found = read_json(path)
    if found is None:
        return None
    try:
        return Pointer(**found)
    except TypeError as error:
        raise BundleRejected(
            f"{path} is no release pointer ({error}); `aisle promote V` writes it anew"
        ) from None


def current() -> Pointer | None:
    """The release that is served; None before the first."""
    return _pointer(releases() / "current.json")


def released(version: str) -> Pointer | None:
    """The pointer with which a version was last released; None where it never was."""
    return _pointer(folder(version) / "pointer.json")


def point(to: Pointer | None) -> None:
    """Moves the release pointer; None takes it away, so that nothing is released.

    The caller holds `lock()`.
    """
    if to is None:
        (releases() / "current.json").unlink(missing_ok=True)
        return
    write_json(folder(to.version) / "pointer.json", asdict(to))
    write_json(releases() / "current.json", asdict(to))


@dataclass(frozen=True)
class Beside:
    """A second release that answers `share` of all shoppers, 0 to 1, chosen by a stable hash of who they are."""

    pointer: Pointer
    share: float


def beside() -> Beside | None:
    """The second release; None where there is none."""
    path = releases() / "beside.json"
    found = read_json(path)
    if found is None:
        return None
    try:
        return Beside(Pointer(**found["pointer"]), min(max(float(found["share"]), 0.0), 1.0))
    except (TypeError, KeyError, ValueError) as error:
        raise BundleRejected(
            f"{path} names no second release ({error}); take the file away, or write it anew"
        ) from None


def put_beside(to: Beside | None) -> None:
    """Sets the second release, or None to take it away: its shoppers go back to the first within serving.pointer_seconds.

    The caller holds `lock()`.
    """
    if to is None:
        (releases() / "beside.json").unlink(missing_ok=True)
        return
    write_json(releases() / "beside.json", {"pointer": asdict(to.pointer), "share": to.share})


def digest(bundle: Path) -> str:
    """SHA-256 of a bundle's manifest; by the manifest's own sums it stands for every file."""
    try:
        return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleRejected(
            f"bundle {bundle} has no readable {MANIFEST}: {error.strerror}; stage it again"
        ) from None


def written(bundle: Path) -> dict[str, tuple[int, int, int]]:
    """By name of each file of a bundle, what changes when it is written to: inode, bytes, and when that was last, in ns."""
    found = {each.name: each.stat() for each in bundle.iterdir() if each.is_file()}
    return {name: (each.st_ino, each.st_size, each.st_mtime_ns) for name, each in found.items()}


def altered(bundle: Path, before: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """Names of the files that were written to since `before`, of `written`. One that was replaced by another file or deleted is not
    among them: who has it mapped keeps what was there.
    """
    found = written(bundle) if bundle.is_dir() else {}
    return [
        name
        for name, was in before.items()
        if name in found and found[name] != was and found[name][0] == was[0]
    ]


def staged(version: str) -> Pointer | None:
    """A pointer to a version that is staged and passed its smoke check; None otherwise."""
    smoke = read_json(folder(version) / "smoke.json")
    if not smoke or smoke.get("verdict") != "passed":
        return None
    bundle = folder(version) / "bundle"
    if not bundle.is_dir() or digest(bundle) != smoke["digest"]:
        return None
    return Pointer(str(version), str(bundle), smoke["digest"], as_of=smoke.get("as_of"))


def bar(version: str, reason: str) -> None:
    write_json(folder(version) / "barred.json", {"reason": reason, "at": now()})


def unbar(version: str) -> None:
    (folder(version) / "barred.json").unlink(missing_ok=True)


def barred(version: str) -> str | None:
    """Why a version may not be released again; None where it may."""
    found = read_json(folder(version) / "barred.json")
    return found["reason"] if found else None


def earlier(pointer: Pointer) -> Iterator[Pointer]:
    """The releases before this one, newest first, that are not barred and whose smoke check holds."""
    passed, version = {pointer.version}, pointer.previous
    while version and version not in passed:
        passed.add(version)
        try:
            found = released(version)
        except BundleRejected:  # its pointer is no JSON: what was before it nobody can tell
            return
        if found and not barred(version) and _is_whole(version):
            yield found
        version = found.previous if found else None


def _is_whole(version: str) -> bool:
    try:
        return staged(version) is not None
    except BundleRejected:  # its manifest is gone, say
        return False


def now() -> str:
    """When a thing was done, for the record; nothing decides by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
