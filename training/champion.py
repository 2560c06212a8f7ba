"""The champion as it may be judged on days after T: never with weights or counts that have seen them.

- Its released bundle, where that was fitted up to T or before: what shoppers were served.
- Else its recipe, fitted again at T, with the tower of its own gated version (which saw nothing from its own T on) continued
  up to this T.
- A champion gated on days after this T (a past `as_of` was asked for) keeps its blend and gets the challenger's tower: the blend
  has then seen later days, an error in the champion's favour, so that it never lets a worse model pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aisle import clock
from aisle.registry import Registry
from aisle.settings import Settings
from engine.recommender import Recommender
from training.dataset import Dataset

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
    if since > T:
        tower = challenger.sources["two_tower"].export
    else:
        from training import towers  # TensorFlow, only where it is needed

        weights = towers.read_weights(
            Path(registry.client.download_artifacts(champion.run_id, "tower.npz", str(scratch)))
        )
        tower = towers.continued(weights, dataset, since, "T", settings.training).export
    return Recommender.fit(items, histories, T, released.recipe, {"two_tower": tower}, released.ranker)
