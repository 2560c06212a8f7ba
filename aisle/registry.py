"""The model registry (MLflow): versions, their tags and aliases. mlflow is imported when a client is made.

Aliases: ``challenger`` (newest registered), ``champion`` (what is served), ``previous`` (what `aisle rollback` goes to).
MLflow moves an alias without looking; here it moves only from the version that the caller saw, under a file lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from aisle.errors import NotThere, RaceLost
from aisle.lake import home
from aisle.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class Registry:
    """Versions of one registered model."""

    def __init__(self, settings: Settings):
        os.environ.setdefault(
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"
        )  # a hundred lines in a task's log
        import mlflow

        mlflow.set_tracking_uri(settings.tracking_uri)
        mlflow.set_registry_uri(settings.tracking_uri)
        self.name = settings.registry.model_name
        self.client: MlflowClient = mlflow.MlflowClient()

    def by_alias(self, alias: str) -> ModelVersion | None:
        """The version that an alias names; None where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(self.name, alias)
        except MlflowException:
            return None

    def version(self, version: str) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.name, str(version))
        except MlflowException:
            known = ", ".join(str(each.version) for each in self.versions()) or "none"
            raise NotThere(f"no version {version!r} of {self.name}; there are: {known}") from None

    def versions(self) -> list[ModelVersion]:
        """All versions, newest first."""
        found = self.client.search_model_versions(f"name='{self.name}'")
        return sorted(found, key=lambda each: int(each.version), reverse=True)

    def to_release(self, asked: str | None = None) -> str:
        """The version that a release is about: the one that was asked for, else what alias `challenger` names or,
        where that was refitted, its newest refit.

        Raises NotThere where there is neither.
        """
        if asked:
            return str(self.version(asked).version)
        named = self.by_alias(CHALLENGER)
        if named is None:
            raise NotThere(
                "no version has the alias 'challenger': run the train DAG first, "
                'or name one with --params \'{"version": "4"}\''
            )
        refits = [each for each in self.versions() if each.tags.get("refit_of") == str(named.version)]
        return str(refits[0].version if refits else named.version)

    def run_of(self, version: ModelVersion) -> dict[str, str]:
        """{"mlflow_run", "mlflow_experiment"} of a version: where a person looks it up; empty where it has no run."""
        if not version.run_id:
            return {}
        experiment = self.client.get_run(version.run_id).info.experiment_id
        return {"mlflow_run": version.run_id, "mlflow_experiment": experiment}

    def tag(self, version: str, **tags: str) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, str(version), key, str(value))

    def move_alias(self, alias: str, to: str, seen: str | None) -> None:
        """Compare and set: moves `alias` to version `to` only if it still names `seen`. Raises RaceLost otherwise."""
        lock = home() / "run" / "registry.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=60):
            now = self.by_alias(alias)
            if (str(now.version) if now else None) != (str(seen) if seen else None):
                raise RaceLost(
                    f"alias {alias!r} names version {now.version if now else None}, not {seen}: somebody moved it; look again"
                )
            self.client.set_registered_model_alias(self.name, alias, str(to))

    def download(self, version: str, into: Path) -> Path:
        """The model folder of a version, copied to `into`."""
        from mlflow.artifacts import download_artifacts

        found = self.version(version)
        into.mkdir(parents=True, exist_ok=True)
        return Path(download_artifacts(artifact_uri=found.source, dst_path=str(into)))
