"""The six DAGs as a reader of the Airflow UI meets them: schedules, order, assets, forms, runbooks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aisle.stages import STAGES
from tests.dags.conftest import DAGS, NAMES
from tests.links import LINKS


def steps(dag) -> dict[str, str]:
    """task id -> step."""
    return {task.task_id: task.step for task in dag.tasks if hasattr(task, "step")}


def assets(condition) -> list[str]:
    """Names in a schedule's condition: an asset, or assets joined by and / or."""
    if condition is None:
        return []
    return (
        [condition.name]
        if hasattr(condition, "name")
        else [name for each in condition.objects for name in assets(each)]
    )


def test_the_folder_holds_one_file_per_stage() -> None:
    assert {path.name for path in DAGS.glob("*_dag.py")} == {f"{stage}_dag.py" for stage in STAGES}


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_stage_is_wired_once_and_in_order(dags: dict, name: str) -> None:
    wired = steps(dags[name])
    assert sorted(wired.values()) == sorted(f"{name}.{step}" for step in STAGES[name])
    ordered = [wired[task.task_id] for task in dags[name].topological_sort() if task.task_id in wired]
    assert ordered == [f"{name}.{step}" for step in STAGES[name]]


@pytest.mark.parametrize("name", NAMES)
def test_a_dag_is_its_runbook(dags: dict, name: str) -> None:
    dag = dags[name]
    assert dag.doc_md.startswith(f"# {name}:")
    assert "## When a task fails" in dag.doc_md
    for task in dag.tasks:
        assert f"- `{task.task_id.rpartition('.')[2]}`:" in dag.doc_md, (
            f"{task.task_id} has no line in the runbook"
        )
    assert 30 <= len((DAGS / f"{name}_dag.py").read_text().splitlines()) <= 110


@pytest.mark.parametrize("name", NAMES)
def test_defaults_hold_everywhere(dags: dict, name: str) -> None:
    dag = dags[name]
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, False)
    assert "aisle" in dag.tags
    assert dag.dagrun_timeout >= timedelta(hours=1)
    for task in dag.tasks:
        assert task.owner == "aisle"
        assert task.on_failure_callback
        assert task.execution_timeout or task.response_timeout


def test_assets_tie_the_loop_together(dags: dict) -> None:
    emitted = {asset.name: name for name, dag in dags.items() for task in dag.tasks for asset in task.outlets}
    assert emitted == {
        "silver": "ingest",
        "gold": "features",
        "retrain_request": "monitor",
        "release_approved": "train",
    }
    consumed = {}
    for name, dag in dags.items():
        for asset in assets(getattr(dag.timetable, "asset_condition", None)):
            consumed[asset] = name
    assert consumed == {
        "silver": "features",
        "gold": "monitor",
        "retrain_request": "train",
        "release_approved": "publish",
    }


def test_ingest_has_real_intervals_and_starts_nothing_at_once(dags: dict) -> None:
    timetable = dags["ingest"].timetable
    assert timetable.interval == timedelta(hours=1)
    assert timetable.run_immediately == timedelta(0)


def test_merges_share_a_pool_of_one(dags: dict) -> None:
    from aisle.services import SILVER_POOL

    assert dags["ingest"].get_task("silver").pool == SILVER_POOL["name"]
    assert dags["maintain"].get_task("tables").pool == SILVER_POOL["name"]
    assert SILVER_POOL["slots"] == 1


def test_a_refused_batch_is_not_tried_again(dags: dict) -> None:
    assert dags["ingest"].get_task("check").retries == 0
    assert dags["ingest"].get_task("silver").retries > 0


@pytest.mark.parametrize("name", NAMES)
def test_params_are_forms_with_words(dags: dict, name: str) -> None:
    for key in dags[name].params:
        found = dags[name].params.get_param(key)
        assert found.schema.get("title"), key
        assert found.description, key
        assert "type" in found.schema, key


def test_every_button_is_one_that_its_step_is_tested_to_fill(dags: dict) -> None:
    declared = {
        task.step: {link.name for link in task.operator_extra_links}
        for dag in dags.values()
        for task in dag.tasks
        if hasattr(task, "step") and task.operator_extra_links
    }
    assert declared == LINKS
    assert [link.name for link in dags["publish"].get_task("approve").operator_extra_links] == ["Decision"]


def test_asking_a_person_is_a_choice_of_three_of_which_none_looks_off(dags: dict) -> None:
    found = dags["publish"].params.get_param("approval")
    assert found.value is None
    assert found.schema["enum"] == [None, "ask", "skip"]
    assert set(found.schema["values_display"].values()) == {"as configured", "ask", "do not ask"}


def test_approval_is_asked_before_anything_is_staged(dags: dict) -> None:
    approve = dags["publish"].get_task("approve")
    assert approve.downstream_task_ids == {"stage"}
    assert approve.ignore_downstream_trigger_rules
    assert not approve.defaults, "no answer must never be an answer"
