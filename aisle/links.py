"""Where the buttons on a task's page lead: its MLflow run, its decision, its drift report, the data docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisle.settings import Settings


def addresses(settings: Settings, result: Mapping[str, Any]) -> dict[str, str]:
    """Where a person goes from a task: name of the button -> URL, for what the result names.

    MLflow run: of `mlflow_run` and `mlflow_experiment`. Decision: of `decision_id`. Drift report: of `report_id`.
    """
    ports = settings.ports
    reports = f"http://{settings.serving.host}:{ports.api}/reports"
    found = {"Data docs": f"{reports}/data_docs/index.html"}
    if result.get("mlflow_run") and result.get("mlflow_experiment"):
        page = f"experiments/{result['mlflow_experiment']}/runs/{result['mlflow_run']}"
        found["MLflow run"] = f"http://127.0.0.1:{ports.mlflow}/#/{page}"
    if result.get("decision_id"):
        found["Decision"] = f"{reports}/decisions/{result['decision_id']}.html"
    if result.get("report_id"):
        found["Drift report"] = f"{reports}/drift/{result['report_id']}.html"
    return found
