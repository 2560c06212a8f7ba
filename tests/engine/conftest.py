"""What tests of the engine share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aisle.lake import project_root

ALONE = "AISLE_TEST_ALONE"


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> None:
    """The test passes in a process of its own first, which has compiled nothing: what earlier tests asked for does not help it."""
    if ALONE in os.environ:
        return
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid],
        env={**os.environ, ALONE: "yes"},
        cwd=project_root(),
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
