"""/openapi.json shows an answer of every operation, and what it shows is one: it has the form that the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

NOTHING = {("post", "/v1/events/beacon", "204")}  # has no body
HERE = "#/components/schemas/"


@pytest.fixture(scope="module")
def document(api: httpx.Client) -> dict[str, Any]:
    return api.get("/openapi.json").json()


def answers(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """((method, path, status), response) of version 1."""
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for method, operation in operations.items():
                for status, response in operation["responses"].items():
                    yield (method, path, status), response


def shown(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Examples of one media type, or of the model that it has."""
    if "example" in content:
        return [content["example"]]
    named = [each["value"] for each in content.get("examples", {}).values()]
    model = content.get("schema", {}).get("$ref", "").removeprefix(HERE)
    found = document["components"]["schemas"].get(model, {})
    return named + [found[name] for name in ("example",) if name in found]


def test_every_operation_shows_its_answer(document: dict[str, Any]) -> None:
    without, operations = [], set()
    for place, response in answers(document):
        operations.add(place[:2])
        if place[2] == "304" or place in NOTHING:
            continue
        contents = response.get("content", {})
        if not contents or not all(shown(document, each) for each in contents.values()):
            without.append(place)
    assert without == []
    assert len(operations) > 30
    assert {place for place, _ in answers(document) if place[2] == "204"} == NOTHING


def test_what_is_shown_has_the_form_that_it_should(document: dict[str, Any]) -> None:
    judged = 0
    for place, response in answers(document):
        for media, content in response.get("content", {}).items():
            if "json" not in media:
                continue
            schema = {**content["schema"], "components": document["components"]}
            for example in shown(document, content):
                faults = [each.message for each in Draft202012Validator(schema).iter_errors(example)]
                assert faults == [], (place, faults)
                judged += 1
                model = content["schema"].get("$ref", "").removeprefix(HERE)
                named = document["components"]["schemas"][model]["properties"]
                assert example.keys() <= named.keys(), (place, "says what no answer has")
    assert judged > 100


def test_a_problem_is_shown_as_one(api: httpx.Client, document: dict[str, Any]) -> None:
    example = document["components"]["schemas"]["Problem"]["example"]
    real = api.get("/v1/recommendations", params={"k": 1000, "limit": 3}).json()
    assert {**real, "request_id": None} == {**example, "request_id": None}
