"""StepOperator: real subprocesses, results, skips, failures, kills; and which as_of a task runs with."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from aisle.airflow import GOLD, StepOperator, resolve_as_of
from aisle.errors import AGAIN, USERS, DiskFull, NotThere, RaceLost, ServiceFailed
from aisle.links import addresses
from aisle.runbook import alert, what_to_do
from tests.shop import write_ledger

RUNBOOK = """# loop: a test

## When a task fails

- `gold`: look here
  and there.
- `feast`: look elsewhere.
"""


class Pushed:
    """What a task instance is to the operator: XComs to read and to write."""

    def __init__(self, found: dict[str, Any] | None = None):
        self.found, self.pushed, self.map_index, self.try_number, self.log_url = (
            found or {},
            {},
            -1,
            1,
            "http://log",
        )
        self.task: Any = None

    def xcom_pull(self, task_ids: str) -> Any:
        return self.found.get(task_ids)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(
    params: dict | None = None,
    extras: list[dict] | None = None,
    run_type: str = "manual",
    ti: Pushed | None = None,
) -> dict:
    start, end = (datetime(2011, 11, 1, hour, tzinfo=UTC) for hour in (0, 1))
    events = {GOLD: [SimpleNamespace(extra=extra) for extra in extras or []]}
    run = SimpleNamespace(run_type=run_type, data_interval_start=start, data_interval_end=end)
    return {
        "params": params or {},
        "triggering_asset_events": events,
        "dag_run": run,
        "run_id": "run; rm -rf $HOME",
        "ti": ti or Pushed(),
        "outlet_events": {GOLD: SimpleNamespace(extra={})},
    }


def operator(**how: Any) -> StepOperator:
    with DAG("loop", doc_md=RUNBOOK):
        return StepOperator(**{"step": "features.gold", **how})


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_last_line_of_output_is_the_result() -> None:
    told = "import sys; print('noise'); print('working', file=sys.stderr); print('{\"features.gold\": {\"points\": 3}}')"
    assert operator().run_step(python(told)) == {"points": 3}


def test_a_failure_names_the_last_words_of_the_step_and_what_to_do() -> None:
    told = "import sys; print('aisle: batch 7 is rotten; throw it away', file=sys.stderr); sys.exit(1)"
    with pytest.raises(AirflowException) as fault:
        operator().run_step(python(told))
    assert str(fault.value).splitlines() == [
        "features.gold ended with code 1: batch 7 is rotten; throw it away",
        "What to do: `gold`: look here and there.",
    ]


@pytest.mark.parametrize(("code", "again"), [(USERS, False), (1, True), (AGAIN, True)])
def test_what_only_its_user_can_mend_is_not_tried_again(code: int, again: bool) -> None:
    with pytest.raises(AirflowException) as fault:
        operator().run_step(python(f"import sys; sys.exit({code})"))
    assert isinstance(fault.value, AirflowFailException) is not again


def test_which_faults_may_be_gone_at_the_next_try() -> None:
    assert {each.exit_code for each in (RaceLost, DiskFull, ServiceFailed)} == {AGAIN}
    assert NotThere.exit_code == USERS


def test_a_killed_step_says_so_and_not_how_far_it_was() -> None:
    told = "import os, signal, sys; print('halfway', file=sys.stderr); os.kill(os.getpid(), signal.SIGTERM)"
    with pytest.raises(
        AirflowException, match=r"^features\.gold was ended by signal 15 \(SIGTERM\)"
    ) as fault:
        operator().run_step(python(told))
    assert "halfway" not in str(fault.value)
    assert not isinstance(fault.value, AirflowFailException)


def test_output_is_logged_as_it_comes_but_for_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    task, logged = operator(), []
    monkeypatch.setattr(type(task), "log", SimpleNamespace(info=lambda _, line: logged.append(line)))
    assert task.follow(io.StringIO("one\n\ntwo\n{}\n"), keep_last=True) == "{}"
    assert logged == ["one", "two"]
    assert task.follow(io.StringIO("three\n\tat Stack.java\n")) == "three"
    assert logged == ["one", "two", "three", "\tat Stack.java"]


def test_a_real_step_without_anything_to_do_skips_the_task(aisle_home: Path) -> None:
    ingest = operator(step="ingest.bronze")
    with pytest.raises(AirflowSkipException):
        ingest.execute(context())


def test_a_real_step_that_fails_says_what_to_do(aisle_home: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"no data yet(.|\n)*What to do: `gold`: look here"):
        operator().execute(context())


def test_without_data_a_run_by_the_calendar_is_skipped(aisle_home: Path) -> None:
    with pytest.raises(AirflowSkipException, match="no data yet"):
        operator(step="monitor.drift", needs_data=True).execute(context())


def test_killing_a_task_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "child"
    told = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(note)!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    task, failed = operator(), []

    def work() -> None:
        try:
            task.run_step(python(told))
        except AirflowException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 20
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(note.read_text())
    task.on_kill()
    thread.join(10)
    assert f"signal {signal.SIGTERM.value}" in str(failed[0])
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_as_of_param_before_run_before_event_before_nothing() -> None:
    events = [{"as_of": "2011-11-01T00:00:00+00:00"}, {"as_of": "2011-11-12T00:00:00+00:00"}, {}]
    settled = {"features.gold": {"as_of": "2011-10-01T00:00:00+00:00"}}
    assert resolve_as_of(context({"as_of": "2011-09-01"}, events), settled) == "2011-09-01"
    assert resolve_as_of(context({"as_of": None}, events), settled) == "2011-10-01T00:00:00+00:00"
    assert resolve_as_of(context({}, events), {}) == "2011-11-12T00:00:00+00:00"
    assert resolve_as_of(context(), {}) is None


def test_a_backfilled_run_sees_its_own_past_and_never_beyond_the_data(aisle_home: Path) -> None:
    write_ledger(datetime(2011, 12, 9, 12, tzinfo=UTC))
    found = context(run_type="backfill")
    assert resolve_as_of(found, {}) == "2011-11-01T00:00:00+00:00"
    assert resolve_as_of(context({"as_of": "2011-09-01"}, run_type="backfill"), {}) == "2011-09-01"
    found["dag_run"].data_interval_end = datetime(2024, 1, 1, 5, 30, tzinfo=UTC)
    assert resolve_as_of(found, {}) == "2011-12-10T00:00:00+00:00"


def test_params_travel_as_json_and_never_through_a_shell() -> None:
    words = operator().command(context({"rebuild": True, "note": "'; touch /tmp/owned; '"}), None, {})
    assert words[3:7] == ["run", "features.gold", "--run-id", "run; rm -rf $HOME"]
    assert "--as-of" not in words
    assert "touch /tmp/owned" in words[-1]


def test_a_backfill_replays_its_interval_and_emits_nothing(aisle_home: Path) -> None:
    task, ti = operator(emits=GOLD), Pushed()
    ti.task = task
    found = context(run_type="backfill", ti=ti)
    assert '"replay_since": "2011-11-01T00:00:00+00:00"' in task.command(found, None, {})[-1]
    task.emit(found, {}, {}, None)
    assert task.outlets == []


def test_an_event_tells_what_it_is_about() -> None:
    task = operator(emits=GOLD, emit_if="emit", carry=["version", "decision_id"])
    found = context()
    earlier = {"train.gate": {"decision_id": "d1", "version": "1"}}
    task.emit(found, {"emit": True, "version": "2"}, earlier, "2011-11-12")
    told = {"as_of": "2011-11-12", "run_id": found["run_id"], "version": "2", "decision_id": "d1"}
    assert found["outlet_events"][GOLD].extra == told


def test_without_a_reason_there_is_no_event() -> None:
    task, ti = operator(emits=GOLD, emit_if="emit"), Pushed()
    ti.task = task
    task.emit(context(ti=ti), {"emit": False}, {}, None)
    assert task.outlets == []


def test_a_refusal_skips_everything_downstream(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("loop", doc_md=RUNBOOK):
        gate = StepOperator(step="features.gold", go_on_if=("verdict", "passed"))
        gate >> StepOperator(step="features.feast") >> StepOperator(step="publish.stage")
    told = 'print(\'{"features.gold": {"verdict": "refused"}}\')'
    monkeypatch.setattr(gate, "command", lambda *_: python(told))
    found = context()
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        gate.execute(found)
    assert sorted(skipped.value.tasks) == ["feast", "stage"]
    assert found["ti"].pushed["return_value"] == {"verdict": "refused"}


def test_what_earlier_steps_returned_comes_along() -> None:
    with DAG("loop", doc_md=RUNBOOK):
        first, second = StepOperator(step="features.gold"), StepOperator(step="features.feast")
        first >> second
    found = context(ti=Pushed({"gold": {"as_of": "2011-11-12"}}))
    assert second.upstream_results(found) == {"features.gold": {"as_of": "2011-11-12"}}


def test_the_runbook_line_of_a_task() -> None:
    assert what_to_do(RUNBOOK, "learn.gold") == "`gold`: look here and there."
    assert what_to_do(RUNBOOK, "other") == "see the runbook on the DAG's page"


def test_links_lead_to_what_the_result_names(settings) -> None:
    found = addresses(
        settings, {"mlflow_run": "abc", "mlflow_experiment": "1", "decision_id": "d1", "report_id": "r1"}
    )
    assert found["MLflow run"].endswith(f":{settings.ports.mlflow}/#/experiments/1/runs/abc")
    assert found["Decision"].endswith("/reports/decisions/d1.html")
    assert found["Drift report"].endswith("/reports/drift/r1.html")
    assert "Decision" not in addresses(settings, {})
    assert "MLflow run" not in addresses(settings, {"mlflow_run": "abc"}), (
        "no page of a run without its experiment"
    )


def test_an_alert_runs_the_command_with_json(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aisle import settings as settings_module

    note = aisle_home / "alert.json"
    script = aisle_home / "alert.py"
    script.write_text(f"import os; open({str(note)!r}, 'w').write(os.environ['AISLE_ALERT'])")
    monkeypatch.setenv("AISLE_AIRFLOW__ALERT_COMMAND", f"{sys.executable} {script}")
    settings_module.load.cache_clear()
    task = operator()
    alert({**context(), "task": task, "exception": ValueError("broken")})
    assert '"what_to_do": "`gold`: look here and there."' in note.read_text()
    assert "AISLE_ALERT" not in os.environ
