"""# maintain: the lake's housekeeping

Takes away the rows of who asked to be forgotten (`DELETE /v1/users/{id}`), compacts the Delta tables, drops the lists that were shown longer ago than `maintain.exposure_days` and outcomes older than `maintain.outcome_days`, and vacuums. What a decision refers to (training sets, drift references) is saved with
its MLflow run, so that nothing it rests on is lost.

**When**: Sundays at 02:00 UTC; by hand.

## When a task fails

- `tables`: a table was being written, or the disk is full. Clear the task when the writer is done; compaction is harmless to
  repeat, and readers do not notice it.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from aisle import settings
from aisle.airflow import SILVER_POOL, StepOperator, dag_args

with DAG(
    "maintain",
    schedule=CronTriggerTimetable("0 2 * * 0", timezone="UTC", run_immediately=timedelta(0)),
    description="Erasures, OPTIMIZE, retention, VACUUM",
    doc_md=__doc__,
    tags=["aisle", "data"],
    dagrun_timeout=timedelta(hours=6),
    **dag_args(settings.load()),
):
    tables = StepOperator(step="maintain.tables", pool=SILVER_POOL)
