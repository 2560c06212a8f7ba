"""The smoke check: what it lets through, and each thing that it stops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aisle.errors import BundleRejected, FeatureMismatch
from engine import bundle as files
from engine.state import UserState
from serving import release, smoke, stage
from tests.serving.conftest import COUNTRIES, Kept, write_bundle


def plan(bundle: Path, **changed: object) -> dict:
    usual = {"digest": release.digest(bundle), "k": 5, "users": ["u000", "u001", "u002"], "deleted": []}
    return {**usual, "countries": [*COUNTRIES, "Iceland"], **changed}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_sound_bundle_passes(bundle: Path) -> None:
    found = smoke.check(Kept(), bundle, plan(bundle))
    assert (found["verdict"], found["faults"]) == ("passed", [])
    assert found["asked"]["rungs"] == {"personalised": 3, "popular": 2, "segment": 3}
    assert found["latency_ms"]["p50"] > 0


def test_a_deleted_item_is_stopped(bundle: Path) -> None:
    found = smoke.check(Kept(), bundle, plan(bundle, deleted=[f"i{number:03d}" for number in range(20)]))
    assert found["verdict"] == "failed"
    assert any("the deleted item 'i0" in fault for fault in found["faults"])


def test_known_users_without_histories_are_stopped(bundle: Path) -> None:
    class Empty(Kept):
        def read(self, service: str, users: object) -> list[UserState]:
            return [UserState(user) for user in users]

    found = smoke.check(Empty(), bundle, plan(bundle))
    assert "no history in the online store" in found["faults"][0]


def test_numbers_that_are_none_are_stopped(bundle: Path) -> None:
    """NaN weights under a manifest that fits them: digests alone would let them through."""
    content = files.read(bundle)
    arrays = files.unpack_arrays(content["linear.npz"])
    arrays["data"][::3] = np.nan
    files.write(bundle, {**content, "linear.npz": files.pack_arrays(arrays)})
    found = smoke.check(Kept(), bundle, plan(bundle))
    assert found["verdict"] == "failed"
    assert "linear.data" in found["faults"][0]


def test_a_service_that_cannot_be_filled_is_stopped(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", service="retrieval_v9")
    with pytest.raises(FeatureMismatch, match="retrieval_v9"):
        smoke.check(Kept(), bundle, plan(bundle))


def test_in_a_process_of_its_own_it_fails_closed(bundle: Path, aisle_home: Path) -> None:
    """No feature store is there at all: no release."""
    with pytest.raises(BundleRejected):
        stage.check(bundle, plan(bundle))
    (bundle / "recipe.json").write_text(json.dumps({}))
    with pytest.raises(BundleRejected, match=r"recipe\.json"):
        stage.check(bundle, plan(bundle))
