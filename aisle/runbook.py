"""What a failed task says: the line about it in its DAG's runbook, and the alert when no tries are left."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

from aisle import settings


def what_to_do(doc: str | None, task_id: str) -> str:
    """The runbook's line for a task: ``- `task`: …`` in the DAG's docstring, up to the next line of the list."""
    for paragraph in (doc or "").split("\n- ")[1:]:
        if paragraph.startswith(f"`{task_id.rpartition('.')[2]}`"):
            return " ".join(paragraph.split("\n\n")[0].split())
    return "see the runbook on the DAG's page"


def alert(context: Any) -> None:
    """Tells whoever `airflow.alert_command` reaches that a task failed for good; its log has said what to do."""
    task, ti = context["task"], context["ti"]
    told = {
        "dag": task.dag_id,
        "task": task.task_id,
        "run_id": context["run_id"],
        "try": ti.try_number,
        "error": str(context.get("exception") or ""),
        "what_to_do": what_to_do(task.dag.doc_md, task.task_id),
        "url": ti.log_url,
    }
    command = settings.load().airflow.alert_command
    if command:
        env = {**os.environ, "AISLE_ALERT": json.dumps(told)}
        done = subprocess.run(
            shlex.split(command), env=env, timeout=60, capture_output=True, text=True, check=False
        )
        task.log.info("alert command ended with code %s %s", done.returncode, done.stderr.strip())
    task.log.error("ALERT %s.%s failed in %s: no tries left", task.dag_id, task.task_id, context["run_id"])
