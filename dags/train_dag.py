"""# train: a challenger, judged

Takes a point-in-time training set from Feast, trains the recommender on all but the newest days, evaluates it beside the champion and the
baselines on those days, and lets the **gate** decide. Only a version that passed is refitted to `as_of`; everything is one MLflow run.

**When**: on asset `retrain_request`; Mondays at 03:00 UTC; by hand with the form; by Airflow's own backfill, each run on the data up to
its day. A past day is judged but never released over a newer champion; `aisle promote V --override REASON` does that.

**Tells**: asset `release_approved` with `version`, `decision_id` and `as_of`, only when the gate passed and the refit kept its parity
guards; `publish` starts on it. A refused challenger ends the run here, with success: `aisle decisions` says which rule refused it.

## When a task fails

- `dataset`: too little history for two held-out windows (`training.test_days`, `training.validation_days`), or Feast cannot answer.
  Import more, or run `features` with the same `as_of` first. It is skipped, not failed, where nothing was bought since a champion or a
  refused version learnt.
- `fit`: training broke off; the log's last lines say where. Out of memory: lower `training.batch_size`. Clear the task: the
  training set is kept. A source that `training.sources` lists and that cannot be learnt from these purchases is named.
- `evaluate`: the model or the champion cannot be loaded. `aisle models` names both; clear the task once they load.
- `gate`: it could not judge at all (a refusal is no failure). The metrics are missing in `ops.evaluations`: clear `evaluate` with
  its downstream. Nothing is released meanwhile.
- `refit`: the refitted model lost its parity with the gated one, or training broke off. The champion stays; the log names the guard.
"""

from datetime import timedelta

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, TaskGroup

from aisle import settings
from aisle.airflow import RELEASE_APPROVED, RETRAIN_REQUEST, StepOperator, as_of_param, dag_args

with DAG(
    "train",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 3 * * 1", timezone="UTC", run_immediately=timedelta(0)),
        assets=RETRAIN_REQUEST,
    ),
    description="training set -> fit -> evaluate -> gate -> refit",
    doc_md=__doc__,
    tags=["aisle", "model"],
    dagrun_timeout=timedelta(hours=6),
    params={"as_of": as_of_param("A past day is judged but never released over a newer champion.")},
    **dag_args(settings.load()),
):
    with TaskGroup("learn", tooltip="a point-in-time training set, and a model from it") as learn:
        dataset = StepOperator(step="train.dataset", needs_data=True)
        fit = StepOperator(step="train.fit", links=["MLflow run"])
        dataset >> fit
    with TaskGroup("judge", tooltip="beside champion and baselines, on days it has not seen") as judge:
        evaluate = StepOperator(step="train.evaluate", links=["MLflow run"])
        gate = StepOperator(
            step="train.gate", links=["MLflow run", "Decision"], go_on_if=("verdict", "passed")
        )
        evaluate >> gate
    refit = StepOperator(
        step="train.refit",
        emits=RELEASE_APPROVED,
        carry=["version", "decision_id", "mlflow_run"],
        links=["MLflow run", "Decision"],
    )
    learn >> judge >> refit
