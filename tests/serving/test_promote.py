"""Promotion and rollback against a real registry: always consistent, completed after a kill at any point."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from aisle import decisions
from aisle import settings as settings_module
from aisle.errors import BundleRejected, GateBlocked, NotThere, RaceLost, ServiceFailed
from aisle.registry import Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from serving import change, probe, promote, release, stage
from tests.links import unfilled
from tests.serving.conftest import CUT, Kept, Release, running
from tests.serving.test_swap import wait_for


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, which takes seconds once."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def registry(settings: Settings, aisle_home: Path, empty_registry: Path) -> Registry:
    (aisle_home / "mlflow").mkdir()
    shutil.copy(empty_registry, aisle_home / "mlflow" / "mlflow.db")
    found = Registry(settings)
    found.client.create_registered_model(found.name)
    return found


def register(registry: Registry, staged: Release, decision: str | None = "passed", **tags: str) -> str:
    """A registered version, staged on disk but not released."""
    version = registry.client.create_model_version(registry.name, "file:///nowhere").version
    if decision:
        registry.tag(version, decision=decision, decision_id=judged(version, decision), **tags)
    staged(str(version), seed=int(version), point=False)
    return str(version)


def judged(version: str, verdict: str) -> str:
    """A gate's record."""
    loaded = settings_module.load()
    return decisions.record(
        loaded, "gate", verdict, str(version), "", CUT, "gate", {"rules": [], "metrics": []}
    )


def acts() -> list[str]:
    """Kinds of the records of releases, oldest first."""
    return [each["kind"] for each in reversed(decisions.everything()) if each["kind"] != "gate"]


def aliases(registry: Registry) -> tuple[str | None, str | None]:
    """(champion, previous)"""
    found = [registry.by_alias(alias) for alias in ("champion", "previous")]
    return tuple(str(each.version) if each else None for each in found)


def consistent(registry: Registry) -> bool:
    """The aliases say what the pointer says, and nothing is left half done."""
    held = release.current()
    return change.journal() is None and aliases(registry) == (held.version, held.previous)


def test_promote_and_roll_back(settings: Settings, registry: Registry, stage_release: Release) -> None:
    versions = [register(registry, stage_release) for _ in range(3)]
    for version in versions:
        promote.promote(settings, version)
        assert consistent(registry)
    assert release.current().version == "3"
    assert "2 is served again" in promote.rollback(settings)
    assert (release.current().version, release.current().previous) == ("2", "1")
    assert consistent(registry)
    assert registry.version("3").tags["barred"]
    promote.rollback(settings)
    assert aliases(registry) == ("1", None)
    with pytest.raises(NotThere, match="no release before"):
        promote.rollback(settings)
    assert acts() == ["promote"] * 3 + ["rollback"] * 2
    decisions.verify()


def test_promoting_what_is_served_changes_nothing(
    settings: Settings, registry: Registry, stage_release: Release
) -> None:
    version = register(registry, stage_release)
    promote.promote(settings, version)
    before = release.current()
    assert "already" in promote.promote(settings, version)
    assert release.current() == before
    assert acts() == ["promote"]


@pytest.mark.parametrize("decision", ["refused", "pending", None])
def test_no_pass_no_promotion(
    settings: Settings, registry: Registry, stage_release: Release, decision: str | None
) -> None:
    version = register(registry, stage_release, decision)
    with pytest.raises(GateBlocked, match="has not passed"):
        promote.promote(settings, version)
    with pytest.raises(GateBlocked):
        stage.run(settings, StepContext(params={"version": version}))
    with pytest.raises(GateBlocked):
        promote.run(settings, StepContext(params={"version": version}))
    assert release.current() is None
    with pytest.raises(GateBlocked, match="reason"):
        promote.promote(settings, version, override="  ")
    promote.promote(settings, version, override="the shop opens today")
    assert decisions.everything()[0]["kind"] == "override"
    assert decisions.everything()[0]["body"]["reason"] == "the shop opens today"


