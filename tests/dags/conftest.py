"""Airflow reads AIRFLOW_HOME when it is first imported: a folder that only this test run sees."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="aisle-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

DAGS = Path(__file__).resolve().parents[2] / "dags"
NAMES = ("ingest", "features", "monitor", "train", "publish", "maintain")


def load(name: str):
    """The DAG of a file, loaded by its path as Airflow does."""
    from airflow.sdk import BaseOperator

    spec = importlib.util.spec_from_file_location(f"parsed_{name}", DAGS / f"{name}_dag.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(each for each in vars(module).values() if isinstance(each, BaseOperator)).dag


@pytest.fixture(scope="session")
def dags() -> dict:
    return {name: load(name) for name in NAMES}
