"""`mlflow.json` in a train run's folder: which MLflow run and which versions are this run's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aisle.errors import NotThere

NAME = "mlflow.json"


def read_note(folder: Path) -> dict[str, Any]:
    """run_id, version and, after the refit, refit_version. Raises NotThere before train.fit."""
    note = folder / NAME
    if not note.exists():
        raise NotThere(f"no model of run {folder.name!r} yet: run train.fit of the same run first")
    return json.loads(note.read_text())


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """In one step: a kill leaves the old note or the new one."""
    staged = folder / f"{NAME}.new"
    staged.write_text(json.dumps(note))
    os.replace(staged, folder / NAME)
