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

from aisle import goal, lake
from aisle.errors import BadModel, TooLittleData
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.sequence import Sequence
from engine.sources.two_tower import TwoTower
from training import ablation, models, plots, ranking, reference, selection, warm_start
from training.dataset import Dataset
from training.models import Learned, Learnt, say
from training.run_note import NAME, read_note, write_note
from training.warm_start import Start


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns run_id, version and the validation figures. Idempotent: what was registered on the same dataset is kept.

    The parameter `seed` replaces training.seed.
    """
    settings = seeded(settings, context)
    folder = lake.workdir("train", context.run_id)
    dataset = Dataset.load(folder / "dataset")
    settings = goal.towards(settings, dataset.goal)
    made_from = {
        "versions": json.loads((dataset.folder / "versions.json").read_text()),
        "training": settings.training.model_dump(),
    }
    if (folder / NAME).exists() and (known := read_note(folder)).get("made_from") == made_from:
        return known["fit"]
    asked = Recipe.of(settings)
    start = warm_start.of(settings, dataset, asked)
    say(f"learned models start: {start.said}")
    learnt = models.learn(dataset, settings, asked, start.weights, say)
    recipe, choice = chosen(dataset, settings, learnt, folder)
    learnt = models.at_T(learnt, dataset, settings, recipe, start.weights, say)
    models.write(learnt, dataset, folder)
    recommender = Recommender.fit(
        dataset.frame("items_T"),
        dataset.frame("histories_T"),
        dataset.cuts.T,
        recipe,
        learnt.exports("T"),
        choice.ranker,
    )
    require_sound(recommender)
    result = _track(settings, context, dataset, learnt, start, recommender, choice)
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
    dataset: Dataset, settings: Settings, learnt: Learnt, folder: Path
) -> tuple[Recipe, ranking.Choice]:
    """See training.selection; the recommender that validation judged is kept for the ablations."""
    *earlier, validation = (
        models.window(dataset, name, learnt.exports(name))
        for name, _ in dataset.cuts.items()
        if name in ("R", "V")
    )
    users = settings.training.blend_users
    try:
        recipe, choice, judged = selection.select(
            earlier, validation, Recipe.of(settings), users, settings.training.ranker_users, say=say
        )
    except ValueError as error:
        raise TooLittleData(f"{error}; {selection.MORE}") from None
    ablation.keep(judged, folder)
    return recipe, choice


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
    learnt: Learnt,
    start: Start,
    recommender: Recommender,
    choice: ranking.Choice,
) -> dict[str, Any]:
    from training import tracking
    from training.tracking import Tracking

    cuts, versions = dataset.cuts, dataset.versions
    shared = {"airflow_run_id": context.run_id, "commit": tracking.commit(), "as_of": tracking.iso(cuts.A)}
    name = f"recommender as of {cuts.A:%Y-%m-%d}"
    opened = Tracking.begin(
        settings, name, {**shared, "decision": "pending", "warm_start": start.told(learnt)}
    )
    weights = {"again": dict(recommender.recipe.weights.again), "new": dict(recommender.recipe.weights.new)}
    try:
        opened.figures([choice.figures], params=_params(settings, dataset, recommender.recipe, learnt, start))
        for name, learned in learnt.judged().items():
            opened.figures(_steps(name, learned))
        opened.inputs(versions)
        with tempfile.TemporaryDirectory() as scratch:
            _artifacts(Path(scratch), dataset, learnt, recommender.recipe, weights)
            if choice.ranker:
                plots.importance(choice.ranker.importance(), Path(scratch) / "plots" / "ranker.png")
            opened.files(Path(scratch))
        tags = {
            **{name: shared[name] for name in ("commit", "as_of")},
            "role": "gated",
            "warm_start": start.told(learnt),
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
    judged = {name: _told(learned) for name, learned in learnt.judged().items()}
    return {
        "mlflow_run": opened.run_id,
        "mlflow_experiment": opened.experiment_id,
        "version": version,
        **judged.get(TwoTower.name, {}),
        **({Sequence.name: judged[Sequence.name]} if Sequence.name in judged else {}),
        "warm_start": start.told(learnt),
        "sources": list(recommender.recipe.sources),
        "weights": weights,
        "ranker": {
            "used": choice.ranker is not None,
            **{name: round(value, 4) for name, value in choice.figures.items()},
        },
    }


def _params(
    settings: Settings, dataset: Dataset, recipe: Recipe, learnt: Learnt, start: Start
) -> Mapping[str, Any]:
    """The settings as they were asked for, and beside them what was learnt of them."""
    training = settings.training.model_dump(exclude={"event_weights"})
    cuts = {name: moment.date().isoformat() for name, moment in dataset.cuts.items()}
    kept = {name: learned.kept for name, learned in learnt.judged().items()}
    return {
        **training,
        **{f"cut_{name}": day for name, day in cuts.items()},
        "sources_kept": list(recipe.sources),
        "repeat_learnt": recipe.repeat,
        "warm_started_from": start.version,
        "warm_started": [name for name, learned in learnt.judged().items() if learned.warm],
        "kept_epoch": kept.get(TwoTower.name, 0),
        **({"sequence_kept_epoch": kept[Sequence.name]} if Sequence.name in kept else {}),
        "offset": recipe.weights.offset,
    }


def _steps(name: str, learned: Learned) -> list[dict[str, float]]:
    """A mapping per epoch; those of the two-tower, which most shops have alone, without its name."""
    prefix = "" if name == TwoTower.name else f"{name}/"
    return [
        {f"{prefix}{figure}": value for figure, value in row.items() if figure != "epoch"}
        for row in learned.epochs
    ]


def _told(learned: Learned) -> dict[str, Any]:
    best = learned.epochs[learned.kept - 1] if learned.kept else {}
    return {
        "examples_per_second": round(learned.examples_per_second),
        "epochs": len(learned.epochs),
        "validation": {name: round(float(value), 4) for name, value in best.items()},
    }


def _artifacts(folder: Path, dataset: Dataset, learnt: Learnt, recipe: Recipe, weights: dict) -> None:
    """plots/, recipe.json, the models' weights, versions.json and reference/: what a decision, a drift report and a later run refer to."""
    (folder / "plots").mkdir()
    for name, learned in learnt.judged().items():
        if not learned.epochs:
            continue
        prefix, title = ("", "two-tower") if name == TwoTower.name else (f"{name}_", name)
        plots.learning_curve(
            learned.epochs, learned.kept, folder / "plots" / f"{prefix}learning_curve.png", title
        )
        pd.DataFrame(learned.epochs).to_csv(folder / f"{prefix}epochs.csv", index=False)
    plots.blend(weights, folder / "plots" / "blend.png")
    (folder / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "versions.json").write_text((dataset.folder / "versions.json").read_text())
    models.write(learnt, dataset, folder)
    reference.write(folder / "reference", dataset)
