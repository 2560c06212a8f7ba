"""What the DAG files share: one operator that runs one step as one subprocess, the assets, the defaults and the links.

A task is `aisle run STAGE.STEP --as-of … --run-id … --params …`: the same command by hand, in a test and on a schedule.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from threading import Thread
from typing import IO, Any

import attrs
from airflow.sdk import Asset, BaseOperator, BaseOperatorLink, Param, SkipMixin
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from aisle import clock
from aisle import settings as settings_module
from aisle.errors import USERS, NotThere
from aisle.links import addresses
from aisle.runbook import alert, what_to_do
from aisle.settings import Settings

SILVER = Asset("silver", "aisle://lake/silver", group="aisle")
GOLD = Asset("gold", "aisle://lake/gold", group="aisle")
RETRAIN_REQUEST = Asset("retrain_request", "aisle://monitor/retrain_request", group="aisle")
RELEASE_APPROVED = Asset("release_approved", "aisle://train/release_approved", group="aisle")

SILVER_POOL = "silver_merge"  # one slot: MERGEs into silver run one at a time; `aisle up` creates it
KILL_SECONDS = 10


def as_of_param(note: str = "") -> Param:
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="As of (UTC day)",
        description="Data from this day on is not seen; at most the day after the newest event, which is taken where this is "
        f"empty. {note}".rstrip(),
    )


def trigger_of(context: Mapping[str, Any]) -> dict[str, Any]:
    """The extra of the asset event that counts: the one with the newest as_of (events may be batched into one run)."""
    events = [event for each in (context.get("triggering_asset_events") or {}).values() for event in each]
    extras = [dict(event.extra or {}) for event in events]
    return max(extras, key=lambda extra: str(extra.get("as_of") or ""), default={})


def resolve_as_of(context: Mapping[str, Any], upstream: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The Param, else what an earlier step of this run settled on, else the end of a backfilled interval, else the
    newest triggering event's, else None.

    None leaves it to the step, which then takes the data's own clock. The wall clock is never asked.
    """
    settled = [str(result["as_of"]) for result in upstream.values() if result.get("as_of")]
    told = context["params"].get("as_of") or max(settled, default=None)
    if told or not is_backfill(context):
        return told or trigger_of(context).get("as_of")
    return clock.day_seen(context["dag_run"].data_interval_end).isoformat()


@attrs.define
class StepLink(BaseOperatorLink):
    """A button on a task's page; its address is what the operator knows when the task ends."""

    name: str = attrs.field()

    @property
    def xcom_key(self) -> str:
        return f"_link_{self.name.lower().replace(' ', '_')}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        return getattr(operator, "addresses", {}).get(self.name, "")


def failed(task: BaseOperator, why: str, again: bool) -> AirflowException:
    """The exception of a failed task, which says what to do; so do the last lines of its log.

    again: whether another try may help. A fault that stays until somebody mends it is not tried again.
    """
    told = what_to_do(task.dag.doc_md, task.task_id)
    task.log.error("%s", why)
    task.log.error("What to do: %s", told)
    return (AirflowException if again else AirflowFailException)(f"{why}\nWhat to do: {told}")


