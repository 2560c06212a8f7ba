"""`aisle demo`: a year of a real shop's invoices twice round the loop, through the running Airflow's scheduler.

The first turn takes the history up to a day (SPLIT) and ends with the first champion; the second brings the weeks after it and ends
with a challenger promoted or refused, or with the monitor's word that none is due. Nothing here runs a step: files are
imported by the command, `ingest` is triggered over REST, and the rest starts by asset events.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from aisle import clock, services, story
from aisle.airflow_api import AirflowApi
from aisle.catalogue import environment, program
from aisle.errors import BadFile, NotThere, ServiceFailed, SettingsError
from aisle.following import Loop, Run, ended_before, follow, recent
from aisle.lake import home, project_root
from aisle.memory import Peak
from aisle.settings import Settings
from aisle.terminal import screen

SPLIT = "2011-11-12"  # of the shipped invoices
TURNS = 2
KINDS = (
    "items",
    "users",
    "events",
)  # events last: an hourly run in between finds nothing to make features of
STATE = ("airflow", "feast", "lake", "logs", "mlflow", "releases", "reports", "run", "runs")
NOTHING_NEW = "nothing new"


def main(
    settings: Settings, fresh: bool = False, turns: int = TURNS, data: Path | None = None, split: str = SPLIT
) -> None:
    """Goes round `turns` times with `data` (the shipped invoices), then shows what came of it. Services stay up.

    split: the day (ISO) that parts the first turn's invoices from the second's.

    Raises what the services, the import or a failed DAG run raise; the next run goes on from there. SettingsError and BadFile
    before anything is started or forgotten.
    """
    windows = (("--until", split), ("--since", split))
    clock.parse(split)
    if not 1 <= turns <= len(windows):
        raise SettingsError(
            f"--turns {turns}: the demo knows 1 (to the first champion) and 2 (once more round)"
        )
    if data and not data.is_file():
        raise BadFile(
            f"--data {data} is {'a folder' if data.is_dir() else 'not there'}: give a file of invoices"
        )
    console, started = screen(stderr=True), time.monotonic()
    data = (data or project_root() / "data" / "online_retail.parquet").absolute()
    if fresh:
        forget(settings)
    with Peak() as peak:
        for number in range(1, turns + 1):
            if number < turns and played(number, windows[number - 1], data):
                continue
            record(
                play(settings, console, number, data, windows[number - 1]),
                time.monotonic() - started,
                peak.bytes,
            )
        services.up(settings)
        story.tell(settings, read_record(), screen())


def played(number: int, window: tuple[str, str], data: Path) -> bool:
    """Whether this turn came to its end with this data: then only a later one can bring something new."""
    wanted = {"number": number, "window": list(window), "data": str(data)}
    return any(wanted.items() <= turn.items() for turn in read_record().get("turns", []))


def forget(settings: Settings) -> None:
    """Ends the services and removes what they and the steps wrote; whatever else lies in AISLE_HOME stays."""
    services.down(settings)
    for name in STATE:
        shutil.rmtree(home() / name, ignore_errors=True)


def play(
    settings: Settings, console: Console, number: int, data: Path, window: tuple[str, str]
) -> dict[str, Any]:
    """One turn: import, ingest, and on to its end. Services come up beside the import. Returns the turn's account."""
    started = time.monotonic()
    console.print(f"[bold]turn {number}[/bold]: invoices {window[0].strip('-')} {window[1]}")
    with ThreadPoolExecutor(1) as aside:
        imported = aside.submit(bring, data, window)
        services.up(settings)
        for line in imported.result():
            console.print(line, markup=False, highlight=False)
    api = AirflowApi(settings)
    finished = any(turn["number"] == number for turn in read_record().get("turns", []))
    chain = time.monotonic()
    loop = Loop(api, ended_before(api)) if finished else resumed(api, console)
    if outcome(loop) == NOTHING_NEW:
        trigger(api, "ingest", {})
        follow(loop, console)
    if outcome(loop) == NOTHING_NEW and not finished:
        # An earlier demo got as far as silver and was broken off: from there the loop starts with features.
        trigger(api, "features", {"rebuild": True})
        follow(loop, console)
    account = {
        "number": number,
        "window": list(window),
        "data": str(data),
        "outcome": outcome(loop),
        "runs": [told(run) for run in loop.runs.values()],
    }
    account |= {
        "seconds": round(time.monotonic() - started, 1),
        "chain_seconds": round(time.monotonic() - chain, 1),
    }
    console.print(f"[bold]turn {number}[/bold]: {account['outcome']}, {account['seconds']:.0f} s")
    return account


