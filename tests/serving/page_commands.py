"""The commands of a page of docs/, as they stand there: its ```bash blocks, and the ```json that is shown right after one."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aisle.lake import home, project_root

BLOCK = re.compile(
    r"^```bash\n(?P<text>.*?)^```$(?:\n\s*^```json\n(?P<shown>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
MARK = "=== end of block {}"
ADDRESS = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Step:
    """A block of commands. shown: the JSON that the page shows as its last line of output; printed: what it printed."""

    text: str
    shown: Any = None
    printed: str = ""

    @property
    def told(self) -> Any:
        """The last line of output, which is an answer in JSON."""
        return json.loads(self.printed.splitlines()[-1])


def steps(page: Path) -> list[Step]:
    found = BLOCK.finditer(page.read_text())
    return [Step(each["text"], json.loads(each["shown"]) if each["shown"] else None) for each in found]


def run(page: Path, url: str) -> list[Step]:
    """All blocks in one shell, as a reader types them, against the API at `url` instead of the page's address.

    Raises AssertionError with the end of the output where a command fails.
    """
    blocks = steps(page)
    script = ["set -euo pipefail"]
    for number, block in enumerate(blocks):
        script += [block.text.replace(ADDRESS, url.rstrip("/")), f"echo; echo '{MARK.format(number)}'"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env={**os.environ, "AISLE_HOME": str(home())},
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rest, ran = done.stdout, []
    for number, block in enumerate(blocks):
        output, _, rest = rest.partition(MARK.format(number))
        ran.append(Step(block.text, block.shown, output.strip()))
    return ran


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
