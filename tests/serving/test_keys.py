"""Keys at the door: who gets in, who does not, and what changes while the API runs."""

from __future__ import annotations

import base64
import logging
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aisle import api_keys
from aisle.settings import Settings
from serving import policy
from serving.app import create_app
from serving.policy import LOCAL, OPEN
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_api import PLAIN, refused
from tests.serving.test_swap import wait_for

HISTORY = "/v1/users/u001/history"


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    """An API of the test's own, with release 1."""
    stage("1")
    with running(settings, Kept()) as found:
        wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
        yield found


def key(name: str = "server") -> str:
    return api_keys.plain_keys()[name]


def test_without_a_key_there_is_nothing(url: str) -> None:
    answer = httpx.get(url + PLAIN)
    problem = refused(answer, 401)
    assert problem["type"] == "urn:aisle:problem:no-key"
    assert "first.env" in problem["detail"]
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_server_key_opens_by_either_header(url: str) -> None:
    assert httpx.get(url + PLAIN, headers={"X-API-Key": key()}).status_code == 200
    assert httpx.get(url + PLAIN, headers={"Authorization": f"Bearer {key()}"}).status_code == 200
    assert httpx.get(url + HISTORY, headers={"X-API-Key": key()}).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["", "x", "aisle_server_000000000000_x", "aisle_server", "é" * 40, "a" * 9000, "aisle_server__"]
)
def test_a_wrong_key_opens_nothing(url: str, wrong: str) -> None:
    refused(httpx.get(url + PLAIN, headers={"X-API-Key": wrong.encode()}), 401)


def test_a_key_with_one_other_letter_opens_nothing(url: str) -> None:
    last = "A" if key()[-1] != "A" else "B"
    refused(httpx.get(url + PLAIN, headers={"X-API-Key": key()[:-1] + last}), 401)


def test_a_scope_is_needed(url: str) -> None:
    reader = api_keys.create("reader", scopes=["read"])[1]
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": reader}).status_code == 200)
    problem = refused(httpx.get(url + HISTORY, headers={"X-API-Key": reader}), 403)
    assert "'people'" in problem["detail"]
    refused(asking(url, "public").get(HISTORY), 403)
    refused(asking(url, "admin").get(PLAIN), 403)


def test_keys_change_within_a_second(url: str) -> None:
    made, plain = api_keys.create("shop", days=1)
    headers = {"X-API-Key": plain}
    wait_for(lambda: httpx.get(url + PLAIN, headers=headers).status_code == 200)
    new = api_keys.rotate("shop", grace_hours=1)[1]
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": new}).status_code == 200)
    assert httpx.get(url + PLAIN, headers=headers).status_code == 200
    assert {each.key_id for each in api_keys.revoke("shop")} >= {made.key_id}
    wait_for(lambda: httpx.get(url + PLAIN, headers=headers).status_code == 401)
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": new}).status_code == 401)


def test_a_key_expires(url: str) -> None:
    plain = api_keys.create("brief", days=2 / 86_400)[1]
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": plain}).status_code == 200)
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": plain}).status_code == 401)
    assert "expired" in httpx.get(url + PLAIN, headers={"X-API-Key": plain}).json()["detail"]


def test_a_torn_file_of_keys_locks_nobody_out_and_nobody_in(url: str) -> None:
    whole = api_keys.path().read_text()
    api_keys.path().write_text(whole[:40])
    time.sleep(0.5)
    assert asking(url).get(PLAIN).status_code == 200
    refused(httpx.get(url + PLAIN), 401)
    api_keys.path().unlink()
    wait_for(lambda: httpx.get(url + PLAIN, headers={"X-API-Key": key()}).status_code == 401)


def test_a_public_key_is_for_the_pages_on_its_list(url: str) -> None:
    plain = api_keys.create("front", "public", origins=["https://shop.example"])[1]
    own = {"X-API-Key": plain}
    wait_for(lambda: httpx.get(url + PLAIN, headers=own).status_code == 200)
    good = httpx.get(url + PLAIN, headers={**own, "Origin": "https://shop.example"})
    assert good.status_code == 200
    assert good.headers["access-control-allow-origin"] == "https://shop.example"
    assert httpx.get(url + PLAIN, headers={**own, "Origin": url}).status_code == 200
    for origin in (
        "https://evil.example",
        "null",
        "https://shop.example.evil.example",
        "http://shop.example",
    ):
        bad = httpx.get(url + PLAIN, headers={**own, "Origin": origin})
        refused(bad, 403)
        assert "access-control-allow-origin" not in bad.headers


def test_cors_is_closed_but_for_listed_origins(url: str) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-api-key"}
    shut = httpx.options(url + PLAIN, headers={**asked, "Origin": "https://shop.example"})
    assert shut.status_code == 403
    assert "access-control-allow-origin" not in shut.headers
    api_keys.create("front", "public", origins=["https://shop.example"])
    wait_for(
        lambda: httpx.options(url + PLAIN, headers={**asked, "Origin": "https://shop.example"}).is_success
    )


