"""# ingest: landing to silver

Brings every landed batch (`aisle import …`) as received into **bronze**, judges it, and merges the rows that keep the rules into
**silver**. A bad row goes to `quarantine` with its reasons; a batch above its fault threshold is refused whole. Running it again
changes nothing: a batch is known by the digest of its file.

**When**: hourly; by hand with the form; by Airflow's own backfill. Without anything landed the first task is skipped and
nothing else happens.

**Backfill**: `airflow backfill create --dag-id ingest --from-date … --to-date …` replays the events of each run's data interval, an hour,
from bronze into silver; for more than a few hours take the form's *Replay from* and *until* instead, which is one run. It tells
nobody: no asset is emitted, so features and models stay as they are until `features` runs by hand.

**Tells**: asset `silver` with `as_of`, the day after the newest event; `features` starts on it.

## When a task fails

- `bronze`: a landed folder cannot be read, or the disk is full. The log names it. Free some room or import the file again; then clear
  the task. A half-written append is not seen and not repeated.
- `check`: the batches could not be looked at. Clear the task.
- `silver`: where the log names a batch, that one broke its schema or has more faults than `ingest.max_fault_rate`: mend the file or its
  mapping and import it again. The refused batch stays out; the good ones of the run are in silver, and the next run tells
  `features` of them. Otherwise the MERGE did not end (another writer, a killed process, a full disk): clear the task, the MERGE is
  by key and harmless to repeat.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param

from aisle import settings
from aisle.airflow import SILVER, SILVER_POOL, StepOperator, dag_args


def moment(title: str, description: str) -> Param:
    return Param(None, type=["null", "string"], format="date-time", title=title, description=description)


with DAG(
    "ingest",
    # A run covers the hour before it. Unlike CronDataIntervalTimetable this starts none for an hour before the installation;
    # but Airflow counts a backfilled run as the last one, and makes up for the newest full hour after it: with nothing
    # landed that run is skipped.
    schedule=CronTriggerTimetable(
        "0 * * * *", timezone="UTC", interval=timedelta(hours=1), run_immediately=timedelta(0)
    ),
    description="landing -> bronze -> rules and expectations -> silver",
    doc_md=__doc__,
    tags=["aisle", "data"],
    dagrun_timeout=timedelta(hours=3),
    params={
        "replay_since": moment(
            "Replay from", "Take events from this time on again from bronze. Empty: only what is new."
        ),
        "replay_until": moment("Replay until", "Replay events before this time only."),
    },
    **dag_args(settings.load()),
):
    bronze = StepOperator(step="ingest.bronze")
    # Not tried again: a second look would find the refused batch put aside, and name none to `silver`, which fails the run.
    check = StepOperator(step="ingest.check", retries=0, links=["Data docs"])
    silver = StepOperator(
        step="ingest.silver", emits=SILVER, emit_if="emit", carry=["silver"], pool=SILVER_POOL
    )
    bronze >> check >> silver