class StepOperator(BaseOperator, SkipMixin):
    """Runs one step of `aisle.stages` and pushes its JSON result.

    step: ``stage.step``. emits: the asset that this task updates, only when the result's key `emit_if` is true (where given)
    and never in a backfill. carry: keys of the result that travel with the asset event. go_on_if: a key of the result
    that must have this value, or everything downstream is skipped. needs_data: without any in silver the task is skipped, so that
    a run by the calendar is harmless. links: which buttons the task's page shows.
    """

    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        step: str,
        emits: Asset | None = None,
        emit_if: str | None = None,
        carry: Collection[str] = (),
        go_on_if: tuple[str, Any] | None = None,
        needs_data: bool = False,
        links: Iterable[str] = (),
        **kwargs: Any,
    ):
        kwargs.setdefault("task_id", step.partition(".")[2])
        super().__init__(outlets=[emits] if emits else [], **kwargs)
        self.step, self.emits, self.emit_if, self.carry, self.go_on_if = (
            step,
            emits,
            emit_if,
            tuple(carry),
            go_on_if,
        )
        self.needs_data = needs_data
        self.operator_extra_links = [StepLink(name) for name in links]
        self.addresses: dict[str, str] = {}
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        try:
            return self.work(context)
        except AirflowTaskTimeout:
            raise failed(self, f"{self.step} took longer than {self.execution_timeout}", True) from None

    def work(self, context: Any) -> dict[str, Any]:
        upstream = self.upstream_results(context)
        as_of = resolve_as_of(context, upstream) or (newest_data() if self.needs_data else None)
        result = self.run_step(self.command(context, as_of, upstream))
        self.addresses = addresses(settings_module.load(), result)
        if result.get("skip"):
            raise AirflowSkipException(str(result["skip"]))
        self.emit(context, result, upstream, as_of)
        if self.go_on_if and result.get(self.go_on_if[0]) != self.go_on_if[1]:
            self.log.info("%s is %r: nothing downstream runs", self.go_on_if[0], result.get(self.go_on_if[0]))
            context["ti"].xcom_push(key="return_value", value=result)
            self.skip(context["ti"], self.get_flat_relatives(upstream=False))
        return result

    def upstream_results(self, context: Any) -> dict[str, dict[str, Any]]:
        """What the tasks before this one in the run returned, by step name; the skipped ones are absent."""
        found = {
            getattr(task, "step", f"{self.dag_id}.{task.task_id}"): context["ti"].xcom_pull(
                task_ids=task.task_id
            )
            for task in self.get_flat_relatives(upstream=True)
        }
        return {step: result for step, result in found.items() if result}

    def command(self, context: Any, as_of: str | None, upstream: dict[str, dict[str, Any]]) -> list[str]:
        """A list of arguments: what a person typed into a form is never seen by a shell."""
        run = context["dag_run"]
        params = {key: value for key, value in trigger_of(context).items() if key not in ("as_of", "run_id")}
        params |= {
            key: value for key, value in context["params"].items() if value is not None and key != "as_of"
        }
        if is_backfill(context):
            params |= {
                "replay_since": run.data_interval_start.isoformat(),
                "replay_until": run.data_interval_end.isoformat(),
            }
        params["upstream"] = upstream
        words = [sys.executable, "-m", "aisle.cli", "run", self.step, "--run-id", context["run_id"]]
        return [*words, *(["--as-of", as_of] if as_of else []), "--params", json.dumps(params)]

    def run_step(self, command: list[str]) -> dict[str, Any]:
        """Runs the command, what it says in the task's log as it comes; returns the JSON of its last line of output."""
        self.log.info("%s", shlex.join(command))
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "AISLE_STEP": self.step, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        said, told = self.process.stdout, self.process.stderr
        assert said
        assert told
        result: list[str] = []
        output = Thread(target=lambda: result.append(self.follow(said, keep_last=True)))
        output.start()
        last = self.follow(told).removeprefix("aisle: ")
        code = self.process.wait()
        output.join()
        if code < 0:
            name = signal.Signals(-code).name
            raise failed(self, f"{self.step} was ended by signal {-code} ({name})", again=True)
        if code != 0:
            raise failed(self, f"{self.step} ended with code {code}: {last}", again=code != USERS)
        return json.loads(result[0])[self.step]

    def follow(self, stream: IO[str], keep_last: bool = False) -> str:
        """Logs the lines of a stream as they come; returns the last one, which is not logged where it is kept.

        An indented line (of a stack) is nobody's last word, unless it is kept.
        """
        last = ""
        for line in filter(str.strip, stream):
            if keep_last and last:
                self.log.info("%s", last)
            if not keep_last:
                self.log.info("%s", line.rstrip())
            last = line.rstrip() if keep_last or not line[0].isspace() else last
        return last

    def emit(
        self, context: Any, result: dict[str, Any], upstream: dict[str, dict[str, Any]], as_of: str | None
    ) -> None:
        """Says with the asset event what it is about; without a reason to, or in a backfill, there is no event."""
        if not self.emits:
            return
        if is_backfill(context) or (self.emit_if and not result.get(self.emit_if)):
            self.log.info("asset %s is not emitted", self.emits.name)
            context["ti"].task.outlets = []  # what Airflow reads when the task ends
            return
        told = {key: value for each in (*upstream.values(), result) for key, value in each.items()}
        extra = {"as_of": told.get("as_of") or as_of, "run_id": context["run_id"]}
        context["outlet_events"][self.emits].extra = extra | {
            key: told[key] for key in self.carry if key in told
        }

    def on_kill(self) -> None:
        """Ends the step's whole process group, Spark and training workers included."""
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def newest_data() -> str:
    """The data's own clock. Raises AirflowSkipException before the first ingest."""
    try:
        return clock.newest_as_of().isoformat()
    except NotThere as error:
        raise AirflowSkipException(str(error)) from None


def is_backfill(context: Mapping[str, Any]) -> bool:
    return str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type)) == "backfill"


def default_args(settings: Settings) -> dict[str, Any]:
    """What every task has: owner, retries, timeouts and what happens when it fails."""
    return {
        "owner": "aisle",
        "retries": settings.airflow.retries,
        "retry_delay": timedelta(seconds=settings.airflow.retry_delay_seconds),
        "execution_timeout": timedelta(minutes=settings.airflow.timeout_minutes),
        "on_failure_callback": alert,
    }


def dag_args(settings: Settings) -> dict[str, Any]:
    """What every DAG has: no catching up, one run at a time, alive from the start."""
    return {
        "catchup": False,
        "max_active_runs": 1,
        "is_paused_upon_creation": False,
        "default_args": default_args(settings),
    }
