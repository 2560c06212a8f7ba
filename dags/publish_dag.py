"""# publish: a judged version reaches the shoppers

Asks a person first, where that is wanted; brings the version from the registry to disk, checks every file against its manifest and
smoke-checks it in a process of its own; then moves the release pointer and, last, the alias. Serving follows without dropping a request.

**When**: on asset `release_approved`; by hand with a version that the gate passed.

**Approval**: Param `approval` (`ask` or `skip`), else the setting `gate.approval`. The request stands under *Required Actions* with the
gate's table in it. Reject skips the rest and is recorded; no answer in seven days fails the run; nothing is released by silence.

## When a task fails

- `approve`: nobody answered in time, or there is no such version, or it is barred or not judged by the gate. See `aisle models`, then
  trigger `publish` again with the version.
- `stage`: the bundle does not match its manifest, failed its smoke check, or the version is barred. It is not released. `aisle models`
  says where it stands; train again, or name another version.
- `promote`: the champion changed meanwhile, or serving refused the new version and went back by itself. `aisle status` says what is
  served; trigger `publish` again if the version is still wanted. `aisle rollback` works without Airflow.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from aisle import settings
from aisle.airflow import RELEASE_APPROVED, StepOperator, dag_args
from aisle.approval import ASK, SKIP, GateApproval

with DAG(
    "publish",
    schedule=RELEASE_APPROVED,
    description="optional approval -> staged bundle, smoke check -> pointer and alias",
    doc_md=__doc__,
    tags=["aisle", "model"],
    dagrun_timeout=timedelta(days=8),
    params={
        "version": Param(
            None,
            type=["null", "string"],
            title="Version",
            description="A registered version that passed the gate. Empty: the one that the asset event names, else "
            "the newest challenger, or its refit where it has one.",
        ),
        "approval": Param(
            None,
            type=["null", "string"],
            enum=[None, ASK, SKIP],
            values_display={"null": "as configured", ASK: "ask", SKIP: "do not ask"},
            title="Ask a person",
            description="Wait for Approve or Reject under Required Actions. As configured: as gate.approval says.",
        ),
    },
    **dag_args(settings.load()),
):
    approve = GateApproval(task_id="approve", response_timeout=timedelta(days=7))
    stage = StepOperator(step="publish.stage", links=["Decision", "MLflow run"])
    promote = StepOperator(step="publish.promote", links=["Decision", "Data docs"])
    approve >> stage >> promote
