"""Releases on disk: what is refused, and that a reader never sees a half."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from aisle.errors import BundleRejected, NotThere
from serving import live, release
from tests.serving.conftest import Release


def test_nothing_is_released_at_first(aisle_home: Path) -> None:
    assert release.current() is None
    assert release.staged("1") is None


@pytest.mark.parametrize("name", ["../1", "", "1/2", "a" * 65, "1\0"])
def test_a_version_never_leaves_its_folder(aisle_home: Path, name: str) -> None:
    with pytest.raises(NotThere):
        release.folder(name)


def test_a_staged_release_loads(stage_release: Release) -> None:
    pointer = stage_release("1")
    assert release.current() == pointer
    assert live.load(pointer).popular(None, 3)


@pytest.mark.parametrize("how", ["cut", "flip", "manifest", "missing"])
def test_a_changed_bundle_is_refused(stage_release: Release, how: str) -> None:
    pointer = stage_release("1")
    bundle = Path(pointer.path)
    largest = max(
        (path for path in bundle.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    content = largest.read_bytes()
    if how == "cut":
        largest.write_bytes(content[:-1])
    elif how == "flip":
        largest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "missing":
        largest.unlink()
    else:
        manifest = bundle / release.MANIFEST
        manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(BundleRejected):
        live.load(pointer)


def test_half_a_pointer_is_named(stage_release: Release) -> None:
    stage_release("1")
    (release.releases() / "current.json").write_text('{"version": "1"')
    with pytest.raises(BundleRejected, match=r"current\.json"):
        release.current()


def test_a_pointer_with_a_foreign_key_is_named(stage_release: Release) -> None:
    stage_release("1")
    (release.releases() / "current.json").write_text(json.dumps({"version": "1", "colour": "red"}))
    with pytest.raises(BundleRejected, match="colour"):
        release.current()


def test_a_reader_sees_the_old_or_the_new_pointer(stage_release: Release) -> None:
    pointers = [stage_release("1"), stage_release("2", seed=8)]
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(release.current().version)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        release.point(replace(pointers[turn % 2], at=str(turn)))
    stop.set()
    reader.join()
    assert seen <= {"1", "2"}
