"""What `training.sources` lists is what a version has: the sequence model from training to answers, and a shop without a two-tower."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aisle import lake
from aisle.errors import TooLittleData
from aisle.registry import CHAMPION, Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from engine import tuning
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.state import from_frame
from engine.windows import Window
from monitoring import comparison, rules
from tests.engine.shop import CUT
from tests.engine.shop import frames as shop_frames
from tests.training.test_run import LOAD
from training import champion, evaluate, fit, models, quality, refit, warm_start
from training.dataset import Dataset

WITH_SEQUENCE = ["popularity", "personal", "item_item", "linear", "content", "two_tower", "sequence"]
FEW = ["popularity", "item_item", "linear"]


@dataclass(frozen=True)
class Trained:
    """A run from fit to refit under settings of its own."""

    settings: Settings
    context: StepContext
    fitted: dict
    evaluated: dict
    refitted: dict
    said: str

    @property
    def dataset(self) -> Dataset:
        return Dataset.load(lake.workdir("train", self.context.run_id) / "dataset")

    def files(self, under: str | None = None) -> set[str]:
        found = Registry(self.settings).client.list_artifacts(self.fitted["mlflow_run"], under)
        return {each.path for each in found}

    def params(self) -> dict[str, str]:
        return Registry(self.settings).client.get_run(self.fitted["mlflow_run"]).data.params

    def load(self, version: str, scratch: Path) -> Recommender:
        return champion.load(Registry(self.settings), version, scratch)


def listing(settings: Settings, sources: list[str], **others) -> Settings:
    training = settings.training.model_copy(update={"sources": sources, "sequence_epochs": 2, **others})
    return settings.model_copy(update={"training": training})


def new_run(name: str) -> StepContext:
    """A run of its own over the same dataset."""
    shutil.copytree(
        lake.workdir("train", "manual") / "dataset",
        lake.workdir("train", name) / "dataset",
        dirs_exist_ok=True,
    )
    return StepContext(run_id=name)


def trained(settings: Settings, name: str, said: list[str]) -> Trained:
    context, registry = new_run(name), Registry(settings)
    fitted = fit.run(settings, context)
    evaluated = evaluate.run(settings, context)
    registry.tag(fitted["version"], decision="passed", decision_id="abc")
    return Trained(settings, context, fitted, evaluated, refit.run(settings, context), "\n".join(said))


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def sequential(room, patched) -> Trained:
    """Each source stays, whatever validation says: this shop has no use for the sequence model."""
    said: list[str] = []
    patched.setattr(tuning, "WORTH", -10.0)
    patched.setattr(models, "say", said.append)
    patched.setattr(fit, "say", said.append)
    found = trained(listing(room[0], WITH_SEQUENCE), "sequence", said)
    patched.undo()
    return found


@pytest.fixture(scope="module")
def few(room) -> Trained:
    return trained(listing(room[0], FEW), "few", [])


def test_a_listed_sequence_model_is_part_of_the_version_and_answers(sequential, tmp_path) -> None:
    run = sequential
    assert "sequence" in run.fitted["sources"]
    assert "sequence" in run.params()["sources_kept"]
    assert run.fitted["sequence"]["epochs"] == 2
    assert {"tower.npz", "sequence.npz", "first_tower.npz", "first_sequence.npz"} <= run.files()
    assert "plots/sequence_learning_curve.png" in run.files("plots")
    for cut in ("2011-09-17", "2011-10-15", "2011-11-12"):
        assert f"sequence up to {cut}: epoch 1" in run.said
    states = from_frame(run.dataset.frame("histories_A"))[:20]
    for version, cut in ((run.fitted["version"], "T"), (run.refitted["version"], "A")):
        model = run.load(version, tmp_path)
        assert model.recipe.cut == getattr(run.dataset.cuts, cut)
        export = model.sources["sequence"].export
        assert set(export.item_ids) <= set(run.dataset.frame(f"items_{cut}")["item_id"])
        scores = model.sources["sequence"].scores(model.events(states, model.recipe.cut))
        assert scores.std(axis=1).all()
        assert [len(model.recommend(state, 5, model.recipe.cut)) for state in states] == [5] * len(states)
    assert "sequence" in run.evaluated["ablation"]


def test_the_version_answers_without_tensorflow(sequential, tmp_path) -> None:
    folder = Registry(sequential.settings).download(sequential.refitted["version"], tmp_path / "model")
    assert (folder / "artifacts" / "bundle" / "sequence.npz").exists()
    asked = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr[-2000:]


def test_a_champion_with_a_sequence_model_is_judged_with_one_of_T(sequential, few, tmp_path) -> None:
    """Its own weights continued; where it was gated later, the challenger's, or new ones where the challenger has none."""
    run, registry = sequential, Registry(sequential.settings)
    released = registry.version(run.refitted["version"])
    challenger = run.load(run.fitted["version"], tmp_path)
    fair = champion.fair_champion(run.settings, registry, run.dataset, released, challenger, tmp_path)
    assert fair.recipe.cut == run.dataset.cuts.T
    assert "sequence" in fair.sources
    past = replace(run.dataset, cuts=replace(run.dataset.cuts, T=run.dataset.cuts.V))
    for other, same in ((challenger, True), (few.load(few.fitted["version"], tmp_path), False)):
        judged = champion.fair_champion(run.settings, registry, past, released, other, tmp_path)
        assert {"two_tower", "sequence"} <= set(judged.sources)
        assert (judged.sources["sequence"].export is challenger.sources["sequence"].export) == same


