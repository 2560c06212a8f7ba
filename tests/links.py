"""Which buttons each step's page shows in Airflow: the DAGs declare them, and each step's own test shows that its result fills them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisle import settings as settings_module
from aisle.links import addresses

LINKS = {
    "ingest.check": {"Data docs"},
    "monitor.drift": {"Drift report", "MLflow run"},
    "monitor.verdict": {"Drift report", "Decision"},
    "train.fit": {"MLflow run"},
    "train.evaluate": {"MLflow run"},
    "train.gate": {"MLflow run", "Decision"},
    "train.refit": {"MLflow run", "Decision"},
    "publish.stage": {"MLflow run", "Decision"},
    "publish.promote": {"Decision", "Data docs"},
}


def unfilled(step: str, result: Mapping[str, Any]) -> set[str]:
    """Buttons of a step that would lead nowhere after this result."""
    return LINKS[step] - set(addresses(settings_module.load(), result))