def test_our_own_pages_may_ask_for_a_while(url: str) -> None:
    with httpx.Client(base_url=url) as visitor:
        page = visitor.get("/docs")
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert visitor.get(PLAIN).status_code == 200
        refused(visitor.get(HISTORY), 401)
        refused(visitor.get(PLAIN, headers={"Origin": "http://127.0.0.1:1"}), 403)
        name, _, value = cookie.partition(";")[0].partition("=")
        until, _, signed = value.partition(".")
    for forged in (
        f"{int(until) + 1}.{signed}",
        f"{until}.{'0' * 64}",
        f"1.{signed}",
        "x",
        ".",
        f"{'9' * 4000}.x",
    ):
        refused(httpx.get(url + PLAIN, headers={"Cookie": f"{name}={forged}"}), 401)


@pytest.mark.parametrize("path", ["/", "/metrics", "/reports/index.html"])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "rebound.example"},
        {"Host": "["},
    ],
)
def test_pages_and_figures_are_this_machines_own(url: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx.get(url + path, headers=headers)
    refused(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert "set-cookie" not in answer.headers
    password = base64.b64encode(f"anybody:{key('admin')}".encode()).decode()
    allowed = httpx.get(url + path, headers={**headers, "Authorization": f"Basic {password}"})
    assert allowed.status_code in (200, 404)
    wrong = base64.b64encode(f"anybody:{key('server')}".encode()).decode()
    refused(httpx.get(url + path, headers={**headers, "Authorization": f"Basic {wrong}"}), 403)


def test_every_route_wants_something(settings: Settings) -> None:
    """A new route fails here until somebody has put it into serving/policy.py."""
    app = create_app(settings, Kept())
    names = [name for route in app.routes for name in policy.names(route)]
    assert len(names) > 10
    assert not [name for name in names if name not in policy.WANTED]
    for route in app.routes:
        assert type(route.app).__name__ == "Door", route


def test_every_route_is_shut_to_whom_it_is_not_for(url: str) -> None:
    """No key, an expired one, a revoked one, one without the scope: nothing but a refusal, whatever the route."""
    app = create_app(api_settings(), Kept())
    keyless = {"X-Forwarded-For": "203.0.113.9"}
    expired = api_keys.create("late", days=1e-9, scopes=list(api_keys.SCOPES))[1]
    revoked = api_keys.create("gone", scopes=list(api_keys.SCOPES))[1]
    api_keys.revoke("gone")
    without = {
        scope: api_keys.create(f"no {scope}", scopes=[s for s in api_keys.SCOPES if s != scope])[1]
        for scope in api_keys.SCOPES
    }
    time.sleep(0.6)
    seen = 0
    for route in app.routes:
        wanted = policy.wanted(route)
        if wanted == OPEN:
            continue
        other = without["admin" if wanted == LOCAL else wanted]
        for name in policy.names(route):
            method, path = name.split(" ")
            path = path.replace("{", "").replace("}", "") + ("/x" if method == "MOUNT" else "")
            method = "GET" if method == "MOUNT" else method
            for held, status in ((None, 401), (expired, 401), (revoked, 401), (other, 403)):
                headers = keyless if held is None else {**keyless, "X-API-Key": held}
                answer = httpx.request(method, url + path, headers=headers)
                assert answer.status_code == status, (name, held is None, answer.text)
                refused(answer, status)
        seen += 1
    assert seen > 5


def api_settings() -> Settings:
    from aisle import settings as settings_module

    return settings_module.load()


def test_files_are_the_owners_and_hold_no_plain_key(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    folder = api_keys.folder()
    for file in (api_keys.path(), api_keys.first()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    plains = list(api_keys.plain_keys().values())
    assert len(plains) == 3
    for plain in plains:
        assert plain.split("_", 3)[3] not in api_keys.path().read_text()
        for query in ("", "?user_id=secret-person"):
            httpx.get(url + PLAIN + query, headers={"X-API-Key": plain})
            httpx.get(url + PLAIN + query, headers={"Authorization": f"Bearer {plain}"})
        httpx.get(f"{url}{PLAIN}?key={plain}")
        httpx.get(f"{url}/v1/nothing?key={plain}")
    ours = [
        record for record in caplog.records if not record.name.startswith("http")
    ]  # the test's own client talks too
    told = "".join(str(record.__dict__) for record in ours)
    told += httpx.get(f"{url}/metrics").text
    assert "answered" in told
    assert "secret-person" not in told
    assert not [plain for plain in plains if plain.split("_", 3)[3] in told]


def test_open_needs_no_key_and_stays_inside(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, aisle_home: Path
) -> None:
    from aisle import settings as settings_module
    from aisle.errors import SettingsError
    from serving.server import require_closed

    monkeypatch.setenv("AISLE_SERVING__AUTH", "open")
    settings_module.load.cache_clear()
    stage("1")
    with running(settings_module.load(), Kept()) as found:
        wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
        assert httpx.get(found + PLAIN).status_code == 200
    assert not api_keys.path().exists()
    require_closed(settings_module.load())
    for host in ("0.0.0.0", "::", "192.0.2.1", "shop"):
        monkeypatch.setenv("AISLE_SERVING__HOST", host)
        settings_module.load.cache_clear()
        with pytest.raises(SettingsError, match="open"):
            require_closed(settings_module.load())
