"""fit -> evaluate -> gate's tag -> refit over a small lake: what is registered, what is written, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from aisle import lake
from aisle.errors import BadModel, GateBlocked
from aisle.registry import CHALLENGER, CHAMPION, Registry
from tests.links import unfilled
from training import champion as champion_module
from training import evaluate, fit, refit
from training.dataset import Dataset
from training.run_note import read_note

LOAD = """
import os, sys
sys.path = [each for each in sys.path if not os.path.exists(os.path.join(each, "engine"))]  # the project, installed in place
import mlflow
assert not {"aisle", "engine"} & set(sys.modules)
model = mlflow.pyfunc.load_model(sys.argv[1])
found = model.predict(model.input_example, params={"k": 7})
row = found.iloc[0]
assert len(row.item_ids) == 7 and list(row.scores) == sorted(row.scores, reverse=True), found
assert "tensorflow" not in sys.modules
import aisle, engine
print(engine.__file__, aisle.__file__)
"""


@pytest.fixture(scope="module")
def fitted(room):
    settings, context = room
    return fit.run(settings, context)


@pytest.fixture(scope="module")
def evaluated(room, fitted):
    settings, context = room
    return evaluate.run(settings, context)


def test_a_version_is_registered_with_all_that_a_decision_needs(room, fitted) -> None:
    settings, _ = room
    registry = Registry(settings)
    found = registry.version(fitted["version"])
    assert {"role": "gated", "decision": "pending"}.items() <= found.tags.items()
    assert found.tags["cut"] < found.tags["as_of"]
    assert json.loads(found.tags["delta_versions"])["silver.interactions"] >= 0
    assert registry.by_alias(CHALLENGER).version == found.version
    assert f"before {found.tags['cut'][:10]}" in found.description
    assert "champion" in registry.client.get_registered_model(registry.name).description
    run = registry.client.get_run(found.run_id)
    assert run.info.run_name == f"recommender as of {found.tags['as_of'][:10]}"
    assert {each.dataset.name for each in run.inputs.dataset_inputs} >= {
        "silver.interactions",
        "gold.user_stats",
    }
    assert "loss" in run.data.metrics
    assert run.data.params["seed"] == str(settings.training.seed)
    names = {each.path for each in registry.client.list_artifacts(found.run_id)}
    assert {"plots", "reference", "tower.npz", "recipe.json"} <= names
    reference = {each.path for each in registry.client.list_artifacts(found.run_id, "reference")}
    assert reference == {f"reference/{name}.parquet" for name in ("users", "items", "interactions")}


def test_a_version_holds_no_pickle_and_loads_with_mlflow_alone(room, fitted, tmp_path) -> None:
    settings, _ = room
    folder = Registry(settings).download(fitted["version"], tmp_path / "model")
    assert not [each for each in folder.rglob("*") if each.suffix in (".pkl", ".pickle")]
    asked = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert all(str(folder) in each for each in asked.stdout.split())


def test_fit_again_on_the_same_data_registers_nothing(room, fitted) -> None:
    settings, context = room
    before = len(Registry(settings).versions())
    assert fit.run(settings, context)["version"] == fitted["version"]
    assert not unfilled("train.fit", fitted)
    assert len(Registry(settings).versions()) == before


def test_everything_is_evaluated_for_the_same_users(room, evaluated) -> None:
    rows = lake.read_frame("ops.evaluations", filters=[("evaluation_id", "==", evaluated["evaluation_id"])])
    assert set(rows["version"]) == {evaluated["version"], *evaluate.BASELINES}
    whole = rows[rows["slice"].eq("all") & rows["metric"].eq("ndcg@10") & rows["column"].eq("all")]
    users = whole.groupby("version")["user_id"].agg(frozenset)
    assert users.nunique() == 1
    assert not rows.duplicated(["version", "column", "slice", "metric", "user_id"]).any()
    assert set(rows.loc[rows["user_id"].eq(""), "metric"]) == {"coverage@10", "novelty@10"}


def test_evaluate_again_writes_nothing(room, evaluated) -> None:
    settings, context = room
    before = lake.version("ops.evaluations")
    assert evaluate.run(settings, context)["figures"] == evaluated["figures"]
    assert not unfilled("train.evaluate", evaluated)
    assert lake.version("ops.evaluations") == before


def test_a_champion_is_judged_on_days_it_has_not_seen(room, evaluated, monkeypatch) -> None:
    settings, context = room
    registry = Registry(settings)
    registry.move_alias(CHAMPION, evaluated["version"], None)
    found = evaluate.run(settings, context)
    registry.client.delete_registered_model_alias(registry.name, CHAMPION)
    name = f"champion:{evaluated['version']}"
    assert found["figures"][name] == found["figures"][evaluated["version"]]


def test_nothing_is_refitted_before_the_gate_passed(room, evaluated) -> None:
    settings, context = room
    assert "pending" in refit.run(settings, context)["skip"]
    told = replace(context, params={"upstream": {"train.gate": {"verdict": "refused"}}})
    assert "skip" in refit.run(settings, told)


def test_the_refit_is_a_linked_version_up_to_as_of(room, evaluated) -> None:
    settings, context = room
    registry = Registry(settings)
    registry.tag(evaluated["version"], decision="passed", decision_id="abc")
    found = refit.run(settings, context)
    version = registry.version(found["version"])
    assert {
        "role": "refit",
        "refit_of": evaluated["version"],
        "decision": "passed",
    }.items() <= version.tags.items()
    assert version.tags["cut"] == version.tags["as_of"]
    assert f"released of version {evaluated['version']}" in version.description
    assert registry.by_alias(CHALLENGER).version == version.version
    assert found["parity"]["overlap"] >= settings.gate.parity_overlap
    assert not unfilled("train.refit", found)
    assert refit.run(settings, context)["version"] == found["version"]
    assert read_note(lake.workdir("train", "manual"))["refit_version"] == found["version"]


def test_a_champion_that_has_seen_the_test_days_is_fitted_again(room, evaluated, tmp_path) -> None:
    settings, _ = room
    registry = Registry(settings)
    note = read_note(lake.workdir("train", "manual"))
    dataset = Dataset.load(lake.workdir("train", "manual") / "dataset")
    champion = registry.version(note["refit_version"])
    challenger = champion_module.load(registry, evaluated["version"], tmp_path)
    fair = champion_module.fair_champion(settings, registry, dataset, champion, challenger, tmp_path)
    assert fair.recipe.cut == dataset.cuts.T
    assert fair.catalogue.item_ids == challenger.catalogue.item_ids


def test_a_refit_of_another_kind_is_refused(room, evaluated) -> None:
    settings, context = room
    strict = settings.model_copy(update={"gate": settings.gate.model_copy(update={"parity_overlap": 1.0})})
    note = lake.workdir("train", "manual") / "mlflow.json"
    kept = note.read_text()
    note.write_text(
        json.dumps({name: value for name, value in json.loads(kept).items() if "refit" not in name})
    )
    with pytest.raises(GateBlocked, match="parity_overlap"):
        refit.run(strict, context)
    note.write_text(kept)
    registry = Registry(settings)
    assert registry.versions()[0].tags["decision"] == "refused"
    assert registry.by_alias(CHALLENGER).version != registry.versions()[0].version


def test_broken_weights_never_register(room, fitted) -> None:
    settings, context = room
    broken = settings.model_copy(
        update={"training": settings.training.model_copy(update={"learning_rate": 1e30})}
    )
    before = len(Registry(settings).versions())
    with pytest.raises(BadModel, match="not finite"):
        fit.run(broken, context)
    assert len(Registry(settings).versions()) == before


def test_figures_are_finite(evaluated) -> None:
    assert all(np.isfinite(value) for each in evaluated["figures"].values() for value in each.values())


def test_the_run_says_what_each_part_is_worth(room, evaluated) -> None:
    settings, _ = room
    assert {"linear", "two_tower", "popularity"} <= set(evaluated["ablation"])
    registry = Registry(settings)
    kept = {each.path for each in registry.client.list_artifacts(evaluated["mlflow_run"], "evaluation")}
    assert {"evaluation/ablation.csv", "evaluation/ablation.png"} <= kept
