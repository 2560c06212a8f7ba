"""What every bench prints and writes: one table, one JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from aisle.terminal import screen
from bench import notes

VERDICT = {True: "met", False: "MISSED", None: ""}
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured value; `target` None where there is none to meet."""

    value: float | None
    unit: str
    op: str = ">="
    target: float | None = None

    @property
    def met(self) -> bool | None:
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.op == ">=" else self.value <= self.target


def machine() -> dict[str, object]:
    """cores: of the machine; cores_used: those that this process may run on (``taskset -c 1`` leaves one)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """The short commit, with ``+`` where the tree has changes that are not in it."""
    root = RESULTS.parent.parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def with_earlier(name: str, new: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """This run's sets over those that earlier runs left in ``bench/results/<name>.json``; each says of which commit and machine it is."""
    before = earlier(name).get("details", {}).get("sets", {})
    stamp = {"commit": commit(), "machine": machine()}
    return {**before, **{each: {**found, **stamp} for each, found in new.items()}}


def tried_for(figures: Mapping[str, Figure]) -> dict[str, list[str]]:
    """What was tried for each target that is missed, see bench.notes."""
    return {
        label: notes.of(label) for label, each in figures.items() if each.met is False and notes.of(label)
    }


def show(name: str, figures: dict[str, Figure]) -> None:
    """Prints the table."""
    table = Table(title=f"bench {name}", title_justify="left")
    for column in ("figure", "value", "unit", "target", ""):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for label, figure in figures.items():
        value = "-" if figure.value is None else f"{figure.value:,.4g}"
        target = "" if figure.target is None else f"{figure.op} {figure.target:g}"
        table.add_row(label, value, figure.unit, target, VERDICT[figure.met])
    screen().print(table)
    for label, tried in tried_for(figures).items():
        screen().print(
            f"{label}, MISSED; tried:", *(f"  - {each}" for each in tried), sep="\n", highlight=False
        )


def publish(
    name: str, figures: dict[str, Figure], details: dict[str, object] | None = None, quick: bool = False
) -> Path | None:
    """Prints the table and writes ``bench/results/<name>.json``; a quick run's figures are printed alone, and are no result."""
    show(name, figures)
    if quick:
        return None
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    body = {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        **_written(figures, details or {}),
    }
    path.write_text(json.dumps(body, indent=2) + "\n")
    return path


def _written(figures: Mapping[str, Figure], details: Mapping[str, Any]) -> dict[str, Any]:
    tried = tried_for(figures)
    said = {label: asdict(figure) for label, figure in figures.items()}
    more = {**details, **({"tried": tried} if tried else {})}
    return {"figures": said, **({"details": more} if more else {})}


def earlier(name: str) -> dict[str, Any]:
    """What ``bench/results/<name>.json`` holds; empty before the first run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def rewritten(name: str, figures: Mapping[str, Figure], details: Mapping[str, Any]) -> None:
    """Other figures of the same measurements: commit and machine stay those of the run."""
    whole = {**earlier(name), **_written(figures, details)}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")
