"""The commands of docs/quickstart-api.md, run as they stand there, in one shell; and their answers have what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from aisle.lake import home, project_root

PAGE = project_root() / "docs" / "quickstart-api.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = "=== end of block {}"


def steps() -> list[tuple[str, dict | None]]:
    """Commands, each with the JSON that the page shows right after them."""
    blocks = BLOCK.findall(PAGE.read_text())
    found: list[tuple[str, dict | None]] = []
    for kind, text in blocks:
        if kind == "bash":
            found.append((text, None))
        elif kind == "json":
            found[-1] = (found[-1][0], json.loads(text))
    return found


def missing(shown: object, told: object, where: str = "") -> list[str]:
    """What the page shows and the answer does not have; values that are words of the page's own are not compared."""
    if isinstance(shown, dict):
        if not isinstance(told, dict):
            return [f"{where} is no object"]
        lacking = [f"{where}.{name}" for name in shown if name not in told]
        return lacking + [
            each
            for name in shown
            if name in told
            for each in missing(shown[name], told[name], f"{where}.{name}")
        ]
    if isinstance(shown, list) and shown:
        return (
            missing(shown[0], told[0], f"{where}[0]")
            if isinstance(told, list) and told
            else [f"{where} is empty"]
        )
    return []


@pytest.fixture
def outputs(api: httpx.Client, tmp_path: Path) -> list[str]:
    """What each block printed."""
    page = steps()
    script = ["set -euo pipefail", "set -a"]
    for number, (text, _) in enumerate(page):
        script += [
            text.replace("http://127.0.0.1:8000", str(api.base_url).rstrip("/")),
            f"echo; echo '{MARK.format(number)}'",
        ]
    env = {**os.environ, "AISLE_HOME": str(home())}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env=env,
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rest, found = done.stdout, []
    for number in range(len(page)):
        output, _, rest = rest.partition(MARK.format(number))
        found.append(output.strip())
    return found


def test_the_pages_commands_work_and_say_what_it_shows(outputs: list[str]) -> None:
    page = steps()
    assert len(page) >= 12
    for (text, shown), output in zip(page, outputs, strict=True):
        if shown is not None:
            told = json.loads(output.splitlines()[-1])
            assert not missing(shown, told), (text, output)
    everything = "\n".join(outputs)
    assert "401" in outputs[2]
    assert '"accepted":2' in outputs[6].replace(" ", "")
    session = json.loads(outputs[7])
    assert session["rung"] == "session", session
    assert "server" in outputs[1]
    assert "aisle_server_" not in everything
    assert len(outputs[-1].splitlines()) == 3