@pytest.mark.parametrize(
    ("gated", "own", "passes"),
    [
        ("passed", None, True),
        ("passed", "passed", True),
        ("passed", "refused", False),
        ("refused", None, False),
    ],
)
def test_a_refit_stands_on_the_version_that_was_gated(
    settings: Settings, registry: Registry, stage_release: Release, gated: str, own: str | None, passes: bool
) -> None:
    first = register(registry, stage_release, gated, role="gated")
    refit = register(registry, stage_release, own)
    registry.tag(refit, role="refit", refit_of=first)
    registry.move_alias("challenger", first, None)
    assert stage.choose(registry, StepContext()) == refit
    if passes:
        promote.promote(settings, refit)
        assert consistent(registry)
    else:
        with pytest.raises(GateBlocked):
            promote.promote(settings, refit)


def test_a_tag_without_its_record_is_no_pass(
    settings: Settings, registry: Registry, stage_release: Release
) -> None:
    version = register(registry, stage_release, "refused")
    registry.tag(version, decision="passed")
    with pytest.raises(GateBlocked, match="does not say"):
        promote.promote(settings, version)


def test_what_was_rolled_back_is_barred(
    settings: Settings, registry: Registry, stage_release: Release
) -> None:
    for _ in range(2):
        promote.promote(settings, register(registry, stage_release))
    promote.rollback(settings)
    with pytest.raises(GateBlocked, match="barred"):
        promote.promote(settings, "2")
    promote.promote(settings, "2", override="it was the network")
    assert consistent(registry)
    assert "barred" not in registry.version("2").tags


class Killed(BaseException):
    """As a kill: nothing that handles errors sees it."""


STEPS = [
    (change, "begin"),
    (release, "point"),
    (probe, "wait_until_served"),
    (change, "_record"),
    (change, "_registry"),
    (change, "_done"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_killed_between_pointer_and_alias(
    settings: Settings,
    registry: Registry,
    stage_release: Release,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple,
    act: str,
) -> None:
    """Cut off before each part of a change: the same command again completes it, once."""
    versions = [register(registry, stage_release) for _ in range(2 if act == "promote" else 3)]
    for version in versions[:-1] if act == "promote" else versions:
        promote.promote(settings, version)

    def again() -> None:
        promote.promote(settings, versions[-1]) if act == "promote" else promote.rollback(settings)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*step, killed)
        with pytest.raises(Killed):
            again()
    again()
    assert consistent(registry)
    assert release.current().version == "2"
    assert acts() == ["promote"] * len(versions) + ["rollback"] * (act == "rollback")
    decisions.verify()


def test_another_release_meanwhile_is_a_race_lost(
    settings: Settings, registry: Registry, stage_release: Release
) -> None:
    first, second = (register(registry, stage_release) for _ in range(2))
    upstream = {"publish.stage": {"version": second, "seen": None}}
    promote.promote(settings, first)
    with pytest.raises(RaceLost):
        promote.run(settings, StepContext(params={"upstream": upstream}))
    assert consistent(registry)
    assert release.current().version == first


def test_the_api_is_told_and_a_release_it_refuses_goes_back(
    settings: Settings, registry: Registry, stage_release: Release, aisle_home: Path
) -> None:
    first, second = (register(registry, stage_release) for _ in range(2))
    shutil.rmtree(release.folder(second))
    stage_release(second, point=False, service="retrieval_v9")
    with running(settings, Kept()) as url:
        (aisle_home / "run").mkdir(exist_ok=True)
        (aisle_home / "run" / "services.json").write_text(json.dumps({"api": {"url": url}}))
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["status"] == "no_release")
        assert "API: serving" in promote.promote(settings, first)
        assert httpx.get(f"{url}/readyz").json()["version"] == first
        with pytest.raises(ServiceFailed, match="refused version 2"):
            promote.promote(settings, second)
        assert httpx.get(f"{url}/readyz").json()["version"] == first
    assert consistent(registry)
    assert decisions.everything()[0]["kind"] == "auto_rollback"


