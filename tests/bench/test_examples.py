"""Each bench's --help ends with a call that can be typed: its own module, with flags that it has."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from aisle.lake import project_root

BENCH = project_root() / "bench"
ARGUMENTS = "argparse.ArgumentParser"


def with_arguments() -> list[Path]:
    """Benches that are called by name; what only other benches call is in a folder of its own, or says so."""
    return [file for file in sorted(BENCH.glob("*.py")) if ARGUMENTS in file.read_text()]


def calls(file: Path, name: str) -> list[ast.Call]:
    found = ast.walk(ast.parse(file.read_text()))
    return [each for each in found if isinstance(each, ast.Call) and ast.unparse(each.func).endswith(name)]


@pytest.mark.parametrize("file", with_arguments(), ids=lambda file: file.stem)
def test_the_help_of_a_bench_ends_with_an_example(file: Path) -> None:
    (parser,) = calls(file, "ArgumentParser")
    epilog = next((each.value for each in parser.keywords if each.arg == "epilog"), None)
    assert epilog is not None, f"python -m bench.{file.stem} --help has no example"
    found = re.fullmatch(r"example: python -m bench\.(\w+) ?(.*)", ast.literal_eval(epilog))
    assert found, ast.literal_eval(epilog)
    assert found[1] == file.stem
    known = {ast.literal_eval(each) for call in calls(file, "add_argument") for each in call.args}
    flags = {word for word in shlex.split(found[2]) if word.startswith("-")}
    assert flags <= known, flags - known


def test_there_are_benches() -> None:
    assert {"quality", "cold_start", "two_tower", "batch_scoring", "training", "serving"} <= {
        file.stem for file in with_arguments()
    }
