"""Every operation of the OpenAPI document under made-up requests: no undocumented answer, no defect.

AISLE_SCHEMA_CASES is the number of cases an operation, 200 where nothing is said. They are the same ones each time, until the
document changes; AISLE_SEED=N draws others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aisle import api_keys
from aisle import settings as settings_module
from serving import policy
from serving.policy import LOCAL, OPEN
from tests.serving.conftest import Kept, running, stage
from tests.serving.test_swap import wait_for

CASES = int(os.environ.get("AISLE_SCHEMA_CASES", "200"))
SEED = os.environ.get("AISLE_SEED")
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
NASTY = [
    b"",
    b"\x00",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"[null]",
    b"[[]]",
    b"1" * 5000,
    b"-1e400",
    b'{"a": NaN}',
    b"[" * 60 + b"]" * 60,
    b"[" * 50_000,
    b'{"a":' * 60 + b"1" + b"}" * 60,
    b'{"k": ' + b"9" * 5000 + b"}",
    b'{"user_id": "a\\u0000b", "k": 1e999}',
    b'{"user_id": "\\ud800"}',
    b'{"item_id": "x", "item_id": "y"}',
    b'\xff\xfe{"a": 1}',
    b'{"events": [{"event_id": "\\u0000"}]}',
    b"a=1&b=2",
]
VALUES = [
    "%00",
    "%FF",
    "a%0d%0ab",
    "9" * 400,
    "-1",
    "NaN",
    "..%2f..",
    "%E2%80%AE",
    "%F0%9F%9B%92",
    "x" * 3000,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API with wide rates, so that the cases reach the routes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("schema")))
        patch.setenv("AISLE_SERVING__LIMITS__KEY_RATE", "100000")
        patch.setenv("AISLE_SERVING__LIMITS__ADDRESS_RATE", "100000")
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as found:
            wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
            yield found
    settings_module.load.cache_clear()


@pytest.fixture(scope="module")
def document(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def key(url: str) -> str:
    """May everything, so that no case is refused for its key."""
    plain = api_keys.create("schema", scopes=list(api_keys.SCOPES))[1]
    wait_for(lambda: httpx.get(f"{url}/v1/popular", headers={"X-API-Key": plain}).status_code == 200)
    return plain


def test_no_case_finds_a_defect(document: schemathesis.BaseSchema, key: str) -> None:
    """Each operation by itself, so that one fault does not hide the next."""
    faults, seen = [], 0
    for found in document.get_all_operations():
        operation = found.ok()
        cases = given(
            case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        )
        settings = hypothesis.settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize=SEED is None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )

        @settings
        @cases
        def ask(case: schemathesis.Case) -> None:
            nonlocal seen
            seen += 1
            case.call_and_validate(headers={"X-API-Key": key}, checks=CHECKS, timeout=20)

        try:
            (hypothesis.seed(int(SEED))(ask) if SEED else ask)()
        except BaseExceptionGroup as error:
            faults += [f"{operation.label}: {each}" for each in error.exceptions]
        except Exception as error:
            faults.append(f"{operation.label}: {error}")
    assert not faults, "\n\n".join(faults)
    print(f"{seen} cases of {CASES} an operation")
    assert seen > 30 * CASES * 0.5


def test_a_position_counts_from_1_wherever_it_is_named(url: str) -> None:
    """What an answer says of an item is what an event may send back."""
    said = list(descriptions(httpx.get(f"{url}/openapi.json").json(), "position"))
    assert len(said) >= 2
    assert all("from 1 on" in each.lower() for each in said), said


def descriptions(part: object, name: str) -> Iterator[str]:
    """What the document says of the properties of this name, wherever they are."""
    if isinstance(part, dict):
        told = part.get("properties", {}).get(name, {}).get("description")
        if told:
            yield told
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from descriptions(inner, name)


def operations(url: str) -> Iterator[tuple[str, str, dict]]:
    for path, found in httpx.get(f"{url}/openapi.json").json()["paths"].items():
        for method, operation in found.items():
            yield method.upper(), path, operation


def documented(answer: httpx.Response, operation: dict, what: object) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, (what, answer.text)
    assert str(answer.status_code) in operation["responses"], (what, answer.status_code, answer.text[:300])
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (what, answer.text[:300])


def test_nasty_bodies_are_refused_by_a_problem(url: str, key: str) -> None:
    seen = 0
    with httpx.Client(base_url=url, headers={"X-API-Key": key}) as client:
        for method, path, operation in operations(url):
            if method not in ("POST", "PUT", "PATCH"):
                continue
            for body in NASTY:
                for kind in ("application/json", "text/plain"):
                    where = path.replace("{", "").replace("}", "")
                    answer = client.request(method, where, content=body, headers={"Content-Type": kind})
                    documented(answer, operation, (method, path, body[:60], kind))
                    seen += 1
    assert seen > 100


def test_nasty_paths_and_parameters_are_refused_by_a_problem(url: str, key: str) -> None:
    with httpx.Client(base_url=url, headers={"X-API-Key": key}) as client:
        for method, path, operation in operations(url):
            names = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
            for value in VALUES:
                where = path
                for each in operation.get("parameters", []):
                    where = where.replace("{" + each["name"] + "}", value)
                asked = "&".join(f"{name}={value}" for name in names)
                answer = client.request(method, f"{where}?{asked}" if asked else where)
                if "no-such-path" in answer.text:  # an encoded / is a path of its own
                    continue
                documented(answer, operation, (method, where, asked[:80]))


def test_the_document_says_what_each_path_wants(url: str) -> None:
    found = httpx.get(f"{url}/openapi.json").json()
    assert set(found["components"]["securitySchemes"]) == {"ApiKey", "Bearer", "UserToken"}
    for method, path, operation in operations(url):
        wanted = policy.WANTED[f"{method} {path}"]
        assert operation.get("x-scope") == (None if wanted in (OPEN, LOCAL) else wanted)
        if wanted not in (OPEN, LOCAL):
            keys = [{"ApiKey": []}, {"Bearer": []}]
            with_user = [{**each, "UserToken": []} for each in keys] if wanted == "read" else []
            assert operation["security"] == keys + with_user
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
    assert json.dumps(found)
