"""Buttons on a task's page in Airflow: its MLflow run, its decision, its drift report, the data docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from airflow.sdk import BaseOperator, BaseOperatorLink

from aisle.settings import Settings


@attrs.define
class StepLink(BaseOperatorLink):
    """A button on a task's page; its address comes from the step's result when the task ends."""

    name: str = attrs.field()

    @property
    def xcom_key(self) -> str:
        return f"_link_{self.name.lower().replace(' ', '_')}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        return getattr(operator, "addresses", {}).get(self.name, "")


def addresses(settings: Settings, result: Mapping[str, Any]) -> dict[str, str]:
    """Where a person goes from a task: name of the button -> URL, for what the result names."""
    ports = settings.ports
    reports = f"http://{settings.serving.host}:{ports.api}/reports"
    found = {"Data docs": f"{reports}/data_docs/index.html"}
    if result.get("mlflow_run"):
        experiment = result.get("mlflow_experiment", "0")
        found["MLflow run"] = (
            f"http://127.0.0.1:{ports.mlflow}/#/experiments/{experiment}/runs/{result['mlflow_run']}"
        )
    if result.get("decision_id"):
        found["Decision"] = f"{reports}/decisions/{result['decision_id']}.html"
    if result.get("report_id"):
        found["Drift report"] = f"{reports}/drift/{result['report_id']}.html"
    return found
