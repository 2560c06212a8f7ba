"""`aisle up` and `aisle down` with small real processes: known again, started again, ended exactly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from aisle import airflow_home, catalogue, processes, services
from aisle.catalogue import Service
from aisle.errors import MissingPrerequisite, PortTaken, ServiceFailed
from aisle.settings import Settings

SERVE = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def small(name: str) -> Service:
    """A service that is a few lines of Python behind a port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    return Service(name, [sys.executable, "-c", SERVE, str(port)], catalogue._answers(url), port, "api", url)


@pytest.fixture
def shop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Service]]:
    """Two services instead of the real ones; whatever a test leaves running is ended."""
    wanted = [small("one"), small("two")]
    monkeypatch.setattr(services, "services", lambda _: wanted)
    yield wanted
    services.down(settings)


def test_up_starts_all_and_down_ends_exactly_them(settings: Settings, shop: list[Service]) -> None:
    told = services.up(settings)
    found = processes.read()
    assert set(found) == {"one", "two"}
    assert all(each.url in told for each in shop)
    assert all(each.pid == each.pgid == os.getpgid(each.pid) for each in found.values())
    assert "one" in services.down(settings)
    assert not any(psutil.pid_exists(each.pid) and processes.process_of(each) for each in found.values())
    assert processes.read() == {}
    assert services.down(settings) == "nothing of ours was running"


def test_up_is_harmless_while_all_runs(settings: Settings, shop: list[Service]) -> None:
    services.up(settings)
    before = processes.read()
    services.up(settings)
    assert processes.read() == before


def test_what_died_is_started_again(settings: Settings, shop: list[Service]) -> None:
    services.up(settings)
    before = processes.read()
    psutil.Process(before["one"].pid).kill()
    time.sleep(0.2)
    services.up(settings)
    after = processes.read()
    assert after["one"].pid != before["one"].pid
    assert after["two"] == before["two"]


def test_only_the_named_services_are_started(settings: Settings, shop: list[Service]) -> None:
    services.up(settings, only=("two",))
    assert set(processes.read()) == {"two"}


def test_a_service_started_before_a_kill_could_note_it_is_found_again(
    settings: Settings, shop: list[Service]
) -> None:
    lost = processes.spawn("one", shop[0].command, catalogue.environment(), shop[0].port, shop[0].url)
    assert processes.read() == {}
    services.up(settings)
    assert processes.read()["one"].pid == lost.pid
    services.down(settings)
    assert processes.process_of(lost) is None


def test_down_finds_what_was_noted_nowhere(settings: Settings, shop: list[Service]) -> None:
    lost = processes.spawn("one", shop[0].command, catalogue.environment(), shop[0].port, shop[0].url)
    assert services.down(settings) == "stopped: one"
    assert processes.process_of(lost) is None


