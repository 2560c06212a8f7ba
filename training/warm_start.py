"""Where the learned models of a train run start: at the champion's weights, where these saw nothing that the run is judged on.

Every run keeps its models' weights at T and at its first cut. The newest of them that a run may start from are those whose cut
is not after its own first cut (R, else V): what it judges on lies after that. Retrained weekly, that is the champion's first cut.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aisle import clock
from aisle.registry import CHAMPION, Registry
from aisle.settings import Settings
from engine.recipe import Recipe
from training import models
from training.dataset import Dataset

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Start:
    """weights: by source, none where all is learnt anew. said: from whose, or why from none, in words."""

    said: str
    version: str = ""
    weights: Mapping[str, models.Weights] = field(default_factory=dict)

    def told(self, learnt: models.Learnt) -> str:
        """`said`, and what of it was not used after all."""
        left = [name for name in self.weights if not getattr(learnt.judged().get(name), "warm", False)]
        return f"{self.said}; of another form, so learnt anew: {', '.join(left)}" if left else self.said


def of(settings: Settings, dataset: Dataset, recipe: Recipe) -> Start:
    """See the module's head. The registry is asked only where training.warm_start is on and the recipe has learned models."""
    if not settings.training.warm_start:
        return Start("anew: training.warm_start is off")
    if not models.learned_of(recipe):
        return Start("anew: no learned model is listed")
    registry = Registry(settings)
    champion = registry.by_alias(CHAMPION)
    if champion is None:
        return Start("anew: there is no champion")
    first = dataset.cuts.items()[0][1]
    run = registry.client.get_run(str(champion.run_id))
    kept = sorted(_kept(run), reverse=True)
    usable = [(cut, prefix) for cut, prefix in kept if cut <= first]
    if not usable:
        oldest = f"{kept[-1][0]:%Y-%m-%d}" if kept else "no day that its run names"
        return Start(
            f"anew: champion {champion.version} learnt up to {oldest} at least, and this run is judged from {first:%Y-%m-%d} on"
        )
    cut, prefix = usable[0]
    found = _read(registry, champion, prefix, models.learned_of(recipe))
    if not found:
        return Start(f"anew: champion {champion.version} kept no weights of {cut:%Y-%m-%d}")
    return Start(
        f"champion {champion.version} at {cut:%Y-%m-%d}: {', '.join(found)}", str(champion.version), found
    )


def _kept(run: Run) -> list[tuple[datetime, str]]:
    """The cuts at which a run kept weights, each with what the names of their files start with."""
    cuts = {
        name: clock.parse(run.data.params[f"cut_{name}"])
        for name in ("R", "V", "T")
        if f"cut_{name}" in run.data.params
    }
    if "T" not in cuts:
        return []
    return [(cuts["T"], ""), *([(cuts.get("R") or cuts["V"], models.FIRST)] if "V" in cuts else [])]


def _read(
    registry: Registry, champion: ModelVersion, prefix: str, sources: list[str]
) -> dict[str, models.Weights]:
    there = {each.path for each in registry.client.list_artifacts(str(champion.run_id))}
    wanted = {name: prefix + models.FILES[name] for name in sources if prefix + models.FILES[name] in there}
    with tempfile.TemporaryDirectory() as scratch:
        return {
            name: models.read(Path(registry.client.download_artifacts(str(champion.run_id), file, scratch)))
            for name, file in wanted.items()
        }
