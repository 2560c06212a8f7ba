"""A shop of forty customers' real purchases whose features are published; shared by the room's tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from aisle import settings as settings_module
from aisle.settings import Settings
from aisle.stages import StepContext
from feature_repo import publish
from jobs import gold
from tests.shop import _write, purchases, write_silver

AS_OF_DAY = datetime(2011, 9, 1, tzinfo=UTC)
IDLE = {"user_id": "was imported and did nothing", "country": "Spain"}


@pytest.fixture(scope="package")
def events() -> pd.DataFrame:
    return purchases(users=40, since="2011-02-01", until="2011-10-01")


@pytest.fixture(scope="package")
def shop(spark, events: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a shop whose features are published up to AS_OF_DAY, though silver knows a month more."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("feast")))
        settings_module.load.cache_clear()
        settings = settings_module.load()
        write_silver(events)
        _write(
            "silver.user_updates",
            pd.DataFrame([{**IDLE, "updated_at": pd.Timestamp("2011-03-01", tz="UTC")}]),
        )
        told = gold.run(settings, StepContext(as_of=AS_OF_DAY, run_id="test", params={}))
        publish.run(settings, StepContext(run_id="test", params={"upstream": {"features.gold": told}}))
        yield settings
    settings_module.load.cache_clear()