def test_a_listed_source_that_cannot_be_learnt_is_an_error_that_names_it(room) -> None:
    context = new_run("at-once")
    folder = lake.workdir("train", "at-once") / "dataset"
    for path in folder.glob("histories_*.parquet"):
        _at_once(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(TooLittleData, match="lists 'sequence', which cannot be learnt: all events of a user"):
        fit.run(listing(room[0], ["popularity", "item_item", "sequence"]), context)


def _at_once(histories: pd.DataFrame) -> pd.DataFrame:
    """Everything that a user did, done at one moment."""
    times = histories["event_times"].map(lambda row: None if row is None else [row[0]] * len(row))
    return histories.assign(event_times=times)


def test_a_shop_without_a_two_tower_learns_none_and_is_judged_by_what_it_has(few, tmp_path) -> None:
    assert not {"tower.npz", "first_tower.npz"} & few.files()
    assert set(few.fitted["sources"]) <= set(FEW)
    rows = lake.read_frame(
        "ops.evaluations", filters=[("evaluation_id", "==", few.evaluated["evaluation_id"])]
    )
    assert set(rows["version"]) == {few.evaluated["version"], "popularity", "item_item"}
    found = comparison.compare(rows, few.evaluated["version"], few.settings.gate, 7)
    assert not found.missing
    verdicts = rules.judge(found, few.settings.gate)
    assert {each.rule for each in verdicts if each.verdict == "blocked"} == {"enough_users"}, "it is small"
    before = lake.version("ops.evaluations")
    assert evaluate.run(few.settings, few.context)["figures"] == few.evaluated["figures"]
    assert lake.version("ops.evaluations") == before
    registry = Registry(few.settings)
    released = registry.version(few.refitted["version"])
    challenger = few.load(few.fitted["version"], tmp_path)
    fair = champion.fair_champion(few.settings, registry, few.dataset, released, challenger, tmp_path)
    assert set(fair.sources) == set(challenger.sources)


def test_a_warm_start_goes_on_from_the_champions_weights(room, sequential) -> None:
    """Those at the champion's first cut, where they saw nothing from this run's first cut on; the run's record says whose they are."""
    run, registry = sequential, Registry(sequential.settings)
    warm = listing(room[0], WITH_SEQUENCE, warm_start=True)
    recipe = Recipe.of(warm)
    assert "no champion" in warm_start.of(warm, run.dataset, recipe).said
    registry.move_alias(CHAMPION, run.refitted["version"], None)
    try:
        start = warm_start.of(warm, run.dataset, recipe)
        assert start.said == f"champion {run.refitted['version']} at 2011-09-17: two_tower, sequence"
        first = models.read(lake.workdir("train", "sequence") / "first_tower.npz")
        np.testing.assert_array_equal(start.weights["two_tower"]["item_table"], first["item_table"])
        nothing = listing(room[0], FEW, warm_start=True)
        assert warm_start.of(nothing, run.dataset, Recipe.of(nothing)).weights == {}
        assert "off" in warm_start.of(room[0], run.dataset, recipe).said
        found = fit.run(warm, new_run("warm"))
        told = registry.client.get_run(found["mlflow_run"])
        assert told.data.params["warm_started_from"] == str(run.refitted["version"])
        assert told.data.params["warm_started"] == "['two_tower', 'sequence']"
        assert told.data.tags["warm_start"] == found["warm_start"] == start.said
        assert registry.version(found["version"]).tags["warm_start"] == start.said
        for loss in ("loss", "sequence/loss"):
            cold, warm_loss = (
                registry.client.get_metric_history(each, loss)[0].value
                for each in (run.fitted["mlflow_run"], found["mlflow_run"])
            )
            assert warm_loss < cold, "it goes on from what the champion knew"
    finally:
        registry.client.delete_registered_model_alias(registry.name, CHAMPION)


def test_a_champion_that_saw_the_judged_days_is_no_start(room, sequential, tmp_path) -> None:
    run, registry = sequential, Registry(sequential.settings)
    past = run.dataset.cuts
    week = timedelta(days=7)
    earlier = replace(
        run.dataset, cuts=replace(past, R=past.R - week, V=past.V - week, T=past.T - week, A=past.A - week)
    )
    later = replace(
        run.dataset, cuts=replace(past, R=past.T + week, V=past.T + 5 * week, T=past.T + 9 * week)
    )
    warm = listing(room[0], WITH_SEQUENCE, warm_start=True)
    registry.move_alias(CHAMPION, run.refitted["version"], None)
    try:
        refused = warm_start.of(warm, earlier, Recipe.of(warm))
        assert (refused.weights, refused.version) == ({}, "")
        assert "learnt up to 2011-09-17 at least, and this run is judged from 2011-09-10 on" in refused.said
        assert "at 2011-11-12" in warm_start.of(warm, later, Recipe.of(warm)).said, "the newest that may be"
    finally:
        registry.client.delete_registered_model_alias(registry.name, CHAMPION)


def test_the_quality_table_has_the_sequence_model_where_it_is_listed(settings, monkeypatch) -> None:
    """Learnt for each of its windows; a source is a row of the table where the shop's recommender has it."""
    month = timedelta(days=28)
    windows = [Window(CUT - n * month, *shop_frames(CUT - n * month)) for n in (1, 0)]
    monkeypatch.setattr(tuning, "WORTH", -10.0)
    monkeypatch.setattr(quality, "BASELINES", {"popularity": "popularity", "sequence": "sequence"})
    for sources in (FEW, [*FEW, "sequence"]):
        asked = listing(settings, sources, sequence_epochs=1)
        recipe = Recipe.of(asked)
        found = models.with_sequence_where_listed(windows, recipe, asked.training)
        values = quality.compare(None, *found, recipe, 50)
        assert ("sequence" in set(values["version"])) == ("sequence" in sources)
    at_once = [replace(each, histories=_at_once(each.histories)) for each in windows]
    with pytest.raises(TooLittleData, match="lists 'sequence'"):
        models.with_sequence_where_listed(at_once, recipe, asked.training)


def test_what_was_learnt_stands_beside_what_was_asked_for(few) -> None:
    params = few.params()
    assert (params["repeat"], params["repeat_learnt"]) == ("learn", "True")
    assert params["sources_kept"] == str(few.fitted["sources"])
    assert few.settings.training.repeat == "learn"
