"""Following the loop from outside: which DAG runs go on, which ended, and whether an asset event still has to start one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from aisle.airflow_api import ANY, AirflowApi
from aisle.errors import NotThere, ServiceFailed

DAGS = (
    "ingest",
    "features",
    "monitor",
    "train",
    "publish",
)  # the loop, in its order; `maintain` is beside it
ACTIVE = ("queued", "running")
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
LOOK_SECONDS = 1.0
TRACEBACK = "Task failed with exception"  # Airflow's heading; the errors beside it are ours
STYLE = {"success": "green", "failed": "red", "running": "cyan", "skipped": "dim", "upstream_failed": "red"}


@dataclass
class Run:
    """One DAG run with its tasks, as last seen."""

    dag: str
    run_id: str
    state: str
    queued: datetime
    started: datetime | None = None
    ended: datetime | None = None
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return round(((self.ended or datetime.now(UTC)) - (self.started or self.queued)).total_seconds(), 1)

    def task(self, name: str) -> dict[str, Any]:
        return next((task for task in self.tasks if task["task_id"].rpartition(".")[2] == name), {})


class Loop:
    """The runs since a moment and those that were active then, looked at again and again."""

    def __init__(self, api: AirflowApi, known: frozenset[str] = frozenset()):
        self.api = api
        self.known = known
        self.runs: dict[str, Run] = {}
        self.shown: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        """Takes in what is new. Raises ServiceFailed where a run failed."""
        for told in recent(self.api):
            key = f"{told['dag_id']}/{told['dag_run_id']}"
            if key in self.known or told["dag_id"] not in DAGS:
                continue
            run = self.runs.setdefault(
                key, Run(told["dag_id"], told["dag_run_id"], "queued", moment(told["queued_at"]))
            )
            if run.state in ACTIVE:
                self._update(run, told)

    def _update(self, run: Run, told: dict[str, Any]) -> None:
        run.state = told["state"]
        run.started = moment(told["start_date"]) if told["start_date"] else None
        run.ended = moment(told["end_date"]) if told["end_date"] else None
        run.tasks = self.api.get(f"/dags/{run.dag}/dagRuns/{run.run_id}/taskInstances")["task_instances"]
        run.tasks.sort(
            key=lambda task: (task["start_date"] is None, task["start_date"] or "", task["task_id"])
        )
        if run.state == "failed":
            raise ServiceFailed(self.failure(run))

    def over(self) -> bool:
        """All runs ended and no asset event waits to start another. The queue is asked first: what leaves it is a run."""
        if not self.runs or any(run.state in ACTIVE for run in self.runs.values()):
            return False
        if any(self._waiting(dag) for dag in DAGS):
            return False
        self.look()
        return not any(run.state in ACTIVE for run in self.runs.values())

    def _waiting(self, dag: str) -> bool:
        try:
            return bool(self.api.get(f"/dags/{dag}/assets/queuedEvents")["queued_events"])
        except NotThere:
            return False

    def failure(self, run: Run) -> str:
        """What failed, its log's last error, and where to read on."""
        failed = next((task for task in run.tasks if task["state"] == "failed"), None)
        if failed is None:
            return f"{run.dag} failed: {self.api.url}/dags/{run.dag}/runs/{run.run_id}"
        name, number = failed["task_id"], failed["try_number"]
        path = f"/dags/{run.dag}/dagRuns/{run.run_id}/taskInstances/{name}"
        content = self.api.get(f"{path}/logs/{number}", full_content=True)["content"]
        errors = [
            each["event"] for each in content if isinstance(each, dict) and each.get("level") == "error"
        ]
        told = [each for each in errors if each != TRACEBACK and not each.startswith("ALERT")]
        why = "\n  ".join(told[-2:])
        return f"{run.dag}.{name} failed\n  {why}\n  log: {self.api.url}/dags/{run.dag}/runs/{run.run_id}/tasks/{name}"


def recent(api: AirflowApi) -> list[dict[str, Any]]:
    return api.get(f"/dags/{ANY}/dagRuns", limit=100, order_by="-run_after")["dag_runs"]


def ended_before(api: AirflowApi) -> frozenset[str]:
    """Keys of the runs that are over now: what a new look need not follow."""
    return frozenset(
        f"{run['dag_id']}/{run['dag_run_id']}" for run in recent(api) if run["state"] not in ACTIVE
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def table(loop: Loop) -> Table:
    """One line per task: where it stands and how long it took."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("dag", "task", "state", "seconds"):
        found.add_column(column, justify="right" if column == "seconds" else "left")
    for run in loop.runs.values():
        for task in run.tasks:
            state = task["state"] or "waiting"
            found.add_row(
                run.dag, task["task_id"], f"[{STYLE.get(state, 'default')}]{state}[/]", seconds(task)
            )
    return found


def seconds(task: dict[str, Any]) -> str:
    return f"{task['duration']:.1f}" if task.get("duration") else ""


@contextmanager
def display(loop: Loop, console: Console) -> Iterator[Any]:
    """Yields what is called after each look: a live table on a terminal, a line per change elsewhere."""
    if console.is_terminal:
        with Live(table(loop), console=console, refresh_per_second=2) as live:
            yield lambda: live.update(table(loop))
        return
    started = time.monotonic()

    def lines() -> None:
        for key, run in loop.runs.items():
            for task in run.tasks:
                state = task["state"] or ""
                if loop.shown.get((key, task["task_id"])) != state and state in (
                    *OVER,
                    "running",
                    "awaiting_input",
                    "up_for_retry",
                ):
                    loop.shown[key, task["task_id"]] = state
                    took = f" in {seconds(task)} s" if state in OVER and task.get("duration") else ""
                    console.print(
                        f"[{time.monotonic() - started:4.0f} s] {run.dag}.{task['task_id']} {state}{took}",
                        markup=False,
                    )

    yield lines


def follow(loop: Loop, console: Console) -> None:
    """Until the loop came to rest. Raises ServiceFailed where a run fails."""
    with display(loop, console) as show:
        while True:
            try:
                loop.look()
            finally:
                show()
            if loop.over():
                break
            time.sleep(LOOK_SECONDS)
        show()
