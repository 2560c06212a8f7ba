"""`aisle doctor`: what must be there, what of it is, and how to get the rest."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata

import psutil

from aisle import processes
from aisle.catalogue import services
from aisle.errors import MissingPrerequisite, PortTaken
from aisle.lake import home, project_root
from aisle.prerequisites import java_fault, java_version
from aisle.services import require_port
from aisle.settings import Settings
from aisle.spark import delta_jars

DISK_BYTES, MEMORY_BYTES = 5 * 2**30, 8 * 2**30
GET_PYTHON = "Debian/Ubuntu: apt-get install python3.12 python3.12-venv; macOS: brew install python@3.12"


@dataclass(frozen=True)
class Finding:
    """state: ok, missing (nothing works without it) or low (works, but may not for long)."""

    what: str
    state: str
    words: str


def check(settings: Settings) -> tuple[str, bool]:
    """A line per thing, and whether nothing is missing."""
    found = [_python(), _java(), _packages(), _jars(), _disk(), _memory(), *_ports(settings)]
    width = max(len(each.what) for each in found)
    lines = [f"{each.state:<8} {each.what:<{width}}  {each.words}" for each in found]
    return "\n".join(lines), all(each.state != "missing" for each in found)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info[:2] == (3, 12)
    return Finding(
        "Python 3.12", "ok" if fine else "missing", version if fine else f"{version}; {GET_PYTHON}"
    )


def _java() -> Finding:
    fault = java_fault()
    return Finding("Java 17 or 21", "missing" if fault else "ok", fault or str(java_version()))


def locked(text: str) -> dict[str, str]:
    """Package -> version of a lock file, for this system: lines with a marker that is not ours are left out.

    >>> locked("numpy==2.1.0 \\\\\\n    --hash=sha256:abc\\ncolorama==0.4.6 ; sys_platform == 'win32' \\\\")
    {'numpy': '2.1.0'}
    """
    from packaging.requirements import Requirement

    wanted = {}
    for line in re.findall(r"^[A-Za-z0-9].*==.*$", text, re.MULTILINE):
        found = Requirement(line.rstrip("\\ ").strip())
        if found.marker is None or found.marker.evaluate():
            wanted[found.name] = next(iter(found.specifier)).version
    return wanted


def _packages() -> Finding:
    wanted = locked((project_root() / "requirements.lock").read_text())
    wrong = [
        f"{name} {_installed(name)}, not {version}"
        for name, version in wanted.items()
        if _installed(name) != version
    ]
    if not wrong:
        return Finding("packages", "ok", f"{len(wanted)} as locked")
    return Finding(
        "packages",
        "missing",
        f"{len(wrong)} differ from requirements.lock ({'; '.join(wrong[:3])}): run `make setup`",
    )


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _jars() -> Finding:
    try:
        return Finding("Delta jars", "ok", ", ".join(jar.name for jar in delta_jars()))
    except MissingPrerequisite as fault:
        return Finding("Delta jars", "missing", str(fault))


def _disk() -> Finding:
    place = next(folder for folder in (home(), *home().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    words = f"{free / 2**30:.0f} GiB free under {home()}"
    return Finding(
        "disk",
        "ok" if free >= DISK_BYTES else "low",
        words + ("" if free >= DISK_BYTES else "; 5 GiB are wanted"),
    )


def _memory() -> Finding:
    total = psutil.virtual_memory().total
    words = f"{total / 2**30:.0f} GiB"
    return Finding(
        "memory",
        "ok" if total >= MEMORY_BYTES else "low",
        words + ("" if total >= MEMORY_BYTES else "; 8 GiB are wanted"),
    )


def _ports(settings: Settings) -> list[Finding]:
    """Each service's port: free, ours, or whose."""
    ours = {name for name, running in processes.read().items() if processes.process_of(running)}
    found = []
    for each in services(settings):
        if each.port is None:
            continue
        what = f"port {each.port} ({each.name})"
        if each.name in ours:
            found.append(Finding(what, "ok", "running"))
            continue
        try:
            require_port(each)
            found.append(Finding(what, "ok", "free"))
        except PortTaken as fault:
            found.append(Finding(what, "missing", str(fault)))
    return found
