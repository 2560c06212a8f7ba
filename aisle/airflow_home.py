"""Airflow's folder under AISLE_HOME: its configuration, made from ours, and secrets that were made here and never shipped."""

from __future__ import annotations

import base64
import configparser
import io
import json
import os
import secrets
from pathlib import Path
from typing import Any

from aisle.lake import home, project_root
from aisle.settings import Settings

USER = "admin"


def folder() -> Path:
    return home() / "airflow"


def url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.ports.airflow}"


def _private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, by one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".fresh")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(fresh, path)


def passwords() -> Path:
    return folder() / "passwords.json"


def password() -> str:
    """The generated password of the user ``admin``."""
    return json.loads(passwords().read_text())[USER]


def _secrets() -> dict[str, str]:
    """Keys of this installation: made once, kept in ``airflow/secrets.json``."""
    path = folder() / "secrets.json"
    if not path.exists():
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        _private(
            path,
            json.dumps({"fernet": fernet, "session": secrets.token_hex(32), "jwt": secrets.token_hex(32)}),
        )
    return json.loads(path.read_text())


def _sections(settings: Settings) -> dict[str, dict[str, Any]]:
    keys, here = _secrets(), folder()
    tasks = settings.airflow.parallelism
    return {
        "core": {
            "dags_folder": project_root() / "dags",
            "plugins_folder": here / "plugins",
            "executor": "LocalExecutor",
            "parallelism": tasks,
            "max_active_tasks_per_dag": tasks,
            "load_examples": False,
            "default_timezone": "utc",
            "fernet_key": keys["fernet"],
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": passwords(),
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{here / 'airflow.db'}"},
        "logging": {
            "base_log_folder": here / "logs",
            "logging_level": "INFO",
            "logging_config_class": "aisle.task_logs.LOGGING",
        },
        "api": {
            "host": "127.0.0.1",
            "port": settings.ports.airflow,
            "base_url": url(settings),
            "workers": 1,
            "secret_key": keys["session"],
            "instance_name": "Aisle",
        },
        "api_auth": {"jwt_secret": keys["jwt"]},
        # Short sleeps: an asset's hop to the next DAG waits for two looks of the scheduler.
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            "job_heartbeat_sec": 2,
            "task_instance_heartbeat_timeout": 120,
        },
        # The files change when somebody edits them, not every half minute; parsing takes a core from the tasks.
        "dag_processor": {
            "min_file_process_interval": 120,
            "parsing_processes": 1,
            "print_stats_interval": 300,
        },
        "triggerer": {"capacity": 20},
    }


def write(settings: Settings) -> None:
    """Puts airflow.cfg, the password file and the plugin in place. What AIRFLOW__ variables say comes before the file."""
    config = configparser.ConfigParser(interpolation=None)
    for section, values in _sections(settings).items():
        config[section] = {key: str(value).replace("%", "%%") for key, value in values.items()}
    text = io.StringIO()
    config.write(text)
    _private(folder() / "airflow.cfg", text.getvalue())
    if not passwords().exists():
        _private(passwords(), json.dumps({USER: secrets.token_urlsafe(12)}))
    plugin = folder() / "plugins" / "aisle_plugin.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text("from aisle.plugin import AislePlugin  # noqa: F401 - Airflow finds it here\n")
