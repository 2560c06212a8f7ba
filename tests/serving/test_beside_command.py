"""`aisle beside` against a real registry and a running API: what it lets through, what it refuses, and what is on record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from aisle import decisions
from aisle.errors import FeatureMismatch, GateBlocked, NotThere, ServiceFailed, SettingsError
from aisle.registry import Registry
from aisle.settings import Settings
from serving import beside, probe, promote, release
from tests.serving.conftest import Kept, Release, asking, running
from tests.serving.test_promote import empty_registry, register, registry  # noqa: F401
from tests.serving.test_swap import wait_for

AISLE = Path(sys.executable).parent / "aisle"


@pytest.fixture
def two(settings: Settings, registry: Registry, stage_release: Release) -> list[str]:  # noqa: F811
    """Version 1 is released, version 2 passed the gate."""
    versions = [register(registry, stage_release) for _ in range(2)]
    promote.promote(settings, versions[0])
    return versions


def records() -> list[tuple[str, str, float]]:
    """(verdict, version, share) of the records of kind beside, oldest first."""
    found = [each for each in reversed(decisions.everything()) if each["kind"] == "beside"]
    return [(each["verdict"], each["challenger"], each["body"]["share"]) for each in found]


def test_a_share_and_back_is_served_and_on_record(
    settings: Settings, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no second release" in beside.show()
    with running(settings, Kept()) as url:
        monkeypatch.setattr(probe, "api_url", lambda: url)
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        said = beside.put(settings, "2", 0.5)
        assert "version 2 answers 50.0% of the shoppers, 1 the others; API: serving" in said
        ready = httpx.get(f"{url}/readyz").json()
        assert (ready["version"], ready["beside"]["version"], ready["beside"]["share"]) == ("1", "2", 0.5)
        with asking(url) as client:
            asked = [{"user_id": f"u{row:03d}"} for row in range(20)]
            answers = [client.get("/v1/recommendations", params=each).json() for each in asked]
        assert {each["model_version"] for each in answers} == {"1", "2"}
        at = ready["beside"]["at"]
        beside.put(settings, "2", 0.1)
        assert httpx.get(f"{url}/readyz").json()["beside"] == {
            "version": "2",
            "share": 0.1,
            "at": at,
            "fault": None,
        }, "another share loads nothing again"
        assert "version 2 answers 10.0%" in beside.show()
        assert "version 1 answers all" in beside.off(settings)
        wait_for(lambda: not httpx.get(f"{url}/readyz").json()["beside"])
    assert records() == [("beside", "2", 0.5), ("beside", "2", 0.1), ("taken_away", "2", 0.0)]
    decisions.verify()
    with pytest.raises(NotThere, match="no second release"):
        beside.off(settings)


def test_what_the_api_refuses_is_taken_away_again(
    settings: Settings, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings, Kept()) as url:
        monkeypatch.setattr(probe, "api_url", lambda: url)
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)

        def spoilt(to: release.Beside | None, put=release.put_beside) -> None:
            if to:
                file = Path(to.pointer.path) / "content.npz"
                file.write_bytes(file.read_bytes()[:-7])
            put(to)

        monkeypatch.setattr(release, "put_beside", spoilt)
        with pytest.raises(ServiceFailed, match=r"content\.npz.*taken away again"):
            beside.put(settings, "2", 0.5)
        assert release.beside() is None
        assert httpx.get(f"{url}/readyz").json()["status"] == "ready"
    assert records() == []


def test_nothing_stands_beside_that_may_not(
    settings: Settings,
    two: list[str],
    registry: Registry,  # noqa: F811
    stage_release: Release,
) -> None:
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="above 0 and below 1"):
            beside.put(settings, "2", share)
    with pytest.raises(NotThere, match="is the one that is served"):
        beside.put(settings, "1", 0.1)
    with pytest.raises(NotThere, match="9"):
        beside.put(settings, "9", 0.1)
    refused = register(registry, stage_release, decision="refused")
    with pytest.raises(GateBlocked, match="has not passed"):
        beside.put(settings, refused, 0.1)
    with pytest.raises(GateBlocked, match="needs a reason"):
        beside.put(settings, refused, 0.1, override=" ")
    assert release.beside() is None
    assert "API: not running" in beside.put(settings, refused, 0.1, override="to see it fail")
    other = register(registry, stage_release)
    recipe = Path(release.staged(other).path) / "recipe.json"
    recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "feature_service": "retrieval_v9"}))
    with pytest.raises(FeatureMismatch, match="retrieval_v9"):
        beside._require_same_features(release.current(), release.staged(other))


def test_what_is_released_or_barred_stands_beside_nothing(settings: Settings, two: list[str]) -> None:
    beside.put(settings, "2", 0.5)
    promote.promote(settings, "2")
    assert release.beside() is None
    with pytest.raises(NotThere):
        beside.put(settings, "2", 0.5)


def aisle(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AISLE, *arguments], capture_output=True, text=True, check=False)


def test_the_command_says_what_is_wrong(aisle_home: Path) -> None:
    for arguments, told in (
        (["beside", "2"], "which share"),
        (["beside", "--share", "0.1"], "none is named"),
        (["beside", "2", "--off"], "goes with nothing else"),
        (["beside", "--off"], "no second release"),
        (["beside", "2", "--share", "1.5"], "above 0 and below 1"),
    ):
        done = aisle(*arguments)
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert "aisle beside 4 --share 0.1" in aisle("beside", "--help").stdout
    assert "no second release" in aisle("beside").stdout
