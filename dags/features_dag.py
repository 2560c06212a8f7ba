"""# features: silver to gold, and on to Feast

Builds the **gold** tables (user, item and pair statistics, keyed by entity and `as_of`) for the points of the grid that are missing or
whose rows changed, then applies the Feast repository and brings the newest `as_of` into the online store.

**When**: on asset `silver`; by hand, with a past `as_of` to add its points, or with `rebuild` to compute points anew. A past `as_of`
never moves online values back and emits nothing.

What visitors did before they logged in is theirs from their log-in on: `silver.session_users` is brought up to date first.

What the API served is joined with what people did next: `ops.recommendations`, `ops.outcomes`.

**Tells**: asset `gold` with `as_of`; `monitor` starts on it.

## When a task fails

- `gold`: the log's last lines say why. An `as_of` beyond the data: give one that is not. Out of memory: raise `spark.driver_memory`. A concurrent write: clear the task, a point of
  the grid is replaced as a whole.
- `feast`: the feature definitions and the gold tables do not fit, or the online store cannot be written. Mend `feature_repo/`
  or its settings, then clear the task: applying and materialising again is harmless.
- `outcomes`: a batch of `landing/exposures` that cannot be read; the log names it. Nothing else waits for this task: clear it when
  the batch is mended or moved away.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from aisle import settings
from aisle.airflow import GOLD, SILVER, StepOperator, as_of_param, dag_args

with DAG(
    "features",
    schedule=SILVER,
    description="gold statistics on the as_of grid, Feast apply, materialise",
    doc_md=__doc__,
    tags=["aisle", "data"],
    dagrun_timeout=timedelta(hours=4),
    params={
        "as_of": as_of_param(),
        "rebuild": Param(
            False,
            type="boolean",
            title="Rebuild",
            description="Compute the points of the grid anew, not only what changed: all of them where As of is empty, else those "
            "from that day on.",
        ),
    },
    **dag_args(settings.load()),
):
    gold = StepOperator(step="features.gold")
    feast = StepOperator(step="features.feast", emits=GOLD, emit_if="emit")
    outcomes = StepOperator(step="features.outcomes")
    gold >> [feast, outcomes]
