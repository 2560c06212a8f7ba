"""Held-out quality (step `train.evaluate`): the gated version beside champion and baselines on [T, A), into ops.evaluations.

Every model answers for the same buyers with their histories as of T. Nobody is judged on days that it has seen:

- the challenger is the registered gated version, fitted at T;
- the champion as `training.champion` says;
- the baselines are the challenger's own sources, each alone; one that it has not is no baseline of it.

Beside it, on the validation window, what each part of the challenger is worth (`training.ablation`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aisle import goal, lake
from aisle.registry import CHAMPION, Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from engine import evaluation
from engine.evaluation import DEPTH, HeldOut
from engine.recommender import Recommender
from training import ablation
from training.champion import fair_champion, load
from training.dataset import Dataset
from training.run_note import read_note

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TABLE = "ops.evaluations"
BASELINES = {
    "popularity": "popularity",
    "personal_frequency": "personal",
    "item_item": "item_item",
    "two_tower": "two_tower",
}
SHOWN = ("ndcg@10", "recall@20", "mrr@10", "coverage@10", "novelty@10")


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Returns evaluation_id, version and the mean figures. Idempotent: a complete evaluation against the same champion is kept."""
    folder = lake.workdir("train", context.run_id)
    note, dataset, registry = read_note(folder), Dataset.load(folder / "dataset"), Registry(settings)
    settings = goal.towards(settings, dataset.goal)
    evaluation_id, version = note["run_id"], str(note["version"])
    champion = registry.by_alias(CHAMPION)
    named = f"champion:{champion.version}" if champion else None
    expected = {version, *baselines(_sources(note)), *([named] if named else [])}
    there = _known(evaluation_id)
    if set(there["version"]) != expected:
        with tempfile.TemporaryDirectory() as scratch:
            models = dict(_models(settings, registry, dataset, version, champion, Path(scratch)))
            rows = judged(dataset, models, version)
        _write(evaluation_id, rows, replace=len(there) > 0)
        there = rows
    means = mean_figures(there)
    parts = ablation.of_run(settings, dataset, folder)
    experiment = _track(settings, evaluation_id, means, version, parts)
    return {
        "evaluation_id": evaluation_id,
        "version": version,
        "mlflow_run": evaluation_id,
        "mlflow_experiment": experiment,
        "figures": _readable(means),
        "ablation": {} if parts is None else _losses(parts),
    }


