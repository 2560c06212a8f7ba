"""`make bench-pipeline`: the whole demo, the same steps without Airflow, and incremental ingest.

Each part runs in an AISLE_HOME of its own on ports of its own, so that a running installation is not touched. Parts that are
done are kept in ``.aisle-bench/pipeline.json`` by commit and go on from there; ``--fresh`` forgets them; ``-quick`` leaves the demo out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.report import Figure, commit, publish

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".aisle-bench"
DATA = ROOT / "data" / "online_retail.parquet"
SPLIT = "2011-11-12"
STEPS = {
    "ingest": ("ingest.bronze", "ingest.check", "ingest.silver"),
    "features": ("features.gold", "features.feast"),
    "monitor": ("monitor.drift", "monitor.verdict"),
    "train": ("train.dataset", "train.fit", "train.evaluate", "train.gate", "train.refit"),
    "publish": ("publish.stage", "publish.promote"),
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    ports = {
        f"AISLE_PORTS__{name}": str(free_port()) for name in ("AIRFLOW", "MLFLOW", "FEAST", "API", "SPARK")
    }
    return {
        **os.environ,
        **ports,
        "AISLE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "",
        "TF_USE_LEGACY_KERAS": "1",
    }


def aisle(env: dict[str, str], *words: str) -> tuple[float, str]:
    """Seconds and stdout of one `aisle` command; its stderr is shown when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "aisle"), *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"bench: aisle {' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started, done.stdout


def land(env: dict[str, str], *window: str) -> None:
    for kind in ("items", "users", "events"):
        aisle(
            env,
            "import",
            kind,
            str(DATA),
            "--mapping",
            str(ROOT / "conf" / "mappings" / f"online_retail_{kind}.toml"),
            *window,
        )


def demo() -> dict[str, object]:
    """The demo from nothing but the environment, with its own account of time and memory."""
    home = STATE / "demo"
    shutil.rmtree(home, ignore_errors=True)
    env = environment(home)
    started = time.perf_counter()
    process = subprocess.run([str(Path(sys.executable).parent / "aisle"), "demo"], env=env, check=False)
    seconds = time.perf_counter() - started
    again, _ = aisle(env, "demo") if process.returncode == 0 else (None, "")
    aisle(env, "down")
    if process.returncode:
        sys.exit("bench: the demo failed, see above")
    return {"seconds": seconds, "again": again, **json.loads((home / "run" / "demo.json").read_text())}


def chain(env: dict[str, str], as_of: str, run_id: str) -> dict[str, float]:
    """Every step of the loop as its own process, one after the other, as a task would start it."""
    seconds = {}
    upstream: dict[str, object] = {}
    for steps in STEPS.values():
        for step in steps:
            params = json.dumps({"upstream": upstream})
            took, out = aisle(env, "run", step, "--as-of", as_of, "--run-id", run_id, "--params", params)
            seconds[step] = took
            upstream.update(json.loads(out.strip().splitlines()[-1]))
            if upstream[step].get("skip"):
                break
        if upstream[step].get("skip") or upstream.get("monitor.verdict", {}).get("retrain") is False:
            break  # no data, no retrain, or refused by the gate: in Airflow too no asset event follows
    return seconds


def without_airflow() -> dict[str, object]:
    """The same commands back to back on a warm Spark server, both turns."""
    home = STATE / "chain"
    shutil.rmtree(home, ignore_errors=True)
    env = environment(home)
    start = [
        sys.executable,
        "-c",
        "from aisle import services, settings; services.up(settings.load(), only=('spark',))",
    ]
    subprocess.run(start, env=env, check=True)
    try:
        land(env, "--until", SPLIT)
        first = chain(env, SPLIT, "turn-1")
        land(env, "--since", SPLIT)
        second = chain(env, "2011-12-10", "turn-2")
        starts = [aisle(env, "status", "--json")[0] for _ in range(5)]
    finally:
        aisle(env, "down")
    return {"turns": [first, second], "interpreter_start": median(starts)}


