"""Trains and registers the gated version (step `train.fit`).

The sources are fitted at V, validation chooses their blend and whether a ranker orders their candidates: that is the recipe.
The recommender is then fitted at T with that recipe, saw nothing of [T, A), and is what the gate judges.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aisle import lake
from aisle.errors import BadModel, TooLittleData
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources import Export
from engine.sources.two_tower import TwoTower
from engine.windows import Window
from training import ablation, plots, ranking, reference, selection, towers
from training.dataset import Dataset
from training.run_note import NAME, read_note, write_note
from training.towers import Tower

WEIGHTS = "tower.npz"


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns run_id, version and the validation figures. Idempotent: what was registered on the same dataset is kept.

    The parameter `seed` replaces training.seed.
    """
    settings = seeded(settings, context)
    folder = lake.workdir("train", context.run_id)
    dataset = Dataset.load(folder / "dataset")
    made_from = {
        "versions": json.loads((dataset.folder / "versions.json").read_text()),
        "training": settings.training.model_dump(),
    }
    if (folder / NAME).exists() and (known := read_note(folder)).get("made_from") == made_from:
        return known["fit"]
    learnt = towers.fit(dataset, settings.training, progress=_say)
    towers.write_weights(learnt["T"], folder / WEIGHTS)
    recipe, choice = chosen(dataset, settings, learnt, folder)
    recommender = Recommender.fit(
        *_known(dataset, "T"), dataset.cuts.T, recipe, _exports(learnt["T"]), choice.ranker
    )
    require_sound(recommender)
    result = _track(settings, context, dataset, learnt, recommender, choice)
    write_note(
        folder,
        {"run_id": result["mlflow_run"], "version": result["version"], "made_from": made_from, "fit": result},
    )
    return result


def seeded(settings: Settings, context: StepContext) -> Settings:
    """The settings, with the seed that a run was started with."""
    seed = context.params.get("seed")
    if seed is None:
        return settings
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": int(seed)})})


def chosen(
    dataset: Dataset, settings: Settings, learnt: Mapping[str, Tower], folder: Path
) -> tuple[Recipe, ranking.Choice]:
    """See training.selection; the recommender that validation judged is kept for the ablations."""
    truths = {"R": "truth_ranker", "V": "truth_validation"}
    earlier, validation = (
        [
            Window(moment, *_known(dataset, name), dataset.frame(truths[name]), _exports(learnt[name]))
            for name, moment in dataset.cuts.items()
            if name in wanted
        ]
        for wanted in (("R",), ("V",))
    )
    users = settings.training.blend_users
    try:
        recipe, choice, judged = selection.select(
            earlier, validation[0], Recipe.of(settings), users, settings.training.ranker_users, say=_say
        )
    except ValueError as error:
        raise TooLittleData(f"{error}; import more days, or lower training.validation_days") from None
    ablation.keep(judged, folder)
    return recipe, choice


def _exports(tower: Tower) -> dict[str, Export]:
    return {TwoTower.name: tower.export}


def _known(dataset: Dataset, cut: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items and histories as of a cut."""
    return dataset.frame(f"items_{cut}"), dataset.frame(f"histories_{cut}")


def require_sound(recommender: Recommender) -> None:
    """Raises BadModel: what is not finite is not registered."""
    faults = recommender.faults()
    if faults:
        raise BadModel(
            f"the recommender is not sound and was not registered: {'; '.join(faults)}; look for broken values in the training set"
        )


def _track(
    settings: Settings,
    context: StepContext,
    dataset: Dataset,
    learnt: Mapping[str, Tower],
    recommender: Recommender,
    choice: ranking.Choice,
) -> dict[str, Any]:
    from training import tracking
    from training.tracking import Tracking

    first, cuts, versions = next(iter(learnt.values())), dataset.cuts, dataset.versions
    shared = {"airflow_run_id": context.run_id, "commit": tracking.commit(), "as_of": tracking.iso(cuts.A)}
    name = f"recommender as of {cuts.A:%Y-%m-%d}"
    opened = Tracking.begin(settings, name, {**shared, "decision": "pending"})
    weights = {"again": dict(recommender.recipe.weights.again), "new": dict(recommender.recipe.weights.new)}
    try:
        opened.figures(
            [{name: value for name, value in row.items() if name != "epoch"} for row in first.learned.epochs],
            params=_params(settings, dataset, recommender.recipe, first.learned.kept),
        )
        opened.figures([choice.figures])
        opened.inputs(versions)
        with tempfile.TemporaryDirectory() as scratch:
            _artifacts(Path(scratch), dataset, (first, learnt["T"]), recommender.recipe, weights)
            if choice.ranker:
                plots.importance(choice.ranker.importance(), Path(scratch) / "plots" / "ranker.png")
            opened.files(Path(scratch))
        tags = {
            **{name: shared[name] for name in ("commit", "as_of")},
            "role": "gated",
            "cut": tracking.iso(cuts.T),
            "delta_versions": json.dumps(versions),
            "feature_service": recommender.recipe.feature_service,
            "decision": "pending",
        }
        version = opened.register(recommender, "recommender", tags)
    except BaseException:
        opened.end("FAILED")
        raise
    opened.end()
    best = first.learned.epochs[first.learned.kept - 1] if first.learned.kept else {}
    return {
        "mlflow_run": opened.run_id,
        "mlflow_experiment": opened.experiment_id,
        "version": version,
        "examples_per_second": round(first.learned.examples_per_second),
        "epochs": len(first.learned.epochs),
        "validation": {name: round(float(value), 4) for name, value in best.items()},
        "weights": weights,
        "ranker": {
            "used": choice.ranker is not None,
            **{name: round(value, 4) for name, value in choice.figures.items()},
        },
    }


def _params(settings: Settings, dataset: Dataset, recipe: Recipe, kept: int) -> Mapping[str, Any]:
    training = settings.training.model_dump(exclude={"event_weights"})
    cuts = {name: moment.date().isoformat() for name, moment in dataset.cuts.items()}
    return {
        **training,
        **{f"cut_{name}": day for name, day in cuts.items()},
        "kept_epoch": kept,
        "offset": recipe.weights.offset,
    }


def _artifacts(
    folder: Path, dataset: Dataset, learnt: tuple[Tower, Tower], recipe: Recipe, weights: dict
) -> None:
    """plots/, recipe.json, tower.npz, versions.json and reference/: what a decision and a drift report refer to later."""
    first, tower = learnt
    (folder / "plots").mkdir()
    if first.learned.epochs:
        plots.learning_curve(
            first.learned.epochs, first.learned.kept, folder / "plots" / "learning_curve.png"
        )
    plots.blend(weights, folder / "plots" / "blend.png")
    (folder / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "versions.json").write_text((dataset.folder / "versions.json").read_text())
    pd.DataFrame(first.learned.epochs).to_csv(folder / "epochs.csv", index=False)
    towers.write_weights(tower, folder / WEIGHTS)
    reference.write(folder / "reference", dataset)


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)
