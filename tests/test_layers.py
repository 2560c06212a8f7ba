"""The rooms' right-hand column of the design: who may import whom, read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "aisle": set(),
    "engine": {"aisle"},
    "dags": {"aisle"},
    "jobs": {"aisle", "engine"},
    "feature_repo": {"aisle"},
    "training": {"aisle", "engine"},
    "monitoring": {"aisle", "engine"},
    "serving": {"aisle", "engine"},
}
HEAVY = {
    "tensorflow",
    "tensorflow_recommenders",
    "tf_keras",
    "pyspark",
    "airflow",
    "feast",
    "evidently",
    "great_expectations",
}
# The command is the one place of `aisle` that calls rooms, each inside the command that needs it.
DOORS = {"aisle/cli.py"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """First parts of the names that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    wrong = {
        str(path.relative_to(ROOT)): sorted(imports(path) & set(MAY_IMPORT) - allowed)
        for path in files(room)
        if str(path.relative_to(ROOT)) not in DOORS and imports(path) & set(MAY_IMPORT) - allowed
    }
    assert not wrong


def test_the_command_imports_rooms_only_inside_its_commands() -> None:
    for door in DOORS:
        assert not imports(ROOT / door, top_level_only=True) & (set(MAY_IMPORT) - {"aisle"})


def test_the_engine_is_free_of_frameworks() -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(imports(path) & HEAVY)
        for path in files("engine")
        if imports(path) & HEAVY
    }
    assert not wrong


def test_dags_import_nothing_beyond_airflow_and_aisle() -> None:
    import sys

    allowed = {"airflow", "aisle", *sys.stdlib_module_names}
    wrong = {path.name: sorted(imports(path) - allowed) for path in files("dags") if imports(path) - allowed}
    assert not wrong


def test_rooms_are_real_packages() -> None:
    assert all((ROOT / room / "__init__.py").exists() for room in MAY_IMPORT)
