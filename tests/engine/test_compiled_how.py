"""What a machine keeps of a loop is used only while all that is in it is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aisle.lake import project_root

LOOPS = """
from engine.compiled.how import compiled
from {folder}.other import NUMBER, callee


@compiled()
def loop(x):
    return callee(x) + NUMBER
"""
OTHER = """
from engine.compiled.how import compiled

NUMBER = {number}


@compiled()
def callee(x):
    return {of} * x
"""
ASK = "from {folder}.loops import loop; print(loop(1), sum(loop.stats.cache_hits.values()))"


@pytest.fixture
def ask(tmp_path: Path):
    folder = tmp_path / "loops_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "loops.py").write_text(LOOPS.format(folder=folder.name))

    def asked(number: int, of: int) -> tuple[int, int]:
        (folder / "other.py").write_text(OTHER.format(number=number, of=of))
        path = os.pathsep.join([str(tmp_path), str(project_root())])
        found = subprocess.run(
            [sys.executable, "-c", ASK.format(folder=folder.name)],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert found.returncode == 0, found.stderr
        result, hits = found.stdout.split()
        return int(result), int(hits)

    return asked


def test_a_loop_is_compiled_anew_when_what_it_calls_or_names_elsewhere_has_changed(ask) -> None:
    assert ask(number=1, of=2) == (3, 0)
    assert ask(number=1, of=2) == (3, 1), "kept"
    assert ask(number=5, of=2) == (7, 0)
    assert ask(number=5, of=3) == (8, 0)
    assert ask(number=5, of=3) == (8, 1)
