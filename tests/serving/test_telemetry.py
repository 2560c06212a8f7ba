"""Figures, stages, traces and workers: what the API tells of itself."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aisle import api_keys
from aisle.settings import Settings
from serving import tracing
from serving.figures import Figures, Served
from serving.live import LiveRelease
from serving.telemetry import LINES_SECONDS, JsonLines, Lines, stage
from tests.serving.conftest import Kept, asking, running
from tests.serving.conftest import stage as stage_release
from tests.serving.test_api import PLAIN
from tests.serving.test_swap import wait_for


def test_ages_and_figures(api: httpx.Client) -> None:
    assert api.get(PLAIN, params={"user_id": "u001", "k": 7}).status_code == 200
    text = api.get("/metrics").text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in lines}
    assert values['aisle_model_info{version="1"}'] == 1
    assert values["aisle_model_age_seconds"] > 0
    assert 0 <= values["aisle_index_age_seconds"] < 3600
    assert values["aisle_requests_at_work"] == 0
    assert values['aisle_stage_seconds_count{stage="waiting"}'] >= 1
    assert (
        min(values[f'aisle_stage_seconds_count{{stage="{name}"}}'] for name in ("features", "rank", "pick"))
        >= 1
    )
    assert values['aisle_request_seconds_count{route="/v1/recommendations"}'] >= 1
    assert any(name.startswith('aisle_answer_seconds_count{rung="') for name in values)


def test_what_is_not_there_has_no_age() -> None:
    text = Figures(lambda: Served()).text().decode()
    assert "aisle_model_age_seconds" not in text
    text = Figures(lambda: Served("7", time.time() - 60, None, time.time() - 5)).text().decode()
    assert 'aisle_model_info{version="7"} 1.0' in text
    assert "aisle_features_age_seconds 5." in text


def test_a_defect_is_told_like_any_other_answer(
    settings: Settings, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("serving.answers.key_of", broken)
    found = api.get(PLAIN, headers={"X-Request-ID": "broken-1"})
    assert found.status_code == 500
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["x-request-id"] == found.json()["request_id"] == "broken-1"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "ZeroDivision" not in found.text


def test_stages_of_a_request_are_in_its_line(api: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aisle.api")
    api.get(PLAIN, headers={"X-Request-ID": "told-1"})
    found: list[dict] = []

    def lines() -> bool:
        found[:] = [record.__dict__ for record in caplog.records if record.msg == "answered"]
        return any(each.get("path") == PLAIN for each in found)

    wait_for(lines, 2)
    mine = next(each for each in found if each["path"] == PLAIN)
    assert mine["stages"]["waiting"] >= 0
    assert mine["key"] == "server"
    assert json.loads(JsonLines().format(logging.makeLogRecord(mine)))["status"] == 200


def test_lines_are_written_together_with_their_own_times_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aisle.api")

    async def requests() -> tuple[float, int]:
        lines = Lines()
        lines.tell(logging.INFO, {"request_id": "first", "status": 200})
        await asyncio.sleep(0.02)
        second = time.time()
        lines.tell(logging.INFO, {"request_id": "second", "status": 404})
        before = len(caplog.records)
        await asyncio.sleep(LINES_SECONDS * 2)
        return second, before

    second, before = asyncio.run(requests())
    assert before == 0
    told = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert [(each["request_id"], each["status"], each["message"]) for each in told] == [
        ("first", 200, "answered"),
        ("second", 404, "answered"),
    ]
    assert caplog.records[0].created < second <= caplog.records[1].created


def test_a_stage_outside_of_a_request_does_nothing() -> None:
    with stage("nowhere"):
        pass


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), Taking)

    def spans(self) -> list:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Taking(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    yield found
    tracing.stop()
    found.shutdown()


def test_traces_go_to_the_collector(settings: Settings, collector: Collector) -> None:
    stage_release("1")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with running(settings, Kept()) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        with asking(url) as client:
            answer = client.get(
                PLAIN,
                params={"user_id": "secret-person"},
                headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
            )
            assert answer.status_code == 200
    spans = [span for span in collector.spans() if span.trace_id.hex() == trace]
    root = next(span for span in spans if span.name == f"GET {PLAIN}")
    assert root.parent_span_id.hex() == "00f067aa0ba902b7"
    waiting = next(span for span in spans if span.name == "waiting")
    assert waiting.parent_span_id == root.span_id
    told = {each.key: each.value.string_value or each.value.int_value for each in root.attributes}
    assert told["http.response.status_code"] == 200
    assert told["aisle.request_id"] == answer.headers["x-request-id"]
    everything = str(collector.requests)
    assert "secret-person" not in everything
    assert api_keys.plain_keys()["server"] not in everything


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "never answers"])
def test_a_collector_that_is_away_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if not answers:
            silent.close()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        assert tracing.start()
        tracing.end(tracing.begin("a span"))
        began = time.monotonic()
        tracing.stop()
        assert time.monotonic() - began < tracing.LAST_SECONDS + 2
        assert tracing.begin("another") is None


def test_without_an_endpoint_nothing_is_loaded() -> None:
    code = "import serving.app, serving.tracing as t, sys; assert not t.start(); assert 'opentelemetry.sdk' not in sys.modules"
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=120)


def test_a_worker_beside_others_is_asked_nothing_before_it_looked_for_its_release(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, may_look = LiveRelease.look, threading.Event()

    def looked(live: LiveRelease) -> bool:
        assert may_look.wait(60)
        return look(live)

    monkeypatch.setattr(LiveRelease, "look", looked)
    stage_release("1")
    with running(settings, Kept()) as url:
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 503
        may_look.set()
    may_look.clear()
    with running(settings, Kept(), siblings=True) as url, ThreadPoolExecutor(1) as asking_early:
        answer = asking_early.submit(httpx.get, f"{url}/readyz", timeout=60)
        with pytest.raises(TimeoutError):
            answer.result(1)
        may_look.set()
        assert answer.result().status_code == 200


def test_several_workers_count_together(settings: Settings, aisle_home: Path) -> None:
    """Two processes behind one socket: any of them tells the figures of both, before and after one was killed."""
    import psutil

    from bench.pipeline import free_port

    stage_release("1")
    port = free_port()
    env = {
        **os.environ,
        "AISLE_HOME": str(aisle_home),
        "AISLE_PORTS__API": str(port),
        "AISLE_SERVING__WORKERS": "2",
    }
    command = [sys.executable, "-m", "aisle.cli", "serve"]
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: len(workers(server.pid)) == 2, 60)
        wait_for(lambda: all(answers(f"{url}/readyz") for _ in range(12)), 90)
        client = httpx.Client(base_url=url, headers=api_keys.headers())

        def asked() -> float:
            lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if PLAIN in line]
            return sum(
                float(line.split(" ")[-1]) for line in lines if line.startswith("aisle_requests_total")
            )

        for _ in range(30):
            assert httpx.get(f"{url}{PLAIN}", headers=client.headers).status_code == 200
        assert {asked() for _ in range(12)} == {30.0}
        assert 'aisle_model_info{version="1"} 1.0' in httpx.get(f"{url}/metrics").text
        left = workers(server.pid)
        left[0].kill()
        wait_for(lambda: {each.pid for each in workers(server.pid)} - {each.pid for each in left}, 60)
        until = time.monotonic() + 8  # in which the new one starts: nobody meets it before it can answer
        while time.monotonic() < until:
            try:
                assert httpx.get(f"{url}/readyz").status_code == 200
            except httpx.TransportError:  # it had waited in line at the one that was killed
                assert time.monotonic() < until - 7
            time.sleep(0.05)
        assert asked() == 30.0
        family = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        assert server.wait(30) in (0, -15)
        assert not psutil.wait_procs(family, timeout=15)[1]
    finally:
        if server.poll() is None:
            for each in psutil.Process(server.pid).children(recursive=True):
                each.kill()
            server.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def workers(pid: int) -> list:
    """The worker processes, which uvicorn spawns beside a resource tracker."""
    import psutil

    found = psutil.Process(pid).children(recursive=True)
    alive = [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if "spawn_main" in " ".join(each.cmdline())]