def test_a_version_that_is_not_there_is_named_with_those_that_are(
    registry: Registry, stage_release: Release
) -> None:
    for _ in range(2):
        register(registry, stage_release)
    with pytest.raises(NotThere, match="no version '99' of aisle-recommender; there are: 2, 1"):
        registry.version("99")


def test_what_was_approved_is_staged(settings: Settings, registry: Registry, stage_release: Release) -> None:
    first, second = (register(registry, stage_release) for _ in range(2))
    registry.move_alias("challenger", second, None)
    approved = {"upstream": {"publish.approve": {"asked": True, "version": first}}}
    assert stage.choose(registry, StepContext(params=approved)) == first
    assert stage.choose(registry, StepContext()) == second


def test_the_step_releases_what_was_staged(
    settings: Settings, registry: Registry, stage_release: Release, capsys: pytest.CaptureFixture
) -> None:
    version = register(registry, stage_release)
    upstream = {"publish.stage": {"version": version, "seen": None}}
    done = promote.run(settings, StepContext(run_id="r1", params={"upstream": upstream}))
    assert (done["version"], done["previous"], done["api"]) == (version, None, "not running")
    assert decisions.read(done["gate_decision"])["kind"] == "gate"
    assert decisions.read(done["decision_id"])["decided_by"] == "publish:r1"
    assert not unfilled("publish.promote", done)
    assert f"version {version} is released" in capsys.readouterr().err
    again = promote.run(settings, StepContext(run_id="r1", params={"upstream": upstream}))
    assert again["api"] == "already served"
    assert f"version {version} is already served" in capsys.readouterr().err
    assert consistent(registry)


def test_what_was_changed_after_staging_is_not_released(
    settings: Settings, registry: Registry, stage_release: Release
) -> None:
    version = register(registry, stage_release)
    spoil(version)
    with pytest.raises(BundleRejected):
        promote.run(settings, StepContext(params={"version": version}))
    assert release.current() is None
    assert aliases(registry) == (None, None)


def spoil(version: str) -> None:
    """Changes a staged file behind the manifest's back."""
    bundle = release.folder(version) / "bundle"
    path = max((path for path in bundle.rglob("*") if path.is_file()), key=lambda each: each.stat().st_size)
    path.write_bytes(path.read_bytes()[:-3])


def test_rollback_works_without_mlflow(
    settings: Settings, registry: Registry, stage_release: Release, aisle_home: Path
) -> None:
    for _ in range(2):
        promote.promote(settings, register(registry, stage_release))
    database = aisle_home / "mlflow" / "mlflow.db"
    kept = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    assert "MLflow did not answer" in promote.rollback(settings)
    assert release.current().version == "1"
    database.write_bytes(kept)
    promote.promote(settings, register(registry, stage_release))
    assert consistent(registry)
    assert registry.version("2").tags["barred"]
    assert release.current().previous == "1"


def test_a_spoilt_download_is_not_staged(
    settings: Settings, registry: Registry, stage_release: Release, tmp_path: Path
) -> None:
    stage_release("99", point=False)
    model = tmp_path / "model" / "artifacts"
    shutil.copytree(release.folder("99") / "bundle", model / "bundle")
    version = registry.client.create_model_version(registry.name, str(tmp_path / "model")).version
    registry.tag(version, decision="passed", decision_id=judged(version, "passed"))
    path = max((path for path in model.rglob("*") if path.is_file()), key=lambda each: each.stat().st_size)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BundleRejected):
        stage.run(settings, StepContext(params={"version": version}))
    assert release.staged(str(version)) is None
    assert not [each for each in release.releases().iterdir() if each.name.startswith(f".{version}-")]
