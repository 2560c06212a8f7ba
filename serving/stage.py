"""Step `publish.stage`: a version that the gate passed comes to disk, verified and smoke-checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aisle import decisions
from aisle.errors import BundleRejected, GateBlocked
from aisle.lake import project_root
from aisle.settings import Settings
from aisle.stages import StepContext
from serving import change, release, sample

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from aisle.registry import Registry

SMOKE_SECONDS = 300


def run(settings: Settings, context: StepContext) -> dict:
    """Stages params['version'], else what approval or training handed on, else as `Registry.to_release` says.

    Returns {"version", "path", "digest", "seen": version served now, "smoke", "decision_id": the gate's,
    "mlflow_run", "mlflow_experiment"}. Idempotent.
    Raises GateBlocked, NotThere, BundleRejected, FeatureMismatch.
    """
    from aisle.registry import Registry

    registry = Registry(settings)
    with release.lock():
        change.resume(settings)
    version = choose(registry, context)
    decision_id = require_pass(registry, version)
    smoke = stage(settings, registry, version)
    held, staged = release.current(), release.staged(version)
    return {
        "version": version,
        "path": staged.path,
        "digest": staged.digest,
        "seen": held.version if held else None,
        "smoke": smoke,
        "decision_id": decision_id,
        **registry.run_of(registry.version(version)),
    }


def choose(registry: Registry, context: StepContext) -> str:
    """The version to stage: of a gated version that has a refit, the refit is what is released."""
    upstream = context.params.get("upstream") or {}
    told = [(upstream.get(step) or {}).get("version") for step in ("publish.approve", "train.refit")]
    return registry.to_release(next(filter(None, [context.params.get("version"), *told]), None))


def require_pass(registry: Registry, version: str) -> str:
    """Raises GateBlocked unless the version, or the gated version that it refits, carries `decision: passed`.

    A refit that was judged itself (parity) must not have been refused, and nothing barred is let through.
    Returns the id of the gate's decision.
    """
    found = registry.version(version)
    barred = found.tags.get("barred") or release.barred(version)
    if barred:
        raise GateBlocked(
            f"version {version} is barred ({barred}); "
            f"`aisle promote {version} --override REASON` releases it all the same"
        )
    own, gated = found.tags.get("decision"), _gated(registry, found)
    judged = gated.tags.get("decision")
    if judged != "passed" or own not in (None, "passed"):
        of = "" if gated is found else f", gated as version {gated.version}: {judged or 'none'}"
        raise GateBlocked(
            f"version {version} has not passed the gate (decision: {own or 'none'}{of}); see `aisle decisions`. "
            f"`aisle promote {version} --override REASON` releases it all the same, and is recorded"
        )
    return _on_record(gated)


def _on_record(gated: ModelVersion) -> str:
    """The id of the gate's record. A tag alone, which anybody can set in MLflow, is no pass."""
    decision_id = gated.tags.get("decision_id")
    found = decisions.read(decision_id) if decision_id else {}
    told = (found.get("kind"), found.get("verdict"), found.get("challenger"))
    if told != ("gate", "passed", str(gated.version)):
        raise GateBlocked(
            f"version {gated.version} is tagged as passed, but its decision {decision_id or '(none)'} does not say "
            f'so: run `aisle run train.gate --params \'{{"version": "{gated.version}"}}\'`'
        )
    return found["decision_id"]


def _gated(registry: Registry, found: ModelVersion) -> ModelVersion:
    of = found.tags.get("refit_of")
    return registry.version(of) if of else found


def stage(settings: Settings, registry: Registry, version: str) -> dict:
    """Copies, verifies and smoke-checks a version; returns what the smoke check found. Nothing is done twice.

    The folder appears under its name by one rename, after the manifest was verified. Raises BundleRejected.
    """
    done = release.staged(version)
    if done and _whole(Path(done.path)):
        return release.read_json(release.folder(version) / "smoke.json")
    release.releases().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=release.releases(), prefix=f".{version}-") as room:
        bundle = _download(registry, version, Path(room))
        fresh = Path(room) / "fresh"
        fresh.mkdir()
        bundle.rename(fresh / "bundle")
        plan = sample.plan(settings, fresh / "bundle")
        smoke = check(fresh / "bundle", plan)
        release.write_json(fresh / "smoke.json", smoke)
        _put(version, fresh, Path(room) / "old")
    return smoke


def _whole(bundle: Path) -> bool:
    from engine.recommender import Recommender

    try:
        Recommender.load(bundle)
    except BundleRejected as error:
        print(f"the staged bundle {bundle} is staged again: {error}", file=sys.stderr)
        return False
    return True


def _download(registry: Registry, version: str, into: Path) -> Path:
    model = registry.download(version, into / "model")
    bundle = model / "artifacts" / "bundle"
    if not bundle.is_dir():
        raise BundleRejected(
            f"version {version} has no artifacts/bundle in its model folder; train and register it again"
        )
    return bundle


def check(bundle: Path, plan: dict) -> dict:
    """The smoke check, in a fresh process that has seen nothing but the bundle, as the API will.

    Raises BundleRejected.
    """
    found = subprocess.run(
        [sys.executable, "-m", "serving.smoke", str(bundle)],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=SMOKE_SECONDS,
        cwd=project_root(),
    )
    sys.stderr.write(found.stderr)
    lines = found.stdout.strip().splitlines()
    if found.returncode or not lines:
        last = (found.stderr.strip().splitlines() or ["no word"])[-1]
        raise BundleRejected(f"the bundle did not survive its smoke check (exit {found.returncode}): {last}")
    smoke = json.loads(lines[-1])
    if smoke["verdict"] != "passed":
        raise BundleRejected(f"the bundle failed its smoke check: {'; '.join(smoke['faults'][:10])}")
    return {**smoke, "digest": release.digest(bundle), "checked_at": release.now()}


def _put(version: str, fresh: Path, old: Path) -> None:
    """Under its name by rename. What a version keeps beside its bundle (pointer, bar) is carried over."""
    place = release.folder(version)
    if place.exists():
        for name in ("pointer.json", "barred.json"):
            if (place / name).exists():
                shutil.copy2(place / name, fresh / name)
        place.rename(old)
    fresh.rename(place)
