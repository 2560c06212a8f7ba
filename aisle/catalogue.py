"""Which services there are: their commands, their ports and how each says that it is well."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aisle import airflow_home
from aisle.airflow_api import AirflowApi
from aisle.errors import MissingPrerequisite, ServiceFailed
from aisle.lake import home
from aisle.settings import Settings

QUIET = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GX_ANALYTICS_ENABLED": "false",
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for jobs that nobody here starts
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Service:
    """healthy: True when it answers as it should. setting: the name of its port in the settings, where it has one."""

    name: str
    command: list[str]
    healthy: Callable[[], bool]
    port: int | None = None
    setting: str = ""
    url: str = ""
    env: dict[str, str] = field(default_factory=dict)


def environment() -> dict[str, str]:
    """What services and their tasks see: this interpreter's programs first, bytecode on, nothing that phones home."""
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONDONTWRITEBYTECODE", "AISLE_STEP")
    }
    programs = str(Path(sys.executable).parent)
    return {
        **env,
        **QUIET,
        "PATH": f"{programs}:{env.get('PATH', '')}",
        "AISLE_HOME": str(home()),
        "AIRFLOW_HOME": str(airflow_home.folder()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def program(name: str) -> str:
    """A program of the environment that runs us, not one that PATH happens to name."""
    return str(Path(sys.executable).parent / name)


def services(settings: Settings) -> list[Service]:
    """What `aisle up` starts. A Spark or MLflow server of the user's own (a setting) is left to the user."""
    found = [_api(settings), *_airflow(settings)]
    if not settings.spark.remote:
        found.insert(0, _spark(settings))
    if not settings.registry.tracking_uri.startswith("http"):
        found.append(_mlflow(settings))
    if (home() / "feast" / "feature_store.yaml").exists():
        found.append(_feast(settings))
    return found


def _answers(url: str, seconds: float = 5) -> Callable[[], bool]:
    def healthy() -> bool:
        import httpx

        try:
            return httpx.get(url, timeout=seconds).is_success
        except httpx.HTTPError:
            return False

    return healthy


def _spark(settings: Settings) -> Service:
    import importlib.util

    from aisle.spark import spark_conf

    where = importlib.util.find_spec("pyspark")
    if where is None or where.origin is None:
        raise MissingPrerequisite("pyspark is not in this environment: run `make setup`")
    spark_home = Path(where.origin).parent
    port = settings.ports.spark
    conf = spark_conf(settings) | {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.log.level": "WARN",
    }
    command = [str(spark_home / "bin" / "spark-submit"), "--master", settings.spark.master, "--name", "aisle"]
    for key, value in conf.items():
        command += ["--conf", f"{key}={value}"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    return Service(
        "spark",
        command,
        lambda: _listens(port),
        port,
        "spark",
        f"sc://127.0.0.1:{port}",
        {"SPARK_HOME": str(spark_home)},
    )


def _listens(port: int) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _airflow(settings: Settings) -> list[Service]:
    api = AirflowApi(settings)
    port, url = settings.ports.airflow, airflow_home.url(settings)

    def part(name: str) -> Callable[[], bool]:
        def healthy() -> bool:
            try:
                return (api.health().get(name) or {}).get("status") == "healthy"
            except (ServiceFailed, ValueError):
                return False

        return healthy

    def serves() -> bool:
        # Tasks talk to /execution, which is built at its first request and takes seconds: asked here, no task waits for it.
        return part("metadatabase")() and _answers(f"{url}/execution/health", 60)()

    run = program("airflow")
    return [
        Service("airflow-api", [run, "api-server", "--workers", "1"], serves, port, "airflow", url),
        Service("airflow-scheduler", [run, "scheduler", "--skip-serve-logs"], part("scheduler")),
        Service("airflow-dag-processor", [run, "dag-processor"], part("dag_processor")),
        Service("airflow-triggerer", [run, "triggerer", "--skip-serve-logs"], part("triggerer")),
    ]


def _mlflow(settings: Settings) -> Service:
    port = settings.ports.mlflow
    url = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", settings.tracking_uri]
    artifacts = ["--default-artifact-root", str(home() / "mlflow" / "artifacts")]
    command = [
        program("mlflow"),
        "server",
        *store,
        *artifacts,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    return Service("mlflow", command, _answers(f"{url}/health"), port, "mlflow", url)


def _feast(settings: Settings) -> Service:
    port = settings.ports.feast
    url = f"http://127.0.0.1:{port}"
    command = [
        program("feast"),
        "-c",
        str(home() / "feast"),
        "ui",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return Service("feast", command, _answers(url), port, "feast", url)


def _api(settings: Settings) -> Service:
    port = settings.ports.api
    url = f"http://{settings.serving.host}:{port}"
    return Service("api", [program("aisle"), "serve"], _answers(f"{url}/healthz"), port, "api", url)