def judged(dataset: Dataset, models: dict[str, Recommender], version: str) -> pd.DataFrame:
    """Rows of ops.evaluations but for evaluation_id. `version` names the challenger among `models`; its catalogue counts."""
    everyone = dataset.frame("histories_A")
    countries = dict(
        everyone.loc[everyone["country"].notna(), ["user_id", "country"]].itertuples(index=False)
    )
    challenger = models[version]
    held = HeldOut.of(
        challenger, dataset.frame("histories_T"), dataset.frame("truth_test"), dataset.cuts.T, countries
    )
    parts = [
        evaluation.evaluate(held, lists_of(held, model)).assign(version=name)
        for name, model in models.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(window="test")


def lists_of(held: HeldOut, model: Recommender) -> dict[str, np.ndarray]:
    """Lists by column, as rows of the held-out catalogue; a model of another age is read by item ids."""
    if model.catalogue.item_ids == held.catalogue.item_ids:
        return held.lists(model)
    asked = {"all": False, "new": True}
    return {
        column: _as_rows(held, model.batch(held.states, DEPTH, held.now, new_only=new)[0])
        for column, new in asked.items()
    }


def _as_rows(held: HeldOut, ids: np.ndarray) -> np.ndarray:
    """-1 for what the catalogue no longer has: a place wasted."""
    return pd.Index(held.catalogue.item_ids).get_indexer(ids.ravel()).reshape(ids.shape)


def _models(
    settings: Settings,
    registry: Registry,
    dataset: Dataset,
    version: str,
    champion: ModelVersion | None,
    scratch: Path,
) -> Iterator[tuple[str, Recommender]]:
    challenger = load(registry, version, scratch)
    yield version, challenger
    for name, source in baselines(challenger.sources).items():
        yield name, evaluation.baseline(challenger, source)
    if champion is not None:
        yield (
            f"champion:{champion.version}",
            fair_champion(settings, registry, dataset, champion, challenger, scratch),
        )


def baselines(sources: Collection[str]) -> dict[str, str]:
    """Those of BASELINES whose source a model has: of another one, nothing is to be measured."""
    return {name: source for name, source in BASELINES.items() if source in sources}


def _sources(note: Mapping[str, Any]) -> Collection[str]:
    """Of the gated version, as `train.fit` noted them; before it did, each of BASELINES had its source."""
    return note["fit"].get("sources", BASELINES.values())


def _known(evaluation_id: str) -> pd.DataFrame:
    if not lake.exists(TABLE):
        return pd.DataFrame(columns=lake.arrow_schema(TABLE).names)
    return lake.read_frame(TABLE, filters=[("evaluation_id", "==", evaluation_id)])


def _write(evaluation_id: str, rows: pd.DataFrame, replace: bool) -> None:
    """One commit; rows against a champion that has since been replaced are taken out first."""
    from deltalake import DeltaTable, write_deltalake

    if replace:
        DeltaTable(lake.table_path(TABLE)).delete(f"evaluation_id = '{evaluation_id}'")
    import pyarrow as pa

    schema = lake.arrow_schema(TABLE)
    ordered = rows.assign(evaluation_id=evaluation_id)[schema.names]
    write_deltalake(
        lake.table_path(TABLE),
        pa.Table.from_pandas(ordered, schema=schema, preserve_index=False),
        mode="append",
    )


def mean_figures(rows: pd.DataFrame) -> pd.DataFrame:
    """version, column, metric, value: means over the users of slice 'all'."""
    whole = rows[rows["slice"].eq("all") & rows["metric"].isin(SHOWN)]
    return whole.groupby(["version", "column", "metric"], as_index=False)["value"].mean()


def _readable(means: pd.DataFrame) -> dict[str, dict[str, float]]:
    """version -> 'ndcg@10 all' and so on."""
    found: dict[str, dict[str, float]] = {}
    for version, column, metric, value in means.itertuples(index=False):
        if metric in ("ndcg@10", "recall@20") and np.isfinite(value):
            found.setdefault(version, {})[f"{metric} {column}"] = round(float(value), 4)
    return found


def _losses(parts: pd.DataFrame) -> dict[str, dict[str, float]]:
    """part -> change of NDCG@10 by column when it is left out."""
    wide = parts.pivot(index="part", columns="column", values="change").round(4)
    return {
        str(part): {str(column): float(value) for column, value in row.items()}
        for part, row in wide.iterrows()
    }


def _track(
    settings: Settings, run_id: str, means: pd.DataFrame, version: str, parts: pd.DataFrame | None
) -> str:
    """The figures into the run; returns its experiment."""
    from training import plots
    from training.tracking import Tracking

    opened = Tracking.resume(settings, run_id)
    named = means.assign(
        who=means["version"].where(means["version"].ne(version), "challenger").str.split(":").str[0]
    )
    finite = named[np.isfinite(named["value"])]
    opened.figures(
        [
            {
                f"test/{who}/{column}/{metric}": value
                for who, column, metric, value in finite[["who", "column", "metric", "value"]].itertuples(
                    index=False
                )
            }
        ]
    )
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "evaluation").mkdir()
        plots.comparison(means, Path(scratch) / "evaluation" / "comparison.png")
        means.to_csv(Path(scratch) / "evaluation" / "means.csv", index=False)
        if parts is not None:
            parts.to_csv(Path(scratch) / "evaluation" / "ablation.csv", index=False)
            plots.ablation(parts, Path(scratch) / "evaluation" / "ablation.png")
        opened.files(Path(scratch))
    return opened.experiment_id
