"""The `aisle` command: its help tells the truth, and a user's mistake is one line."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from aisle import lake
from aisle.cli import app

AISLE = Path(sys.executable).parent / "aisle"
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_can_be_typed(name: str) -> None:
    """It names this command with arguments and options that it has, and files that are there."""
    found = re.search(r"^\s*Example: aisle (.+)$", COMMANDS[name].help or "", re.M)
    assert found, f"aisle {name} --help has no example"
    named, *words = shlex.split(found[1])
    assert named == name
    COMMANDS[name].make_context(name, words, resilient_parsing=False)
    files = [word for word in words if "/" in word]
    assert all((lake.project_root() / file).exists() for file in files), files


def test_an_example_with_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["models"].make_context("models", ["--jsn"])


@pytest.mark.parametrize(
    ("params", "said"), [("{bad", "is no JSON"), ("[1]", "but no object"), ("1", "but no object")]
)
def test_params_that_are_no_object_are_told_in_one_line(params: str, said: str) -> None:
    done = subprocess.run(
        [AISLE, "run", "features.gold", "--params", params], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
