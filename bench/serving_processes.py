"""The processes that the serving bench measures: the API, the floor and the peer, each over one run's own AISLE_HOME."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from aisle.lake import project_root
from bench import online_retail
from bench.pipeline import free_port

READY_SECONDS = 120.0
VERSIONS = ("1", "2")  # the same files twice: loading costs what it costs


def run_home(prepared: Path, into: Path) -> Path:
    """An AISLE_HOME over the prepared shop: its bundle staged as both versions, the first released, its features online.

    Files are linked where the disk can, since nothing writes to them.
    """
    for version in VERSIONS:
        _linked(prepared / "bundle", into / "releases" / version / "bundle")
    (into / "feast").mkdir(parents=True)
    for name in ("online.db", "registry.db", "published.json"):
        link = os.link if name == "online.db" else shutil.copy
        link(prepared / "feast" / name, into / "feast" / name)
    with at_home(into):
        from serving import release

        for version in VERSIONS:
            found = release.digest(release.folder(version) / "bundle")
            told = {"verdict": "passed", "digest": found, "as_of": online_retail.END.isoformat()}
            release.write_json(release.folder(version) / "smoke.json", told)
        point("1")
    return into


def point(version: str) -> None:
    """Moves the release pointer of the AISLE_HOME in force, as `aisle promote` and `aisle rollback` do last."""
    from dataclasses import replace

    from serving import release

    staged, held = release.staged(version), release.current()
    assert staged is not None
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with release.lock():
        release.point(replace(staged, previous=held.version if held else None, at=now))


@contextmanager
def at_home(home: Path) -> Iterator[None]:
    """AISLE_HOME of this process, for a while."""
    before = os.environ.get("AISLE_HOME")
    os.environ["AISLE_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["AISLE_HOME"]
        else:
            os.environ["AISLE_HOME"] = before


@dataclass
class Process:
    """A server that is up. seconds: from its start until it was ready."""

    port: int
    popen: subprocess.Popen[bytes]
    seconds: float
    log: Path

    def rss_bytes(self) -> int:
        """Of it and its children, pages that it shares with others counted whole."""
        own = psutil.Process(self.popen.pid)
        return sum(each.memory_info().rss for each in (own, *own.children(recursive=True)))

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(30)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)


def start_api(home: Path, **more: str) -> Process:
    """`aisle serve`, with the defaults of conf/aisle.toml but for the key's rate: the load is one key's."""
    port = free_port()
    env = {"AISLE_PORTS__API": str(port), "AISLE_SERVING__LIMITS__KEY_RATE": "100000", **more}
    command = [sys.executable, "-c", "from aisle.cli import main; main()", "serve"]
    return _start(command, home, port, "/readyz", "api", env)


def start_floor(home: Path) -> Process:
    port = free_port()
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # as the API has it
    return _start(
        [sys.executable, "-m", "bench.serving_floor", str(port)], home, port, "/", "floor", one_thread
    )


def start_peer(home: Path) -> Process:
    port = free_port()
    command = [sys.executable, "-m", "bench.serving_peer", str(port)]
    return _start(command, home, port, "/recommendations?user_id=nobody", "peer")


def server_key(home: Path) -> str:
    lines = (home / "keys" / "first.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["AISLE_SERVER_KEY"]


def _start(
    command: list[str], home: Path, port: int, path: str, name: str, env: dict[str, str] | None = None
) -> Process:
    """Raises SystemExit with the end of its log where it does not come up."""
    log = home / f"{name}.log"
    started = time.perf_counter()
    with log.open("ab") as out:
        popen = subprocess.Popen(
            command,
            env={**os.environ, "AISLE_HOME": str(home), **(env or {})},
            cwd=project_root(),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    while time.perf_counter() - started < READY_SECONDS and popen.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return Process(port, popen, time.perf_counter() - started, log)
        except OSError:
            time.sleep(0.02)
    popen.kill()
    sys.exit(f"bench: the {name} did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _linked(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy(file, target / file.name)
