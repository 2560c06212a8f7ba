"""Java that is missing, old or no Java: said in one line before Spark is tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from aisle import prerequisites, spark
from aisle.errors import MissingPrerequisite
from aisle.settings import Settings


def fake_java(home: Path, script: str) -> None:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)


def test_what_is_no_java_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/etc/passwd")
    assert prerequisites.java_version() is None
    fake_java(tmp_path, "exec sleep 60")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(prerequisites, "JAVA_SECONDS", 0.2)
    assert prerequisites.java_version() is None


def test_a_session_of_our_own_is_not_tried_on_a_wrong_java(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(MissingPrerequisite, match="Java is missing"):
        spark.session(settings)
    fake_java(tmp_path, """echo 'openjdk version "11.0.2"' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match="Java 11 was found"):
        spark.session(settings)
