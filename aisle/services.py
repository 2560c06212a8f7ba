"""`aisle up` and `aisle down`: the services in the background, started together, known again, ended exactly."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import psutil
from filelock import FileLock

from aisle import airflow_home, api_keys, processes
from aisle.airflow_api import AirflowApi
from aisle.catalogue import Service, environment, program, services
from aisle.errors import MissingPrerequisite, PortTaken, ServiceFailed
from aisle.lake import home
from aisle.prerequisites import java_fault
from aisle.processes import Running
from aisle.settings import Settings

START_SECONDS = 240  # a cold start on two busy cores takes a quarter of this
GRACE_SECONDS = 15
SILVER_POOL = {"name": "silver_merge", "slots": 1, "description": "MERGEs into silver, one at a time"}


def up(settings: Settings, only: Collection[str] = ()) -> str:
    """Starts what does not run and waits until all of it answers. Harmless when it runs; what died is started again.

    only: names of the services to care for; empty: all. Raises PortTaken, MissingPrerequisite, ServiceFailed. Whatever was started stays up and is noted, so that the next
    `up` goes on from there and `down` ends it.
    """
    started = time.monotonic()
    with _locked():
        wanted = [each for each in services(settings) if not only or each.name in only]
        found = recover(wanted)
        missing = [each for each in wanted if each.name not in found]
        if any(each.name == "spark" for each in missing):
            fault = java_fault()
            if fault:
                raise MissingPrerequisite(fault)
        for each in missing:
            require_port(each)
        start(settings, missing, found)
        _wait(wanted, found, started, {each.name for each in missing})
        if "spark" in found:
            (home() / "run" / "spark.address").write_text(found["spark"].url)
        if any(each.name == "airflow-api" for each in missing):
            _pool(settings)
    return summary(settings, found)


def down(settings: Settings) -> str:
    """Ends exactly what `up` started, and says what that was."""
    with _locked():
        found = processes.read()
        for each in services(settings):
            lost = _orphan(each) if each.name not in found else None
            if lost:
                found[each.name] = _noted(each.name, lost)
        stopped = processes.stop(found.values(), GRACE_SECONDS)
        (home() / "run" / "spark.address").unlink(missing_ok=True)
        processes.write({})
    return f"stopped: {', '.join(stopped)}" if stopped else "nothing of ours was running"


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    lock = home() / "run" / "services.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=START_SECONDS):
        yield


def recover(wanted: Iterable[Service]) -> dict[str, Running]:
    """What runs, by name: noted and alive, or started by a run of us that was killed before it could note it.

    What a dead service left behind (its workers, a step of its tasks) is ended, so that a new one finds a clean floor.
    """
    found = processes.read()
    for each in wanted:
        known = found.get(each.name)
        if known and processes.process_of(known):
            continue
        lost = _orphan(each)
        if lost:
            found[each.name] = _noted(each.name, lost, each)
        elif known:
            processes.stop([found.pop(each.name)], GRACE_SECONDS)
    processes.write(found)
    return found


def _orphan(service: Service) -> psutil.Process | None:
    return processes.orphan(service.name, service.port, service.command[0])


def _noted(name: str, process, service: Service | None = None) -> Running:
    port, url = (service.port, service.url) if service else (None, "")
    log = str(home() / "logs" / f"{name}.log")
    return Running(name, process.pid, os.getpgid(process.pid), process.create_time(), port, url, log)


def require_port(service: Service) -> None:
    """Raises PortTaken where a service's port is not free."""
    if service.port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError:
            other = processes.listener(service.port)
            who = f"{other.name()} (process {other.pid})" if other else "another process"
            variable = f"AISLE_PORTS__{service.setting.upper()}"
            raise PortTaken(
                f"port {service.port} of {service.name} is taken by {who}: end it, or choose another port with "
                f"ports.{service.setting} in {home() / 'aisle.toml'} or {variable}={service.port + 1}"
            ) from None


def start(settings: Settings, missing: list[Service], found: dict[str, Running]) -> None:
    """Starts services and notes each at once in `found` and on disk; Airflow's wait until its database is there."""
    airflow = [each for each in missing if each.name.startswith("airflow")]
    for each in (each for each in missing if each not in airflow):
        _spawn(each, found)
    if airflow:
        airflow_home.write(settings)
        migrate()
    for each in airflow:
        _spawn(each, found)


def _spawn(service: Service, found: dict[str, Running]) -> None:
    env = environment() | service.env
    found[service.name] = processes.spawn(service.name, service.command, env, service.port, service.url)
    processes.write(found)


def migrate() -> None:
    """Brings Airflow's database to the installed version, once per version."""
    from importlib.metadata import version

    done = airflow_home.folder() / "migrated"
    if done.exists() and done.read_text() == version("apache-airflow"):
        return
    log = home() / "logs" / "airflow-migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        ended = subprocess.run(
            [program("airflow"), "db", "migrate"],
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode != 0:
        raise ServiceFailed(f"Airflow's database could not be made: {tail(log)} (all of it in {log})")
    done.write_text(version("apache-airflow"))


def tail(log: Path | str) -> str:
    """The last line of a log that says anything."""
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file.readlines()[-50:] if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _wait(wanted: list[Service], found: dict[str, Running], started: float, fresh: set[str]) -> None:
    """Until every service is well; tells when a `fresh` one is. Raises ServiceFailed where one ended or took too long."""
    waiting = list(wanted)
    while waiting:
        for each in [each for each in waiting if each.healthy()]:
            waiting.remove(each)
            if each.name in fresh:
                say(f"{each.name:<22} {time.monotonic() - started:4.0f} s  {each.url}")
        for each in waiting:
            running = found[each.name]
            if processes.process_of(running) is None:
                raise ServiceFailed(f"{each.name} ended: {tail(running.log)} (all of it in {running.log})")
        if waiting and time.monotonic() - started > START_SECONDS:
            names = ", ".join(each.name for each in waiting)
            raise ServiceFailed(
                f"no answer after {START_SECONDS} s from {names}: see {home() / 'logs'}, then `aisle up` again"
            )
        if waiting:
            time.sleep(0.5)


def say(text: str) -> None:
    print(f"[up] {text}", file=sys.stderr, flush=True)


def _pool(settings: Settings) -> None:
    """The pool that keeps MERGEs apart; tasks that want it wait until it is there."""
    api = AirflowApi(settings)
    names = {pool["name"] for pool in api.get("/pools")["pools"]}
    if SILVER_POOL["name"] not in names:
        api.post("/pools", SILVER_POOL)


def summary(settings: Settings, found: dict[str, Running]) -> str:
    """Where everything answers, and Airflow's login."""
    lines = [f"{name:<22} {each.url}" for name, each in sorted(found.items()) if each.url]
    if api_keys.first().exists():
        lines.append(
            f"{'api keys':<22} {api_keys.first()}  (the API's first keys; `aisle keys` lists and makes them)"
        )
    if not airflow_home.passwords().exists():
        return "\n".join(lines)
    login = f"{'airflow login':<22} {airflow_home.USER} / {airflow_home.password()}  (in {airflow_home.passwords()})"
    return "\n".join([*lines, login, f"{'logs':<22} {home() / 'logs'}"])
