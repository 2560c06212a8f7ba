"""Refits a gated recipe to `as_of` (step `train.refit`): same blend, newest days, behind parity guards.

A shop where people buy again punishes a list that is four weeks old, and the gate's days are the newest. So what is released is the
recipe that the gate passed, fitted up to A: a version of its own, linked to the gated one.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from aisle import goal, lake
from aisle.errors import GateBlocked
from aisle.registry import Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.recommender import Recommender
from engine.state import from_frame
from training import models, parity
from training.dataset import Dataset
from training.fit import require_sound, seeded
from training.models import say
from training.parity import Parity
from training.run_note import read_note, write_note

MAX_USERS = 1000  # whose lists the guards compare


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns version (the refit), gated_version, parity and as_of; skips where the gate did not pass. Idempotent."""
    settings = seeded(settings, context)
    folder = lake.workdir("train", context.run_id)
    note, dataset, registry = read_note(folder), Dataset.load(folder / "dataset"), Registry(settings)
    settings = goal.towards(settings, dataset.goal)
    gated = registry.version(note["version"])
    refused = not_passed(context, gated.tags)
    if refused:
        return {
            "skip": f"version {gated.version} is not refitted: {refused}",
            "gated_version": str(gated.version),
        }
    if "refit" in note:
        return note["refit"]
    with tempfile.TemporaryDirectory() as scratch:
        model = Recommender.load(registry.download(gated.version, Path(scratch)) / "artifacts" / "bundle")
    refit = refitted(settings, dataset, model, folder)
    found = _guarded(settings, dataset, model, refit)
    result = _track(settings, context, dataset, gated, refit, found)
    write_note(folder, {**note, "refit_version": result["version"], "refit": result})
    return result


def not_passed(context: StepContext, tags: dict[str, str]) -> str:
    """Why there is nothing to refit; empty where the gate passed. The registry and what came before must both say so."""
    told = (context.params.get("upstream") or {}).get("train.gate", {}).get("verdict", "passed")
    tagged = tags.get("decision") or "pending"
    verdict = told if tagged == "passed" else tagged
    return "" if verdict == "passed" else f"the gate's decision is {verdict!r}; see `aisle decisions`"


def refitted(settings: Settings, dataset: Dataset, gated: Recommender, folder: Path) -> Recommender:
    """The gated recipe, its blend and ranker as they are, over everything before A. Raises BadModel where it is not finite."""
    learned = models.learned_of(gated.recipe)
    weights = {name: models.read(folder / models.FILES[name]) for name in learned}
    exports = models.continued(weights, dataset, dataset.cuts.T, "A", settings, gated.recipe, say)
    refit = Recommender.fit(
        dataset.frame("items_A"),
        dataset.frame("histories_A"),
        dataset.cuts.A,
        gated.recipe,
        exports,
        gated.ranker,
    )
    require_sound(refit)
    return refit


def _guarded(settings: Settings, dataset: Dataset, gated: Recommender, refit: Recommender) -> Parity:
    users, items = dataset.frame("histories_A"), dataset.frame("items_A")
    chosen = users.sample(min(MAX_USERS, len(users)), random_state=settings.training.seed)
    deleted = set(items.loc[items["deleted"].fillna(False).astype(bool), "item_id"])
    return parity.check(gated, refit, from_frame(chosen), dataset.cuts.A, deleted, settings.gate)


def _track(
    settings: Settings, context: StepContext, dataset: Dataset, gated, refit: Recommender, found: Parity
) -> dict[str, Any]:
    from training import tracking
    from training.tracking import Tracking

    opened = Tracking.resume(settings, gated.run_id)
    inherited = ("as_of", "commit", "delta_versions", "feature_service", "decision_id")
    links = {
        **{name: gated.tags[name] for name in inherited if name in gated.tags},
        "role": "refit",
        "refit_of": str(gated.version),
        "gated_version": str(gated.version),
        "cut": tracking.iso(dataset.cuts.A),
        "decision": "refused" if found.faults else "passed",
        "parity": json.dumps(found.as_dict()),
    }
    version = opened.register(refit, "refit", links, challenger=not found.faults)
    opened.figures([{"refit/overlap": found.overlap, "refit/coverage": found.refit_coverage}])
    if found.faults:
        raise GateBlocked(
            f"version {version}, the refit of {gated.version}, is refused: {'; '.join(found.faults)}"
        )
    return {
        "version": version,
        "gated_version": str(gated.version),
        "mlflow_run": gated.run_id,
        "mlflow_experiment": opened.experiment_id,
        "decision_id": gated.tags.get("decision_id"),
        "parity": found.as_dict(),
        "as_of": tracking.iso(dataset.cuts.A),
    }
