"""Airflow's logging with one difference: the log of a task that runs on this machine is read from its disk alone.

Airflow asks besides the log server of the task's machine while a task runs. Here all of it is one machine: such a server would
be a process and a port more, open to other machines (Airflow binds it to every address), for the very file that was just
read; and without one each look at a running task shows an error. A task of another machine is still asked for there.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
from airflow.config_templates.airflow_local_settings import REMOTE_TASK_LOG as REMOTE_TASK_LOG
from airflow.utils.log.file_task_handler import FileTaskHandler
from airflow.utils.net import get_hostname


class TaskLogs(FileTaskHandler):
    """Reads the logs of tasks for Airflow's pages."""

    def _read_from_logs_server(self, ti: Any, worker_log_rel_path: str) -> tuple[list[str], list[Any]]:
        waiting = getattr(ti, "triggerer_job", None)
        if (waiting.hostname if waiting else ti.hostname) == get_hostname():
            return [], []
        return super()._read_from_logs_server(ti, worker_log_rel_path)


LOGGING: Final[dict[str, Any]] = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
if LOGGING["handlers"]["task"]["class"] == f"{FileTaskHandler.__module__}.{FileTaskHandler.__name__}":
    LOGGING["handlers"]["task"]["class"] = f"{__name__}.TaskLogs"
