"""Fixtures that every room shares: settings, a state folder of the test's own, one Spark session."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ["AISLE_SPARK__MASTER"] = "local[2]"

from aisle import settings as settings_module

STATUS = pytest.StashKey[int]()


@pytest.fixture
def aisle_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AISLE_HOME that only this test sees."""
    home = tmp_path / "aisle"
    home.mkdir()
    monkeypatch.setenv("AISLE_HOME", str(home))
    settings_module.load.cache_clear()
    return home


@pytest.fixture
def settings(aisle_home: Path) -> settings_module.Settings:
    """The shipped settings, over the test's own AISLE_HOME."""
    return settings_module.load()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory):
    """One local Delta session for the whole test run; `aisle.spark.session` finds the same one."""
    previous = os.environ.get("AISLE_HOME")
    os.environ["AISLE_HOME"] = str(tmp_path_factory.mktemp("spark-home"))
    settings_module.load.cache_clear()
    try:
        from aisle.spark import session

        found = session(settings_module.load())
    finally:
        if previous is None:
            os.environ.pop("AISLE_HOME")
        else:
            os.environ["AISLE_HOME"] = previous
    yield found
    found.stop()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves as the command does (`aisle.cli.leave`): a native abort after the last test would hide its verdict."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash.get(STATUS, 1))
