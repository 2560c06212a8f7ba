"""# monitor: does the champion still fit?

Compares what is arriving with the champion's own training reference (`ops.drift`, an Evidently report), and gives a **verdict**: is a
retrain due, and why. The rules are the section `[monitor]` of `conf/aisle.toml`; without a champion a first training is due.

**When**: on asset `gold`; daily at 05:30 UTC; by Airflow's own backfill, each run on the data up to its day, which asks for no retrain.
Without data the first task is skipped.

**Tells**: asset `retrain_request` with `as_of` and the reasons, only when the verdict asks for one; `train` starts on it.

## When a task fails

- `drift`: the reference of the champion's run or a gold table cannot be read. See `aisle models` and `aisle status`; clear the
  task once they answer. The champion serves on meanwhile.
- `verdict`: the drift figures of this run are missing. Clear `drift` with its downstream.
"""

from datetime import timedelta

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from aisle import settings
from aisle.airflow import GOLD, RETRAIN_REQUEST, StepOperator, as_of_param, dag_args

with DAG(
    "monitor",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("30 5 * * *", timezone="UTC", run_immediately=timedelta(0)),
        assets=GOLD,
    ),
    description="drift against the champion's reference, and a verdict: is a retrain due?",
    doc_md=__doc__,
    tags=["aisle", "model"],
    dagrun_timeout=timedelta(hours=2),
    params={"as_of": as_of_param()},
    **dag_args(settings.load()),
):
    drift = StepOperator(step="monitor.drift", needs_data=True, links=["Drift report", "MLflow run"])
    verdict = StepOperator(
        step="monitor.verdict",
        emits=RETRAIN_REQUEST,
        emit_if="retrain",
        carry=["reasons"],
        links=["Drift report", "Decision"],
    )
    drift >> verdict
