"""Parsing a DAG file imports Airflow and `aisle` and nothing heavy, and costs little above Airflow's own import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.dags.conftest import DAGS, NAMES

OURS = ("engine", "jobs", "training", "monitoring", "serving", "feature_repo")
HEAVY = (
    "tensorflow",
    "pyspark",
    "feast",
    "mlflow",
    "evidently",
    "great_expectations",
    "deltalake",
    "duckdb",
    "lightgbm",
)
PARSE = """
import importlib.util, json, sys, time
def load(path):
    spec = importlib.util.spec_from_file_location("parsed", path)
    module = importlib.util.module_from_spec(spec)
    started = time.perf_counter()
    spec.loader.exec_module(module)
    return time.perf_counter() - started
import airflow.sdk
from airflow.providers.standard.operators import hitl
seconds = {path: load(path) for path in sys.argv[1:]}
print(json.dumps({"seconds": seconds, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def parse(*paths: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE, *map(str, paths)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_parse_brings_in_nothing_but_airflow_and_aisle(tmp_path: Path) -> None:
    empty = tmp_path / "empty_dag.py"
    empty.write_text("from airflow.sdk import DAG\n\nwith DAG('empty'):\n    pass\n")
    before = set(parse(empty)["modules"])
    found = parse(*(DAGS / f"{name}_dag.py" for name in NAMES))
    assert not set(found["modules"]) & {*OURS, *HEAVY} - before
    # Each file once the modules that all share are there: what a parser process pays.
    assert sum(list(found["seconds"].values())[1:]) < 2.0
