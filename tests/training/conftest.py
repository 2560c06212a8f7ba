"""A lake of a few hundred real customers, and a dataset folder over it, written without Spark and Feast."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aisle import lake
from aisle import settings as settings_module
from aisle.stages import StepContext
from tests import shop
from tests.training import frames

USERS = 250
TINY = {"AISLE_TRAINING__EPOCHS": "2", "AISLE_TRAINING__DIMENSION": "16", "AISLE_TRAINING__BATCH_SIZE": "512"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory):
    """(settings, context) over an AISLE_HOME in which train.dataset has finished; a tiny tower. Shared by a module's tests."""
    home = tmp_path_factory.mktemp("training") / "aisle"
    before = dict(os.environ)
    os.environ.update(TINY, AISLE_HOME=str(home))
    settings_module.load.cache_clear()
    folder = lake.workdir("train", "manual")
    frames.write_dataset(folder, users=USERS)
    write_lake(folder / "dataset")
    yield settings_module.load(), StepContext(run_id="manual")
    os.environ.clear()
    os.environ.update(before)
    settings_module.load.cache_clear()


def write_lake(dataset: Path) -> None:
    """Silver, and gold at the dataset's end, as far as the drift reference reads them."""
    rows = shop.purchases(users=USERS)
    shop.write_silver(rows)
    frames.write_gold(dataset)
    note = dataset / "versions.json"
    tables = ("silver.interactions", "gold.user_stats", "gold.item_stats")
    said = {name: value for name, value in json.loads(note.read_text()).items() if "." not in name}
    note.write_text(json.dumps(said | {table: lake.version(table) for table in tables}))
