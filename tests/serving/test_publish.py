"""The publish stage on real parts: gold through Feast's online store, a version through MLflow, the API on top."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from aisle import decisions, lake, steps
from aisle.registry import Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from serving import release
from tests.links import unfilled
from tests.serving.conftest import COUNTRIES, CUT, asking, running, shop, write_bundle
from tests.serving.test_console import write_gold
from tests.serving.test_swap import wait_for


def write_items() -> None:
    """The item tables of gold, and the users and items of silver."""
    items, histories = shop()
    items = items.assign(as_of=CUT, n_orders=1, n_returns=0)
    lake.append("gold.item_stats", items)
    lake.append("gold.item_text", items)
    neighbours = [{"item_id": "i001", "as_of": CUT, "neighbours": ["i002"], "scores": [0.5]}]
    lake.append("gold.co_visits", neighbours)
    lake.append("silver.items", [{"item_id": "gone", "deleted": True}])
    lake.append("silver.users", histories[["user_id", "country"]])


def register(settings: Settings, tmp_path: Path) -> str:
    """A version as training leaves it, with the gate's record."""
    write_bundle(tmp_path / "model" / "artifacts" / "bundle")
    registry = Registry(settings)
    registry.client.create_registered_model(registry.name)
    run = registry.client.create_run("0").info.run_id
    version = str(registry.client.create_model_version(registry.name, str(tmp_path / "model"), run).version)
    body = {"rules": [], "metrics": []}
    judged = decisions.record(settings, "gate", "passed", version, "", CUT, "gate", body)
    registry.tag(version, decision="passed", decision_id=judged)
    registry.move_alias("challenger", version, None)
    return version


@pytest.mark.spark
def test_from_gold_and_registry_to_an_answer(settings: Settings, spark, tmp_path: Path) -> None:
    write_gold()
    write_items()
    steps.run("features.feast", settings, StepContext())
    version = register(settings, tmp_path)
    done = steps.run("publish", settings, StepContext(run_id="r1"))
    smoke = done["publish.stage"]["smoke"]
    assert (smoke["verdict"], smoke["faults"]) == ("passed", [])
    assert smoke["asked"]["users"] == 20
    assert smoke["asked"]["countries"] == len(COUNTRIES)
    assert done["publish.promote"]["version"] == version
    assert not any(unfilled(step, result) for step, result in done.items())
    assert str(Registry(settings).by_alias("champion").version) == version
    assert (
        steps.run("publish", settings, StepContext(run_id="r1"))["publish.promote"]["api"] == "already served"
    )
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, 120)
        assert httpx.get(f"{url}/readyz").json()["features"] == "open"
        client = asking(url)
        answer = client.get("/v1/recommendations?user_id=u001").json()
        assert (answer["rung"], answer["model_version"]) == ("personalised", version)
        expected = shop()[1].set_index("user_id").loc["u001"]
        history = client.get("/v1/users/u001/history").json()
        assert [event["item_id"] for event in history["events"]] == expected["item_ids"]
        assert history["country"] == expected["country"]
        assert client.get("/v1/recommendations?user_id=nobody").json()["rung"] == "popular"
    print(json.dumps(smoke, indent=1), release.current())
