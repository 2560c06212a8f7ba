"""The step `train.gate` with a real registry and table: what is recorded, tagged, logged and shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from aisle import decisions, lake
from aisle.errors import GateBlocked, NotThere
from aisle.registry import Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from monitoring import console, gate, reports
from tests.links import unfilled
from tests.monitoring.shop import Shop, baseline

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)


def registered(registry: Registry, **tags: str) -> tuple[str, str]:
    """A version of a run of its own, tagged as `train.fit` tags it: (version, run)."""
    experiment = registry.client.get_experiment_by_name("aisle").experiment_id
    run = registry.client.create_run(experiment).info.run_id
    told = {
        "role": "gated",
        "as_of": AS_OF.isoformat(),
        "delta_versions": '{"silver.interactions": 4}',
        **tags,
    }
    found = registry.client.create_model_version(registry.name, "nowhere", run, tags=told)
    return str(found.version), run


def evaluated(shop: Shop, model, champion, version: str, run: str, old: str = "1") -> None:
    rows = shop.evaluation(model, champion).assign(evaluation_id=run)
    rows["version"] = rows["version"].replace({"2": version, "champion:1": f"champion:{old}"})
    lake.append("ops.evaluations", rows)


def judged(settings: Settings, version: str, run_id: str = "r1") -> dict:
    note = lake.workdir("train", run_id) / "mlflow.json"
    note.write_text(json.dumps({"run_id": "…", "version": version}))
    return gate.run(settings, StepContext(AS_OF, run_id))


def test_a_pass_is_recorded_tagged_logged_and_shown_and_a_retry_changes_nothing(
    settings: Settings, registry: Registry, shop: Shop
) -> None:
    version, run = registered(registry)
    evaluated(shop, shop.recommender, None, version, run)
    first, again = judged(settings, version), judged(settings, version)
    assert first == again
    assert first["verdict"] == "passed"
    assert first["reasons"] == []
    assert not unfilled("train.gate", first)
    assert decisions.verify() == 1
    record = decisions.read(first["decision_id"])
    assert record["body"]["data_versions"] == {"silver.interactions": 4}
    assert record["as_of"] == AS_OF.isoformat()
    tags = registry.version(version).tags
    assert (tags["decision"], tags["decision_id"]) == ("passed", first["decision_id"])
    logged = {each.path for each in registry.client.list_artifacts(run)}
    assert {"decision.json", "comparison.md"} <= logged
    page = (reports.folder() / "decisions" / f"{first['decision_id']}.html").read_text()
    assert "primary_metric" in page
    assert "<svg" in page
    assert first["decision_id"] in (reports.folder() / "index.html").read_text()


def test_a_refusal_is_a_result_and_names_its_rules(
    settings: Settings, registry: Registry, shop: Shop, capsys: pytest.CaptureFixture
) -> None:
    old, _ = registered(registry)
    registry.move_alias("champion", old, None)
    version, run = registered(registry)
    evaluated(shop, baseline(shop.recommender, "popularity"), shop.recommender, version, run, old)
    told = judged(settings, version)
    assert told["verdict"] == "refused"
    assert "primary_metric: ndcg@10" in capsys.readouterr().err
    assert registry.version(version).tags["decision"] == "refused"
    run = registry.version(version).run_id
    assert registry.client.get_run(run).data.tags["decision"] == "refused"
    shown = console.decisions(settings, told["decision_id"])
    assert "primary_metric" in shown
    assert "silver.interactions" in shown
    assert "refused" in console.decisions(settings)
    assert json.loads(console.decisions(settings, as_json=True))[0]["verdict"] == "refused"
    listed = {row["version"]: row for row in json.loads(console.models(settings, as_json=True))}
    assert listed[old]["aliases"] == ["champion"]
    assert listed[version]["decision"] == "refused"
    assert set(listed[version]["metrics"]) == {"all", "new"}
    assert "champion" in console.models(settings)


def test_a_challenger_of_a_past_day_is_refused(settings: Settings, registry: Registry, shop: Shop) -> None:
    old, _ = registered(registry)
    registry.move_alias("champion", old, None)
    version, run = registered(registry, as_of="2011-10-03T00:00:00+00:00")
    evaluated(shop, shop.recommender, baseline(shop.recommender, "item_item"), version, run, old)
    told = judged(settings, version)
    assert told["verdict"] == "refused"
    assert [each.split(":")[0] for each in told["reasons"]] == ["not_older"]
    assert "2011-10-03" in told["reasons"][0]
    assert "2011-12-10" in told["reasons"][0]


def test_a_champion_is_met_under_the_number_of_the_version_it_was_refitted_from(
    settings: Settings, registry: Registry, shop: Shop
) -> None:
    gated, _ = registered(registry)
    refit, _ = registered(registry, role="refit", refit_of=gated, gated_version=gated)
    registry.move_alias("champion", refit, None)
    version, run = registered(registry)
    evaluated(shop, shop.recommender, shop.recommender, version, run, gated)
    assert judged(settings, version)["verdict"] == "passed"
    with pytest.raises(NotThere, match=f"judges version {gated}"):
        gate.run(settings, StepContext(AS_OF, "r1", {"version": refit}))


def test_without_an_evaluation_the_step_fails_with_the_refusal_on_record(
    settings: Settings, registry: Registry
) -> None:
    version, _ = registered(registry)
    with pytest.raises(GateBlocked, match="metrics_present"):
        judged(settings, version)
    assert registry.version(version).tags["decision"] == "blocked"
    assert decisions.everything()[0]["verdict"] == "blocked"


def test_before_any_training_the_way_out_is_named(settings: Settings, registry: Registry) -> None:
    with pytest.raises(NotThere, match=r"train\.fit"):
        gate.run(settings, StepContext(AS_OF, "nothing"))
    assert "no decision yet" in console.decisions(settings)
    assert "no model yet" in console.models(settings)


def test_a_page_escapes_what_people_wrote(settings: Settings) -> None:
    body = {"reasons": ["<script>alert(1)</script>"]}
    told = decisions.record(settings, "override", "promoted", "3", "2", AS_OF, "<b>me</b>", body)
    for page in ("index.html", f"decisions/{told}.html"):
        text = (reports.folder() / page).read_text()
        assert "<script>" not in text
        assert "<b>me" not in text
