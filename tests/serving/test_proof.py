"""Whom a public key may ask for: with a token the user that it names, without one nobody in particular."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aisle import api_keys, user_tokens
from aisle.errors import NoProof
from aisle.settings import Settings
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_api import refused
from tests.serving.test_swap import wait_for

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))
from aisle_client import user_token

MINE = "u001"
ASKED = {"user_id": MINE, "k": 3}
QUERY = "query($user: ID) { recommendations(userId: $user, k: 3) { rung items { reason { text } } } popular(k: 1) { rung } }"


def token(user: str = MINE, hours: float = 1.0) -> str:
    return user_tokens.make(user_tokens.secret(), user, hours)


class Patient(httpx.HTTPTransport):
    """Asks again where it asked too often: all of these tests come from one address."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        while (found := super().handle_request(request)).status_code == 429:
            found.close()
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def page(api: httpx.Client) -> Iterator[httpx.Client]:
    """A shop's page: a client with the public key."""
    headers = api_keys.headers("public")
    with httpx.Client(base_url=api.base_url, headers=headers, timeout=30, transport=Patient()) as found:
        yield found


def asks(page: httpx.Client, headers: dict[str, str]) -> list[httpx.Response]:
    """Everything that a public key may read and that can name a user."""
    return [
        page.get("/v1/recommendations", params=ASKED, headers=headers),
        page.post("/v1/recommendations", json=ASKED, headers=headers),
        page.post("/v1/recommendations/batch", json={"users": [MINE], "k": 3}, headers=headers),
        page.post("/v1/similar", json={**ASKED, "item_id": "i001"}, headers=headers),
        page.get("/v1/items/i001/similar", params=ASKED, headers=headers),
        page.post("/v1/together", json={**ASKED, "item_id": "i001"}, headers=headers),
        page.post("/v1/popular", json=ASKED, headers=headers),
        page.get("/v1/trending", params=ASKED, headers=headers),
    ]


def test_without_a_token_a_page_asks_for_nobody(page: httpx.Client) -> None:
    for answer in asks(page, {}):
        problem = refused(answer, 403)
        assert problem["type"] == "urn:aisle:problem:no-proof"
        assert "X-User-Token" in problem["detail"]
    assert page.get("/v1/recommendations", params={"session_id": "s-1"}).status_code == 200
    assert page.get("/v1/popular").status_code == 200


def test_with_a_token_it_asks_for_its_user(page: httpx.Client) -> None:
    found = asks(page, {"X-User-Token": token()})
    assert [answer.status_code for answer in found] == [200] * len(found)
    assert found[0].json()["rung"] == "personalised"


@pytest.mark.parametrize(
    "kind", ["of another user", "expired", "forged", "of another secret", "torn", "no text"]
)
def test_no_other_token_will_do(page: httpx.Client, kind: str) -> None:
    good = token()
    body, _, signature = good.rpartition(".")
    until = int(body.split(".")[2])
    wrong = {
        "of another user": token("u002"),
        "expired": user_tokens.make(user_tokens.secret(), MINE, 1, now=time.time() - 3601),
        "forged": f"{body.replace(str(until), str(until + 9))}.{signature}",
        "of another secret": user_tokens.make(bytes(32), MINE),
        "torn": good[:-3],
        "no text": "u1.é.x.y",
    }[kind]
    status = 403 if kind == "of another user" else 401
    for answer in asks(page, {"X-User-Token": wrong.encode()}):
        assert refused(answer, status)["type"] == "urn:aisle:problem:no-proof"
        assert MINE not in answer.text
        assert "You bought" not in answer.text


def test_graphql_asks_for_the_same_proof(page: httpx.Client) -> None:
    def asked(**headers: str) -> dict:
        body = {"query": QUERY, "variables": {"user": MINE}}
        return page.post("/v1/graphql", json=body, headers=headers).json()

    for headers, status in (({}, 403), ({"X-User-Token": token("u002")}, 403), ({"X-User-Token": "x"}, 401)):
        found = asked(**headers)
        (error,) = found["errors"]
        assert error["extensions"]["problem"]["type"] == "urn:aisle:problem:no-proof"
        assert error["extensions"]["problem"]["status"] == status
        assert "You bought" not in str(found)
    assert asked(**{"X-User-Token": token()})["data"]["recommendations"]["rung"] == "personalised"


