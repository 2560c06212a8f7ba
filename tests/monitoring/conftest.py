"""One small shop for all tests of the room, and a registry whose database is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aisle.registry import Registry
from aisle.settings import Settings
from tests.monitoring.shop import Shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.build(tmp_path_factory.mktemp("shop"), users=1000)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: making them takes seconds."""
    import mlflow

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def registry(settings: Settings, aisle_home: Path, empty_registry: Path) -> Registry:
    """A registry of the test's own, with the model and an experiment under AISLE_HOME."""
    (aisle_home / "mlflow").mkdir()
    shutil.copy(empty_registry, aisle_home / "mlflow" / "mlflow.db")
    found = Registry(settings)
    found.client.create_experiment("aisle", artifact_location=(aisle_home / "mlflow" / "artifacts").as_uri())
    found.client.create_registered_model(found.name)
    return found
