"""The `aisle` command: its help tells the truth, and a user's mistake is one line."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from aisle import lake
from aisle.cli import app

AISLE = Path(sys.executable).parent / "aisle"
ROOT = typer.main.get_command(app)


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """`aisle` itself, its commands, their commands: the words that call one, and the command."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, (*path, name))


COMMANDS = dict(all_commands(ROOT))


def typed(words: list[str]) -> None:
    """Parses the words after `aisle` as the command does. Raises what it says of a wrong one."""
    command, path = ROOT, words
    while hasattr(command, "commands"):
        name, *path = path
        command = command.commands[name]
    command.make_context(words[0], path, resilient_parsing=False)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_of_a_command_can_be_typed(path: tuple[str, ...]) -> None:
    """It calls this command with arguments and options that it has, and files that are there."""
    found = re.search(r"^\s*Example: aisle (.+)$", COMMANDS[path].help or "", re.M)
    assert found, f"aisle {' '.join(path)} --help has no example"
    words = shlex.split(found[1])
    assert tuple(words[: len(path)]) == path
    typed(words)
    files = [word for word in words if "/" in word and "://" not in word]
    assert all((lake.project_root() / file).exists() for file in files), files


def test_an_example_with_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        typed(["models", "--jsn"])


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