def bring(data: Path, window: tuple[str, str]) -> list[str]:
    """Imports the three kinds of rows of a file, each by the command. Raises ServiceFailed with the command's own words."""
    said = []
    for kind in KINDS:
        mapping = project_root() / "conf" / "mappings" / f"online_retail_{kind}.toml"
        command = [program("aisle"), "import", kind, str(data), "--mapping", str(mapping), *window]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServiceFailed(
                (done.stderr.strip().splitlines() or ["the import said nothing"])[-1].removeprefix("aisle: ")
            )
        said.append(done.stdout.strip())
    return said


def trigger(api: AirflowApi, dag: str, conf: dict[str, Any]) -> str:
    """Starts a DAG by hand, once Airflow has read its file."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return api.post(f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
        except (NotThere, ServiceFailed):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def resumed(api: AirflowApi, console: Console) -> Loop:
    """What an earlier demo left: runs that go on are followed, the newest run of a DAG that failed is taken up again."""
    newest: dict[str, dict[str, Any]] = {}
    for run in recent(api):
        newest.setdefault(run["dag_id"], run)
    known = ended_before(api)
    for dag, run in newest.items():
        if run["state"] == "failed":
            console.print(f"taking up {dag} again, which failed before")
            api.post(
                f"/dags/{dag}/dagRuns/{run['dag_run_id']}/clear", {"dry_run": False, "only_failed": True}
            )
            known -= {f"{dag}/{run['dag_run_id']}"}
    loop = Loop(api, known)
    loop.look()
    if loop.runs:
        follow(loop, console)
    return loop


def outcome(loop: Loop) -> str:
    """How far the loop went, in words."""
    reached: dict[str, Run] = {run.dag: run for run in loop.runs.values()}
    if "publish" in reached:
        return "released" if reached["publish"].task("promote").get("state") == "success" else "rejected"
    if "train" in reached:
        return "refused by the gate"
    if "monitor" in reached and reached["monitor"].task("verdict").get("state") == "success":
        return "no retrain due"
    return NOTHING_NEW


def told(run: Run) -> dict[str, Any]:
    """A run and its tasks, for the account. queued: seconds from ready to started."""
    tasks = [
        {
            "task": task["task_id"],
            "state": task["state"],
            "seconds": task["duration"],
            "start": task["start_date"],
        }
        for task in run.tasks
    ]
    return {"dag": run.dag, "run_id": run.run_id, "state": run.state, "seconds": run.seconds, "tasks": tasks}


def account() -> Path:
    return home() / "run" / "demo.json"


def read_record() -> dict[str, Any]:
    return json.loads(account().read_text()) if account().exists() else {}


def record(turn: dict[str, Any], seconds: float, peak: int) -> None:
    """Keeps the account of a turn that did something; one that found nothing to do leaves the earlier account."""
    if turn["outcome"] == NOTHING_NEW:
        return
    kept = {each["number"]: each for each in read_record().get("turns", [])} | {turn["number"]: turn}
    turns = [kept[number] for number in sorted(kept)]
    runs = [{**run, "turn": each["number"]} for each in turns for run in each["runs"]]
    tasks = [{**task, "dag": run["dag"], "turn": run["turn"]} for run in runs for task in run.pop("tasks")]
    found = {"seconds": round(seconds, 1), "turns": turns, "dag_runs": runs, "tasks": tasks}
    fresh = account().with_suffix(".fresh")
    fresh.write_text(json.dumps(found | {"peak_memory_bytes": peak}, indent=1))
    os.replace(fresh, account())
