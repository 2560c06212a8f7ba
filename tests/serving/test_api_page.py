"""The curl commands of docs/api.md, run as they stand there over a shop that has what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pandas as pd
import pytest

from aisle.lake import project_root
from tests.serving import conftest, page_commands
from tests.serving.page_commands import Step

PAGE = project_root() / "docs" / "api.md"
IDS = {"i000": "22423", "i001": "21731", "i002": "23084"}
WORDS = ("CAKESTAND", "LIGHT", "CANDLE", "BAG", "CLOCK", "BUNTING")  # head words of titles, as in the demo


def named_shop(shop=conftest.shop, **kind: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tiny shop with the ids, titles and categories that the page goes by; like the demo's, its items have no brand."""
    items, histories = shop(**kind)
    heads = [WORDS[row % len(WORDS)] for row in range(len(items))]
    items = items.assign(
        item_id=items["item_id"].replace(IDS),
        title=[f"RED TOADSTOOL NIGHT {word}" for word in heads],
        categories=[[word] for word in heads],
    )
    ids = histories["item_ids"].map(lambda had: [IDS.get(item, item) for item in had])
    return items, histories.assign(item_ids=ids, user_id=histories["user_id"].replace({"u001": "12347"}))


@pytest.fixture(scope="module", autouse=True)
def _named() -> Iterator[None]:
    """Before `api` is made, which fits and serves what `conftest.shop` says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "shop", lambda *args, **kind: named_shop(**kind))
        yield


@pytest.fixture(scope="module")
def ran(_named: None, api: httpx.Client) -> list[Step]:
    return page_commands.run(PAGE, str(api.base_url))


def of(ran: list[Step], path: str) -> Step:
    """The first command that asks this path."""
    return next(step for step in ran if path in step.text)


def test_every_curl_of_the_page_is_among_them(ran: list[Step]) -> None:
    written = len(re.findall(r"\bcurl -", PAGE.read_text()))
    assert sum(step.text.count("curl -") for step in ran) == written >= 5
    for step in ran:
        if step.shown is not None:
            lacking = page_commands.missing(step.shown, step.told)
            of_any_model = [each for each in lacking if ".reason.parts." not in each]
            assert not of_any_model, step


def test_the_list_is_the_users_own(ran: list[Step]) -> None:
    found = of(ran, "/v1/recommendations?user_id").told
    assert found["rung"] == "personalised"
    assert len(found["items"]) == 3
    for each in found["items"]:
        assert sum(each["reason"]["parts"].values()) == pytest.approx(each["score"], abs=0.01), each


def test_the_rules_leave_something_and_hold(ran: list[Step], api: httpx.Client) -> None:
    step = of(ran, '"rules"')
    asked = json.loads(re.search(r"-d '(.*)'", step.text, re.DOTALL)[1])
    rules, found = asked["rules"], step.told
    assert (found["rung"], found["degraded"]) == ("personalised", [])
    assert len(found["items"]) >= 9
    ids = [each["item_id"] for each in found["items"]]
    assert ids[rules["pins"][0]["position"] - 1] == rules["pins"][0]["item_id"]
    assert not set(ids) & set(rules["exclude"])
    categories = [api.get(f"/v1/items/{item}").json()["categories"][-1] for item in ids]
    assert not set(categories) & set(rules["categories"]["exclude"])
    assert max(categories.count(each) for each in categories) <= rules["caps"]["category"]
    low, high = rules["price"]["min"], rules["price"]["max"]
    assert all(low <= each["price"] <= high for each in found["items"])
    plain = api.post("/v1/recommendations", json={**asked, "rules": {**rules, "boosts": []}}).json()["items"]
    light = {row["item_id"] for row in named_shop()[0].to_dict("records") if "LIGHT" in row["categories"]}
    assert rules["boosts"][0]["value"] == "LIGHT"
    assert places(found["items"], light) < places(plain, light)


def places(items: list[dict], of: set[str]) -> list[int]:
    """Where these items are, the best first."""
    return [each["position"] for each in items if each["item_id"] in of]


def test_the_examples_of_the_reference_can_be_tried(api: httpx.Client) -> None:
    """In /docs, over a shop such as the demo's. A further page is of an answer of one's own, whose id no example knows."""
    tried, faults = 0, []
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        where = path.replace("{item_id}", "22423").replace("{user_id}", "12347")
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in body.get("examples", {}).items():
                if name == "page":
                    continue
                answer = api.request(method, where, json=example["value"])
                tried += 1
                if answer.status_code >= 300 or answer.json().get("items") == []:
                    faults.append(f"{method} {path} {name}: {answer.status_code} {answer.text[:200]}")
    assert tried >= 10
    assert not faults, "\n".join(faults)


def test_every_figure_is_told(api: httpx.Client) -> None:
    told = set(re.findall(r"`(aisle_[a-z_]+)", PAGE.read_text()))
    made = re.findall(r"^# TYPE (aisle_\w+) ", api.get("/metrics").text, re.MULTILINE)
    assert made
    assert {name for name in made if not name.endswith("_created")} - told == set()


def test_the_misspelt_search_finds_the_light(ran: list[Step]) -> None:
    found = of(ran, "/v1/search").told
    assert found["corrected"] == "toadstool night light"
    assert found["matching"] == "all"
    assert all(each["title"] == "RED TOADSTOOL NIGHT LIGHT" for each in found["items"])


def test_the_event_is_taken(ran: list[Step]) -> None:
    assert of(ran, "/v1/events").told == {"accepted": 1, "duplicates": 0, "refused": []}
