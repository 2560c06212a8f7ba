"""Where tuned configurations and test lists are kept: by the data's hash and everything that shapes the result."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from aisle.lake import project_root

HERE = "AISLE_BENCH_CACHE"


def folder() -> Path:
    return Path(os.environ.get(HERE) or project_root() / ".aisle-bench" / "quality")


def key(*parts: Any) -> str:
    """The same for the same parts, in any process."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def code(*paths: str) -> str:
    """A digest of these files and the sources below these folders: what they computed is kept while they stay as they are."""
    found, places = hashlib.sha256(), [project_root() / each for each in paths]
    files = {each for place in places for each in ([place] if place.is_file() else place.rglob("*.py"))}
    for path in sorted(files):
        found.update(path.read_bytes())
    return found.hexdigest()[:20]


def read(path: Path) -> Any | None:
    """None where there is nothing yet."""
    return json.loads(path.read_text()) if path.exists() else None


def write(path: Path, value: Any) -> None:
    """Whole or not at all: a run may be killed at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(value, indent=1))
    beside.replace(path)


def write_lists(path: Path, lists: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part.npz")
    np.savez_compressed(beside, **{name: each.astype(np.int32) for name, each in lists.items()})
    beside.replace(path)


def read_lists(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return {name: found[name].astype(np.int64) for name in found.files}
