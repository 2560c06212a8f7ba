"""What a train run leaves in MLflow: one run with its data, figures and artifacts, and registered versions.

Calls are few and in batches: each costs a transaction of the tracking store.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from aisle import lake
from aisle.registry import CHALLENGER, Registry
from aisle.settings import Settings
from engine.recommender import Recommender
from engine.state import UserState

NEEDED = (
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "pyarrow",
    "pydantic",
    "filelock",
    "lightgbm",
)  # by the logged code, pinned as they are here


MODEL_IS = (
    "Aisle's recommender: two-tower, item-item, linear, personal and popularity sources in one blend. Alias champion is "
    "served, previous is what `aisle rollback` goes back to, challenger is the newest registered."
)
ROLES = {
    "gated": "Judged by the gate: fitted to what was known before {cut}, it has seen nothing of the held-out days up to {as_of}.",
    "refit": "What is released of version {gated_version}, which the gate judged: the same recipe fitted up to {as_of}.",
}


class Tracking:
    """The MLflow run of one train run."""

    def __init__(self, settings: Settings, registry: Registry, run_id: str):
        self.settings, self.registry, self.run_id = settings, registry, run_id
        self.client = registry.client
        self.experiment_id = registry.client.get_run(run_id).info.experiment_id

    @classmethod
    def begin(cls, settings: Settings, name: str, tags: Mapping[str, str]) -> Tracking:
        registry = Registry(settings)
        run = registry.client.create_run(_experiment(settings, registry), tags=dict(tags), run_name=name)
        return cls(settings, registry, run.info.run_id)

    @classmethod
    def resume(cls, settings: Settings, run_id: str) -> Tracking:
        return cls(settings, Registry(settings), run_id)

    def end(self, status: str = "FINISHED") -> None:
        self.client.set_terminated(self.run_id, status)

    def figures(
        self,
        metrics: Sequence[Mapping[str, float]],
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """`metrics`: one mapping per step (an epoch); a single one for final figures."""
        now = int(time.time() * 1000)
        points = [
            Metric(name.replace("@", "_at_"), float(value), now, step)
            for step, row in enumerate(metrics, start=1)
            for name, value in row.items()
        ]
        self.client.log_batch(
            self.run_id,
            metrics=points,
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def inputs(self, versions: Mapping[str, int]) -> None:
        """The Delta tables that were read, with their versions."""
        found = [
            Dataset(
                name=table,
                digest=f"v{version}",
                source_type="delta_table",
                source=json.dumps({"path": lake.table_path(table), "delta_table_version": version}),
            )
            for table, version in versions.items()
        ]
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(each, context) for each in found])

    def files(self, folder: Path, into: str | None = None) -> None:
        self.client.log_artifacts(self.run_id, str(folder), into)

    def register(
        self, recommender: Recommender, name: str, tags: Mapping[str, str], challenger: bool = True
    ) -> str:
        """Logs the recommender as a model of this run and registers it; the version's number.

        challenger: moves the alias to it, unless somebody else did meanwhile (RaceLost).
        """
        seen = self.registry.by_alias(CHALLENGER)
        with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=self.run_id):
            recommender.save(Path(scratch) / "bundle")
            logged = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(Path(__file__).with_name("mlflow_model.py")),
                artifacts={"bundle": str(Path(scratch) / "bundle")},
                code_paths=[str(lake.project_root() / room) for room in ("engine", "aisle")],
                signature=signature(),
                input_example=(example(recommender), {"k": 5, "now": ""}),
                pip_requirements=[f"{each}=={installed(each)}" for each in NEEDED],
                registered_model_name=self.registry.name,
            )
        version = str(logged.registered_model_version)
        self.registry.tag(version, **tags)
        self.client.update_registered_model(self.registry.name, description=MODEL_IS)
        self.client.update_model_version(self.registry.name, version, description=described(tags))
        if challenger:
            self.registry.move_alias(CHALLENGER, version, str(seen.version) if seen else None)
        return version


def described(tags: Mapping[str, str]) -> str:
    """A version in a sentence or two, from its tags; days without their hours."""
    told = {name: value[:10] if name in ("as_of", "cut") else value for name, value in tags.items()}
    return ROLES.get(tags.get("role", ""), "").format_map(told)


def _experiment(settings: Settings, registry: Registry) -> str:
    name = settings.registry.experiment
    found = registry.client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    # A remote MLflow server decides itself where artifacts lie.
    place = None if settings.registry.tracking_uri else (lake.home() / "mlflow" / "artifacts").as_uri()
    return registry.client.create_experiment(name, artifact_location=place)


def signature() -> ModelSignature:
    inputs = Schema(
        [
            ColSpec(Array(DataType.string), "item_ids"),
            ColSpec(Array(DataType.string), "event_types"),
            ColSpec(Array(DataType.long), "event_times"),
            ColSpec(Array(DataType.double), "quantities"),
            ColSpec(DataType.string, "country", required=False),
        ]
    )
    outputs = Schema([ColSpec(Array(DataType.string), "item_ids"), ColSpec(Array(DataType.double), "scores")])
    params = ParamSchema([ParamSpec("k", DataType.long, 10), ParamSpec("now", DataType.string, "")])
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)


def example(recommender: Recommender) -> pd.DataFrame:
    """A made-up customer who bought the catalogue's first two items a week before the model's cut."""
    bought = recommender.catalogue.item_ids[:2]
    moment = int(recommender.recipe.cut.timestamp()) - 7 * 86_400
    state = UserState(
        "", (recommender.countries or ("",))[0], bought, ["purchase"] * len(bought), [moment] * len(bought)
    )
    row = {
        "item_ids": np.array(state.item_ids),
        "event_types": np.array(state.event_types),
        "event_times": np.array(state.event_times, dtype=np.int64),
        "quantities": np.ones(len(bought)),
        "country": state.country,
    }
    return pd.DataFrame([row])


def commit() -> str:
    """The checkout's commit; AISLE_COMMIT where the code was installed without git; 'unknown' else."""
    told = os.environ.get("AISLE_COMMIT")
    if told:
        return told
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=lake.project_root(), capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else "unknown"


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
