"""The approval before a release, on a real registry and real records; only Airflow's request itself is caught at its border."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from aisle import decisions
from aisle import settings as settings_module
from aisle.airflow import RELEASE_APPROVED
from aisle.approval import GateApproval, body
from aisle.registry import Registry
from aisle.settings import Settings
from serving import release
from tests.dags.test_step_operator import Pushed

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)
RUNBOOK = "# publish: a test\n\n## When a task fails\n\n- `approve`: ask again.\n"


class Kept(Pushed):
    """A task instance that reads back what it pushed."""

    id = "ti"

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.pushed.get(key)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def registry(settings: Settings, aisle_home: Path, database: Path) -> Registry:
    """Version 1 judged by the gate, 2 its refit, 3 judged by nobody."""
    (aisle_home / "mlflow").mkdir()
    (aisle_home / "mlflow" / "mlflow.db").write_bytes(database.read_bytes())
    found = Registry(settings)
    found.client.create_registered_model(found.name)
    for tags in ({}, {"refit_of": "1"}, {}):
        found.client.create_model_version(found.name, "file:///nowhere", tags=tags)
    found.tag("1", decision="passed", decision_id=judged(settings))
    found.move_alias("challenger", "1", None)
    return found


def judged(settings: Settings) -> str:
    told = {
        "opponent": "champion:9",
        "rules": [
            {"rule": "primary_metric", "verdict": "passed", "sentence": "higher"},
            {"rule": "slice:new_users:all", "verdict": "shown", "sentence": "too few"},
        ],
        "metrics": [cell("champion:9", "all"), cell("champion:9", "new_users"), cell("popularity", "all")],
    }
    return decisions.record(settings, "gate", "passed", "1", "9", AS_OF, "gate", told)


def cell(other: str, slice_: str) -> dict[str, Any]:
    figures = {"mean": 0.2, "other_mean": 0.1, "difference": 1.0, "low": 0.9, "high": 1.1}
    return {"other": other, "column": "new", "slice": slice_, "metric": "ndcg@10", **figures}


def operator() -> GateApproval:
    with DAG("publish", doc_md=RUNBOOK):
        return GateApproval(task_id="approve", response_timeout=timedelta(days=7))


def context(params: dict[str, Any], event: dict[str, Any] | None = None) -> dict[str, Any]:
    ti = Kept()
    events = {RELEASE_APPROVED: [SimpleNamespace(extra=event)]} if event else {}
    return {
        "params": params,
        "triggering_asset_events": events,
        "run_id": "r1",
        "ti": ti,
        "task_instance": ti,
        "task": None,
    }


def ask(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> GateApproval:
    """The operator once it waits."""
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **_: None)
    task = operator()
    with pytest.raises(TaskAwaitingInput):
        task.execute(found)
    return task


def test_by_hand_without_a_version_the_newest_challengers_refit_is_asked_about(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ask(monkeypatch, context({"approval": "ask"}))
    assert task.subject == "Release version 2 of the recommender?"
    assert task.body.startswith("Version 2 is the refit of 1, which the gate judged; served now: none.")
    assert "/reports/decisions/" in task.addresses["Decision"]


def test_the_answer_is_about_what_was_shown_and_names_champion_and_day(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.write_json(release.releases() / "current.json", {"version": "9"})
    found = context({"approval": "ask"})
    ask(monkeypatch, found)
    registry.move_alias("challenger", "3", "1")
    answer = {
        "chosen_options": ["Approve"],
        "params_input": {},
        "responded_at": AS_OF,
        "responded_by_user": {"name": "eve"},
    }
    task = operator()
    assert task.execute_complete(found, answer) == {"asked": True, "version": "2"}
    record = decisions.everything("approval")[0]
    assert (record["challenger"], record["champion"], record["as_of"]) == ("2", "9", AS_OF.isoformat())
    assert (record["decided_by"], record["verdict"]) == ("airflow:eve", "approved")
    assert task.addresses["Decision"].endswith(f"{record['body']['gate_decision']}.html")


def test_silence_fails_for_good_and_says_what_to_do(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = context({"approval": "ask"})
    ask(monkeypatch, found)
    silence = {"error": "too late", "error_type": "timeout"}
    with pytest.raises(
        AirflowFailException, match=r"nobody answered in 7 days(.|\n)*What to do: `approve`: ask again"
    ):
        operator().execute_complete(found, silence)


@pytest.mark.parametrize(
    ("version", "said"), [("3", "has not judged version 3"), ("77", "there are: 3, 2, 1")]
)
def test_what_cannot_be_asked_about_fails_for_good(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, version: str, said: str
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        operator().execute(context({"approval": "ask", "version": version}))


def test_nobody_is_asked_about_what_was_rolled_back(registry: Registry) -> None:
    registry.tag("2", barred="rolled back by hand")
    with pytest.raises(AirflowFailException, match=r"version 2 is barred \(rolled back by hand\)"):
        operator().execute(context({"approval": "ask"}))


def test_nobody_is_asked_about_what_the_gate_refused(settings: Settings, registry: Registry) -> None:
    refused = decisions.record(settings, "gate", "refused", "3", "9", AS_OF, "gate", {})
    registry.tag("3", decision="refused", decision_id=refused)
    with pytest.raises(AirflowFailException, match="version 3 was refused by the gate"):
        operator().execute(context({"approval": "ask", "version": "3"}))


def test_who_is_not_asked_is_still_told_the_version(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"version": "2", "decision_id": "d1"}
    assert operator().execute(context({}, event)) == {"asked": False, "version": "2"}
    monkeypatch.setenv("AISLE_GATE__APPROVAL", "true")
    settings_module.load.cache_clear()
    assert operator().execute(context({"approval": "skip"})) == {"asked": False, "version": "2"}
    ask(monkeypatch, context({}))


def test_the_request_has_the_table_against_the_opponent_first_and_what_may_object_before_what_passed(
    registry: Registry,
) -> None:
    text = body("2", "9", decisions.everything("gate")[0])
    lines = [line for line in text.splitlines() if line]
    assert "served now: version 9" in lines[0]
    assert lines[1] == "| metric | version 1 | champion 9 | difference |"
    assert lines[3:] == [
        "| ndcg@10, new to the user | 0.2000 | 0.1000 | +100.0 % (+90.0 to +110.0) |",
        "- **slice:new_users:all** shown: too few",
        "- **primary_metric** passed: higher",
    ]
