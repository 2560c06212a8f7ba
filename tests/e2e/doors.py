"""The doors of the installation under test: its command and its API."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

AISLE = Path(sys.executable).parent / "aisle"


def home(env: dict[str, str]) -> Path:
    return Path(env["AISLE_HOME"])


def aisle(env: dict[str, str], *words: str, timeout: float = 300) -> str:
    done = subprocess.run(
        [AISLE, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def key(env: dict[str, str]) -> str:
    """The server key of the first start."""
    keys = (home(env) / "keys" / "first.env").read_text()
    return next(line.partition("=")[2] for line in keys.splitlines() if line.startswith("AISLE_SERVER_KEY="))


def get(env: dict[str, str], path: str) -> Any:
    url = f"http://127.0.0.1:{env['AISLE_PORTS__API']}{path}"
    asked = urllib.request.Request(url, headers={"X-API-Key": key(env)})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)
