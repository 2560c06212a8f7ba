"""What must be there before anything starts, and how to get it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

GET_JAVA = "Debian/Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17"
JAVAS = (17, 21)
JAVA_SECONDS = 30.0


def java_version() -> int | None:
    """The major version of the Java that Spark would use; None where there is none."""
    java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if os.environ.get("JAVA_HOME") else Path("java")
    try:
        told = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=JAVA_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', told.stderr + told.stdout)
    return int(found[1]) if found else None


def java_fault() -> str:
    """What is wrong with Java and how to mend it, in one line; empty when all is well."""
    version = java_version()
    if version is None:
        return f"Java is missing: install 17 or 21 ({GET_JAVA})"
    if version not in JAVAS:
        return f"Java {version} was found, but Spark needs 17 or 21: install one ({GET_JAVA}) and point JAVA_HOME at it"
    return ""
