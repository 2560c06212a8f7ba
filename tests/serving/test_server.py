"""`aisle serve` as a process: it finishes what is under way when it is told to stop, and writes nothing secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aisle import api_keys
from aisle.settings import Settings
from bench.pipeline import free_port
from tests.serving.conftest import stage
from tests.serving.test_api import PLAIN
from tests.serving.test_swap import wait_for


@pytest.fixture
def served(settings: Settings, aisle_home: Path) -> Iterator[tuple[str, subprocess.Popen, Path]]:
    stage("1")
    port, log = free_port(), aisle_home / "api.log"
    env = {**os.environ, "AISLE_HOME": str(aisle_home), "AISLE_PORTS__API": str(port)}
    env |= {"AISLE_SERVING__GRACE_SECONDS": "8"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "aisle.cli", "serve"], env=env, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(ready, 90)
        yield url, server, log
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def test_it_stops_without_dropping_a_request(served: tuple[str, subprocess.Popen, Path]) -> None:
    url, server, log = served
    found: list[int] = []
    refused = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers=api_keys.headers(), timeout=10) as client:
            while not refused.is_set():
                try:
                    found.append(client.get(PLAIN, params={"user_id": "u001"}).status_code)
                except (httpx.ConnectError, httpx.RemoteProtocolError):  # it does not listen any more
                    refused.set()

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    time.sleep(1.0)
    server.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert server.wait(20) in (0, -signal.SIGTERM)
    assert time.monotonic() - started < 10
    refused.set()
    for asker in askers:
        asker.join()
    assert len(found) > 10
    assert set(found) <= {200, 503}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [line for line in lines if line["message"] == "answered" and line["path"] == PLAIN]
    assert len(answered) == found.count(200)
    assert all(line["request_id"] and line["key"] == "server" for line in answered)


def test_its_log_is_json_without_keys_queries_or_people(served: tuple[str, subprocess.Popen, Path]) -> None:
    url, server, log = served
    plain = api_keys.plain_keys()
    for key in (*plain.values(), "aisle_server_guess_guess"):
        for path in (PLAIN, "/v1/users/secret-person/history", "/metrics", "/", "/v1/nothing"):
            httpx.get(url + path, params={"user_id": "secret-person", "key": key}, headers={"X-API-Key": key})
            httpx.get(url + path, headers={"Authorization": f"Bearer {key}", "Cookie": f"aisle_page={key}"})
    httpx.post(
        f"{url}/v1/graphql",
        json={"query": "{ x }", "variables": {"a": "secret-person"}},
        headers=api_keys.headers(),
    )
    server.send_signal(signal.SIGTERM)
    server.wait(20)
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) > 20
    for secret in ("secret-person", "guess_guess", *(key.split("_", 3)[3] for key in plain.values())):
        assert secret not in text


def test_a_server_has_lightgbm_without_scikit_learn() -> None:
    asked = (
        "import sys; from serving.server import import_lightgbm; import_lightgbm(); import lightgbm;"
        "print('sklearn' in sys.modules, lightgbm.Booster.__name__); import sklearn"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "Booster"]


BLAS_OF_A_SERVER = """
import json, os, sys, uvicorn
from threadpoolctl import threadpool_info

def look(*_, **__):
    import scipy.linalg
    pools = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    print(json.dumps([os.environ["OPENBLAS_NUM_THREADS"], pools]))

uvicorn.Server.run = look
sys.argv = ["aisle", "serve"]
from aisle.cli import main
main()
"""


@pytest.mark.parametrize("told", [None, "2"])
def test_a_server_multiplies_in_one_thread_unless_it_is_told_otherwise(
    settings: Settings, aisle_home: Path, told: str | None
) -> None:
    """The whole command up to where it would listen. Threads of BLAS that wait for the next product take a core from the requests."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    env |= {"AISLE_HOME": str(aisle_home), "AISLE_PORTS__API": str(free_port())}
    env |= {"OPENBLAS_NUM_THREADS": told} if told else {}
    command = [sys.executable, "-c", BLAS_OF_A_SERVER]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    variable, pools = json.loads(found.stdout.splitlines()[-1])
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert variable == (told or "1")
    assert pools
    assert set(pools) == {min(int(told or 1), most)}