GRAPH_FIELDS = (
    "recommendations",
    "popular",
    "trending",
    "search",
    'similar(itemId: "i001", {})',
    'together(itemId: "i001", {})',
)


@pytest.mark.parametrize("field", GRAPH_FIELDS)
def test_every_graphql_field_that_names_a_user_asks_for_it(page: httpx.Client, field: str) -> None:
    field = field if "{}" in field else f"{field}({{}})"

    def asked(given: str, **headers: str) -> dict:
        query = f"{{ found: {field.format(given)} {{ rung items {{ itemId }} }} }}"
        return page.post("/v1/graphql", json={"query": query}, headers=headers).json()

    mine = f'userId: "{MINE}", k: 3'
    for headers, status in (({}, 403), ({"X-User-Token": token("u002")}, 403), ({"X-User-Token": "x"}, 401)):
        found = asked(mine, **headers)
        assert found["data"]["found"] is None
        assert found["errors"][0]["extensions"]["problem"]["status"] == status
    for given in (mine, 'sessionId: "s-7", k: 3'):
        found = asked(given, **{"X-User-Token": token()})
        assert "errors" not in found, found
        assert found["data"]["found"]["items"]
    within = f'{{ item(itemId: "i001") {{ similar({mine}) {{ rung }} }} }}'
    found = page.post("/v1/graphql", json={"query": within}).json()
    assert found["errors"][0]["extensions"]["problem"]["status"] == 403


def test_a_server_key_needs_no_token(api: httpx.Client) -> None:
    assert api.get("/v1/recommendations", params=ASKED).json()["rung"] == "personalised"
    assert api.get("/v1/recommendations", params=ASKED, headers={"X-User-Token": "x"}).status_code == 200


def test_a_session_tells_nothing_of_the_user_that_it_was_put_upon(
    api: httpx.Client, page: httpx.Client
) -> None:
    """Whoever has a public key can send an event that names their own session and somebody else's user."""
    api.post("/v1/events", json={"event_type": "purchase", "user_id": "victim", "item_id": "i007"})
    api.post(
        "/v1/events",
        json={"event_type": "purchase", "user_id": "victim", "session_id": "theirs", "item_id": "i008"},
    )
    put = {"event_type": "view", "user_id": "victim", "session_id": "mine", "item_id": "i009"}
    assert page.post("/v1/events", json=put).status_code == 202
    answer = page.get("/v1/recommendations", params={"session_id": "mine", "k": 40})
    assert not [
        each for each in answer.json()["items"] if "bought it" in each["reason"]["text"].split(",")[0][:14]
    ]
    assert "i007" not in str([each["reason"] for each in answer.json()["items"]])
    assert "i008" not in str([each["reason"] for each in answer.json()["items"]])


def test_another_secret_makes_all_tokens_void(page: httpx.Client) -> None:
    old = token()
    user_tokens.renew()
    assert refused(asks(page, {"X-User-Token": old})[0], 401)
    assert asks(page, {"X-User-Token": token()})[0].status_code == 200


def test_one_setting_relaxes_it(settings: Settings) -> None:
    open_ = settings.model_copy(
        update={"serving": settings.serving.model_copy(update={"public_users": "open"})}
    )
    stage("1")
    with running(open_, Kept()) as url, asking(url, "public") as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/v1/recommendations", params=ASKED).status_code == 200


def test_our_own_page_asks_as_before(api: httpx.Client) -> None:
    with httpx.Client(base_url=api.base_url) as visitor:
        assert "You bought it" in visitor.get("/", params={"user_id": MINE}).text
        assert visitor.get("/v1/recommendations", params=ASKED).json()["rung"] == "personalised"


def test_the_clients_token_is_ours(aisle_home: Path) -> None:
    assert user_tokens.ensure()
    assert not user_tokens.ensure()
    assert user_tokens.path().stat().st_mode & 0o777 == 0o600
    key = user_tokens.secret()
    for user in ("12347", "naïve user/1", "x" * 256):
        assert user_tokens.user_of(key, user_token(key.hex(), user)) == user
    for wrong in ({"hours": 0}, {"hours": 721}, {"user_id": " "}):
        with pytest.raises(ValueError, match="up to 720 hours"):
            user_token(key.hex(), **{"user_id": "a", **wrong})
    with pytest.raises(NoProof):
        user_tokens.user_of(key, "")