def ingest_costs() -> dict[str, object]:
    """A 1 % batch after a quarter and after all of the history, the full load, and an unchanged interval."""
    env = environment(STATE / "ingest")
    shutil.rmtree(STATE / "ingest", ignore_errors=True)
    start = [
        sys.executable,
        "-c",
        "from aisle import services, settings; services.up(settings.load(), only=('spark',))",
    ]
    subprocess.run(start, env=env, check=True)

    def ingest(run_id: str) -> float:
        return aisle(env, "run", "ingest", "--run-id", run_id)[0]

    found: dict[str, object] = {}
    try:
        events = (
            "import",
            "events",
            str(DATA),
            "--mapping",
            str(ROOT / "conf" / "mappings" / "online_retail_events.toml"),
        )
        # One tiny batch first: it pays for the session, the JIT and the empty tables, which the design calls fixed start-up.
        aisle(env, *events, "--since", "2010-12-01", "--until", "2010-12-01T09:00")
        found["first_ever"] = ingest("warm")
        aisle(env, *events, "--since", "2010-12-01T09:00", "--until", "2010-12-01T09:30")
        found["fixed"] = ingest("fixed")
        aisle(env, *events, "--since", "2010-12-01T09:30", "--until", "2011-03-20")
        found["quarter"] = ingest("quarter")
        aisle(env, *events, "--since", "2011-03-20", "--until", "2011-03-25")
        found["batch_after_quarter"] = ingest("batch-1")
        aisle(env, *events, "--since", "2011-03-25", "--until", "2011-12-05")
        found["rest"] = ingest("rest")
        aisle(env, *events, "--since", "2011-12-05", "--until", "2011-12-06T13:00")
        found["batch_after_all"] = ingest("batch-2")
        found["unchanged"] = median(ingest(f"again-{turn}") for turn in range(3))
    finally:
        aisle(env, "down")
    return found


def figures(parts: dict[str, dict]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    if demo_part := parts.get("demo"):
        found["demo, environment set up"] = Figure(demo_part["seconds"] / 60, "min", "<=", 6)
        found["demo again"] = Figure(demo_part["again"], "s")
        found["peak memory of the demo"] = Figure(demo_part["peak_memory_bytes"] / 2**30, "GiB", "<=", 8)
    chain_part = parts["chain"]
    commands = sum(sum(turn.values()) for turn in chain_part["turns"])
    steps = sum(len(turn) for turn in chain_part["turns"])
    found["the commands back to back"] = Figure(commands, "s")
    found["of it, interpreter starts"] = Figure(steps * chain_part["interpreter_start"], "s")
    if demo_part:
        wall = sum(turn["chain_seconds"] for turn in demo_part["turns"])
        found["the DAG chain"] = Figure(wall, "s")
        found["DAG chain / commands"] = Figure(wall / commands, "ratio", "<=", 1.25)
        found["Airflow's part, a task"] = Figure((wall - commands) / steps, "s")
    part = parts["ingest"]
    full = part["quarter"] + part["rest"] - 2 * part["fixed"]
    found["full ingest above fixed"] = Figure(full, "s")
    found["1 % batch / full, above fixed"] = Figure(
        (part["batch_after_all"] - part["fixed"]) / full, "ratio", "<=", 0.25
    )
    found["1 % batch, all history / a quarter"] = Figure(
        part["batch_after_all"] / part["batch_after_quarter"], "ratio", "<=", 1.25
    )
    found["unchanged interval / first run"] = Figure(
        part["unchanged"] / (part["quarter"] + part["rest"]), "ratio", "<=", 0.05
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m bench.pipeline --quick")
    parser.add_argument(
        "-quick", "--quick", action="store_true", help="without the demo: under eight minutes"
    )
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    chosen = parser.parse_args()
    STATE.mkdir(exist_ok=True)
    kept = STATE / "pipeline.json"
    parts = json.loads(kept.read_text()) if kept.exists() and not chosen.fresh else {}
    if parts.get("commit") != commit():
        parts = {"commit": commit()}
    wanted = {"chain": without_airflow, "ingest": ingest_costs} | ({} if chosen.quick else {"demo": demo})
    for name, measure in wanted.items():
        if name not in parts:
            print(f"bench: {name} …", file=sys.stderr, flush=True)
            parts[name] = measure()
            kept.write_text(json.dumps(parts, indent=2))
    publish("pipeline", figures(parts), {name: parts[name] for name in wanted}, chosen.quick)


if __name__ == "__main__":
    main()
