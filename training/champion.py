"""The champion as it may be judged on days after T: never with weights or counts that have seen them.

- Its released bundle, where that was fitted up to T or before: what shoppers were served.
- Else its recipe, fitted again at T, with the learned models (two-tower, sequence) of its own gated version (which saw nothing
  from its own T on) continued up to this T.
- A champion gated on days after this T (a past `as_of` was asked for) keeps its blend and gets the challenger's learned models, or
  new ones where the challenger has none: the blend has then seen later days, an error in the champion's favour, so that it
  never lets a worse model pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aisle import clock
from aisle.registry import Registry
from aisle.settings import Settings
from engine.recommender import Recommender
from engine.sources import Export
from training import models
from training.dataset import Dataset
from training.models import say

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def load(registry: Registry, version: str, scratch: Path) -> Recommender:
    return Recommender.load(registry.download(version, scratch / str(version)) / "artifacts" / "bundle")


def fair_champion(
    settings: Settings,
    registry: Registry,
    dataset: Dataset,
    champion: ModelVersion,
    challenger: Recommender,
    scratch: Path,
) -> Recommender:
    """See the module's head."""
    released = load(registry, champion.version, scratch)
    T = dataset.cuts.T
    if released.recipe.cut <= T:
        return released
    items, histories = dataset.frame("items_T"), dataset.frame("histories_T")
    gated = champion.tags.get("gated_version")
    since = clock.parse((registry.version(gated) if gated else champion).tags["cut"])
    learned, recipe = models.learned_of(released.recipe), released.recipe
    exports: dict[str, Export] = {}
    if since > T:
        exports = {
            name: cast(Any, challenger.sources[name]).export for name in learned if name in challenger.sources
        }
        weights: dict[str, models.Weights] = {}
    else:
        weights = {name: _weights(registry, champion, models.FILES[name], scratch) for name in learned}
    left = recipe.model_copy(
        update={"sources": {name: each for name, each in recipe.sources.items() if name not in exports}}
    )
    exports |= models.continued(weights, dataset, since, "T", settings, left, say)
    return Recommender.fit(items, histories, T, recipe, exports, released.ranker)


def _weights(registry: Registry, version: ModelVersion, file: str, scratch: Path) -> models.Weights:
    return models.read(Path(registry.client.download_artifacts(str(version.run_id), file, str(scratch))))
