"""Background processes of an installation: started in groups of their own, noted on disk, known again, ended exactly.

A process id alone says nothing, because ids are used again. A process is ours when its id *and* its time of creation stand
in ``run/services.json``, or when its environment carries our mark (``AISLE_SERVICE=name@home``), which every
descendant inherits: so a process that was started just before a kill -9, and noted nowhere, is found again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from aisle.lake import home

MARK = "AISLE_SERVICE"
GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)
SAME_SECONDS = 1.0  # psutil derives a creation time from the boot time, which may be corrected by a little


@dataclass(frozen=True)
class Running:
    """A started service. started: the process's time of creation (epoch seconds); port: None where it has none."""

    name: str
    pid: int
    pgid: int
    started: float
    port: int | None
    url: str
    log: str


def note() -> Path:
    return home() / "run" / "services.json"


def read() -> dict[str, Running]:
    """What was started and not stopped since, by name; a torn or foreign file counts as nothing."""
    try:
        return {
            name: Running(**{"name": name, **told}) for name, told in json.loads(note().read_text()).items()
        }
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def write(found: dict[str, Running]) -> None:
    """One rename, so that a reader sees the file before or after, never half. Nothing is no file: that needs no room."""
    if not found:
        note().unlink(missing_ok=True)
        return
    note().parent.mkdir(parents=True, exist_ok=True)
    fresh = note().with_suffix(".fresh")
    fresh.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1))
    os.replace(fresh, note())


def mark(name: str) -> str:
    return f"{name}@{home()}"


def spawn(name: str, command: list[str], env: dict[str, str], port: int | None, url: str) -> Running:
    """Starts a command in its own session, its output appended to ``logs/<name>.log``."""
    log = home() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, MARK: mark(name)},
            cwd=home(),
            start_new_session=True,
        )
    started = psutil.Process(process.pid).create_time()
    return Running(name, process.pid, process.pid, started, port, url, str(log))


def process_of(running: Running) -> psutil.Process | None:
    """The very process that was started; None when it ended, even where its id belongs to another one now."""
    try:
        found = psutil.Process(running.pid)
        same = abs(found.create_time() - running.started) <= SAME_SECONDS
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except GONE:
        return None


def marked(name: str = "") -> list[psutil.Process]:
    """All processes with the mark of a service of this installation: the service and what it started, in any group.

    Without a name: of any service.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE, psutil.AccessDenied, FileNotFoundError):
            told = process.environ().get(MARK, "")
            if (
                told == mark(name) if name else told.endswith(mark(""))
            ) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def orphan(name: str, port: int | None = None, program: str = "") -> psutil.Process | None:
    """A running service of ours that is noted nowhere: it leads its group, and is no step of a task.

    Or it listens on the service's `port`, and lost its mark with its title (see `_renamed`).
    """
    leaders = []
    for process in marked(name):
        with contextlib.suppress(*GONE, psutil.AccessDenied, ProcessLookupError):
            if os.getpgid(process.pid) == process.pid and "AISLE_STEP" not in process.environ():
                leaders.append(process)
    listening = listener(port) if port and not leaders else None
    if listening and _renamed(listening, program):
        return listening
    return min(leaders, key=lambda process: process.create_time(), default=None)


def _renamed(process: psutil.Process, program: str) -> bool:
    """Whether a listener is ours though it shows no mark: setproctitle writes over the environment that others can see.

    Nobody else's server is all of this at once: without any mark, leader of a session, at work in our home, our user's,
    and called by the program's name.
    """
    with contextlib.suppress(*GONE, psutil.AccessDenied, ProcessLookupError, FileNotFoundError):
        return (
            MARK not in process.environ()
            and os.getsid(process.pid) == process.pid
            and _at_home(process)
            and process.uids().real == os.getuid()
            and Path(program).name in " ".join(process.cmdline())
        )
    return False


def members(running: Running) -> list[psutil.Process]:
    """A service's processes: everything that carries its mark, and its group.

    Airflow's workers write over their mark and outlive a scheduler that was killed: of a group without its leader those
    that work in our home are ours, because its id may be another group's by now.
    """
    found = {process.pid: process for process in marked(running.name)}
    leader = process_of(running)
    if leader:
        found[leader.pid] = leader
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE, psutil.AccessDenied, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == running.pgid and (leader or _at_home(process)):
                found[process.pid] = process
    return [process for process in found.values() if process.pid != os.getpid() and _alive(process)]


def _at_home(process: psutil.Process) -> bool:
    return process.cwd() == os.path.realpath(home())


def stop(found: Iterable[Running], grace: float) -> list[str]:
    """TERM to each service's processes, KILL to what is left after `grace` seconds. Returns the names that were running."""
    ours = {each.name: members(each) for each in found}
    everyone = [process for processes in ours.values() for process in processes]
    _signal(everyone, signal.SIGTERM)
    _, left = psutil.wait_procs(everyone, timeout=grace)
    left = [process for process in left if _alive(process)]
    if left:
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=5)
    return [name for name, processes in ours.items() if processes]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except GONE:
        return False


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(*GONE):
            process.send_signal(number)


def listener(port: int) -> psutil.Process | None:
    """Who listens on a port; None where nobody does or we may not know."""
    with contextlib.suppress(psutil.AccessDenied):
        for each in psutil.net_connections(kind="tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid:
                with contextlib.suppress(*GONE):
                    return psutil.Process(each.pid)
    return None


def memory(found: Iterable[psutil.Process]) -> int:
    """Bytes that processes hold together: pages that they share are counted once (PSS), where the system tells."""
    total = 0
    for process in found:
        with contextlib.suppress(*GONE, psutil.AccessDenied, FileNotFoundError):
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total
