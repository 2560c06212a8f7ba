"""Airflow plugin: the shop's other pages in Airflow's menu. `aisle up` puts it into Airflow's plugins folder."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from aisle import settings as settings_module
from aisle.settings import Settings


def pages(settings: Settings) -> list[dict[str, str]]:
    """Name, address and route of each page. They open in a window of their own: what they need, they ask for themselves."""
    ports = settings.ports
    api = f"http://{settings.serving.host}:{ports.api}"
    found = {
        "Reports": f"{api}/reports",
        "Recommendations API": f"{api}/docs",
        "Models and runs (MLflow)": f"http://127.0.0.1:{ports.mlflow}",
        "Feature catalogue (Feast)": f"http://127.0.0.1:{ports.feast}",
    }
    return [
        {"name": name, "href": href, "destination": "nav", "category": "aisle"}
        for name, href in found.items()
    ]


class AislePlugin(AirflowPlugin):
    name = "aisle"
    external_views = pages(settings_module.load())
