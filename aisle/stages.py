"""The stage list: what `aisle run STAGE.STEP` runs and the DAGs wire. Names to modules; nothing is imported here.

A step's module has ``run(settings: Settings, context: StepContext) -> dict``. What it returns is printed as one JSON
line (the last of stdout) and pushed by Airflow to the next task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class StepContext:
    """What a step is told. `as_of`: UTC, exclusive end of the data it may see; None: the day after the newest event."""

    as_of: datetime | None = None
    run_id: str = "manual"
    params: dict[str, Any] = field(default_factory=dict)


STAGES: dict[str, dict[str, str]] = {
    "ingest": {
        "bronze": "jobs.bronze",
        "check": "monitoring.expectations",
        "silver": "jobs.silver",
    },
    "features": {
        "gold": "jobs.gold",
        "feast": "feature_repo.publish",
        "outcomes": "jobs.outcomes",
    },
    "monitor": {
        "drift": "monitoring.drift",
        "verdict": "monitoring.verdict",
    },
    "train": {
        "dataset": "training.dataset",
        "fit": "training.fit",
        "evaluate": "training.evaluate",
        "gate": "monitoring.gate",
        "refit": "training.refit",
    },
    "publish": {
        "stage": "serving.stage",
        "promote": "serving.promote",
    },
    "maintain": {
        "tables": "jobs.maintain",
    },
}