def test_an_id_that_belongs_to_another_process_now_is_left_alone(
    settings: Settings, shop: list[Service]
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        started = psutil.Process(stranger.pid).create_time() - 1000
        log = str(processes.home() / "logs" / "one.log")
        processes.write({"one": processes.Running("one", stranger.pid, stranger.pid, started, None, "", log)})
        assert services.down(settings) == "nothing of ours was running"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_everything_that_a_service_started_ends_with_it(
    settings: Settings, shop: list[Service], aisle_home: Path
) -> None:
    note = aisle_home / "child"
    told = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open({str(note)!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    shop[1] = Service("two", [sys.executable, "-c", told], lambda: note.exists() and bool(note.read_text()))
    services.up(settings)
    child = int(note.read_text())
    services.down(settings)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_one_that_ignores_term_is_killed(
    settings: Settings, shop: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    stubborn = processes.spawn("one", [sys.executable, "-c", told], catalogue.environment(), None, "")
    time.sleep(0.5)
    assert processes.stop([stubborn], grace=0.5) == ["one"]
    assert processes.process_of(stubborn) is None


def test_a_taken_port_is_named_with_its_owner_and_its_setting(
    settings: Settings, shop: list[Service]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", shop[1].port))
        listener.listen()
        with pytest.raises(PortTaken) as fault:
            services.up(settings)
    words = str(fault.value)
    assert str(shop[1].port) in words
    assert str(os.getpid()) in words
    assert "ports.api" in words
    assert "AISLE_PORTS__API=" in words
    assert processes.read() == {}, "nothing is started when something could not be"


def test_a_service_that_ends_at_once_is_told_with_its_last_words(
    settings: Settings, shop: list[Service]
) -> None:
    shop[0] = replace(
        shop[0], command=[sys.executable, "-c", "import sys; sys.exit('no such thing as a free lunch')"]
    )
    with pytest.raises(ServiceFailed, match="one ended: no such thing as a free lunch"):
        services.up(settings)
    assert "two" in processes.read(), "the other one is noted, for the next up or down"


def test_without_java_spark_is_not_tried(
    settings: Settings, shop: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop[0] = replace(shop[0], name="spark")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(MissingPrerequisite, match="Java is missing: install 17 or 21"):
        services.up(settings)
    assert processes.read() == {}


def test_two_at_once_start_everything_once(settings: Settings, shop: list[Service], aisle_home: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as both:
        list(both.map(services.up, [settings, settings]))
    assert len(processes.marked("one")) == 1


@pytest.mark.parametrize("text", ['{"one": {"pid": 1', "[1]", '{"one": [1]}', "1"])
def test_a_torn_note_counts_as_none(aisle_home: Path, text: str) -> None:
    processes.note().parent.mkdir(parents=True)
    processes.note().write_text(text)
    assert processes.read() == {}


RENAMED = f"import setproctitle; setproctitle.setproctitle('python3 one ' + 'x' * 5000); {SERVE}"


def test_a_lost_service_that_wrote_over_its_mark_is_found_by_its_port(
    settings: Settings, shop: list[Service]
) -> None:
    """As Airflow's API server does: its title lies over the environment that others can see."""
    shop[0] = replace(shop[0], command=[sys.executable, "-c", RENAMED, str(shop[0].port)])
    lost = processes.spawn("one", shop[0].command, catalogue.environment(), shop[0].port, shop[0].url)
    while not shop[0].healthy():
        time.sleep(0.1)
    assert processes.MARK not in psutil.Process(lost.pid).environ()
    assert services.down(settings) == "stopped: one"
    assert processes.process_of(lost) is None


ORPHANS = (
    "import setproctitle, subprocess, sys, time; worker = \"import setproctitle, time; setproctitle.setproctitle('idle' + 'x' * 5000);"
    " print('up', flush=True); time.sleep(60)\"; told = subprocess.Popen([sys.executable, '-c', worker], stdout=subprocess.PIPE);"
    " told.stdout.readline(); open('worker.pid', 'w').write(str(told.pid)); time.sleep(60)"
)


def test_workers_that_outlive_a_killed_service_and_lost_their_mark_are_ended(
    settings: Settings, shop: list[Service], aisle_home: Path
) -> None:
    running = processes.spawn("one", [sys.executable, "-c", ORPHANS], catalogue.environment(), None, "")
    deadline, note = time.monotonic() + 20, aisle_home / "worker.pid"
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    worker = psutil.Process(int(note.read_text()))
    assert processes.MARK not in worker.environ()
    processes.write({"one": running})
    psutil.Process(running.pid).kill()
    assert services.down(settings) == "stopped: one"
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_strangers_server_on_our_port_is_left_alone(settings: Settings, shop: list[Service]) -> None:
    command = [sys.executable, "-c", SERVE, str(shop[0].port)]
    stranger = subprocess.Popen(command, start_new_session=True, cwd="/")
    try:
        while not shop[0].healthy():
            time.sleep(0.1)
        assert services.down(settings) == "nothing of ours was running"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_down_needs_no_room(settings: Settings, shop: list[Service], monkeypatch: pytest.MonkeyPatch) -> None:
    services.up(settings)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert services.down(settings) == "stopped: one, two"
    assert processes.read() == {}


def test_a_users_own_servers_are_left_to_the_user(settings: Settings) -> None:
    ours = {each.name for each in catalogue.services(settings)}
    assert {
        "spark",
        "mlflow",
        "airflow-api",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "api",
    } == ours
    theirs = settings.model_copy(
        update={
            "spark": settings.spark.model_copy(update={"remote": "sc://cluster:15002"}),
            "registry": settings.registry.model_copy(update={"tracking_uri": "http://mlflow:5000"}),
        }
    )
    assert not {each.name for each in catalogue.services(theirs)} & {"spark", "mlflow"}


def test_secrets_are_made_once_and_for_the_owner_only(settings: Settings) -> None:
    airflow_home.write(settings)
    first = {name: (airflow_home.folder() / name).read_text() for name in ("secrets.json", "passwords.json")}
    airflow_home.write(settings)
    for name, text in first.items():
        path = airflow_home.folder() / name
        assert path.read_text() == text
        assert path.stat().st_mode & 0o077 == 0
    assert (airflow_home.folder() / "airflow.cfg").stat().st_mode & 0o077 == 0
    assert len(airflow_home.password()) >= 16


def test_bytecode_is_written_and_this_interpreters_programs_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    env = catalogue.environment()
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["PATH"].startswith(str(Path(sys.executable).parent))


def test_memory_of_a_process_is_counted(settings: Settings, shop: list[Service]) -> None:
    services.up(settings)
    assert processes.memory(processes.marked()) > 10_000_000
    os.kill(processes.read()["one"].pid, signal.SIGKILL)
