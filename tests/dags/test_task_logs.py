"""The log of a running task is read from disk: no log server is asked, and none is missed."""

from __future__ import annotations

from types import SimpleNamespace

from airflow.utils.net import get_hostname

from aisle.task_logs import LOGGING, TaskLogs


def asked(hostname: str) -> list[str]:
    """What reading a running task's log says of the log server of its machine."""
    handler = TaskLogs("/nowhere")
    sources, logs = handler._read_from_logs_server(SimpleNamespace(hostname=hostname), "a.log")
    assert logs == []
    return sources


def test_a_task_of_this_machine_needs_no_log_server() -> None:
    assert asked(get_hostname()) == []
    assert "Could not read served logs" in asked("127.0.0.2")[0], "that of another machine is asked"


def test_airflow_reads_with_it() -> None:
    assert LOGGING["handlers"]["task"]["class"] == "aisle.task_logs.TaskLogs"
