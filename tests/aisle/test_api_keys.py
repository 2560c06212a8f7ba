"""Keys on disk and `aisle keys`: hashes only, one plain file, and every fault of a wish at once."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aisle import api_keys, status, user_tokens
from aisle.cli import app
from aisle.errors import NoProof, NotThere, SettingsError
from aisle.settings import Settings


def active() -> list[str]:
    return [each.name for each in api_keys.read() if each.state(datetime.now(UTC)) == "active"]


def test_the_first_keys_are_made_once(aisle_home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: api_keys.ensure(), range(8)))
    assert made.count(True) == 1
    assert active() == ["server", "public", "admin"]
    plain = api_keys.plain_keys()
    assert set(plain) == {"server", "public", "admin"}
    keys = {each.key_id: each for each in api_keys.read()}
    for name, text in plain.items():
        found = api_keys.matching(keys, text)
        assert found is not None
        assert found.name == name
    assert api_keys.headers() == {"X-API-Key": plain["server"]}
    assert set(keys[next(iter(keys))].scopes) == {"track", "read", "write", "people"}


def test_our_own_commands_may_be_given_another_key(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_keys.headers() == {}
    monkeypatch.setenv("AISLE_API_KEY", "other")
    assert api_keys.headers() == {"X-API-Key": "other"}


def test_nothing_but_its_own_text_matches_a_key(aisle_home: Path) -> None:
    api_keys.ensure()
    keys = {each.key_id: each for each in api_keys.read()}
    plain = api_keys.plain_keys()["server"]
    other = api_keys.plain_keys()["admin"]
    mixed = "_".join([*other.split("_", 3)[:3], plain.split("_", 3)[3]])
    for wrong in (
        "",
        "_",
        "___",
        plain[:-1],
        plain + "x",
        plain.upper(),
        mixed,
        "aisle_server__",
        "\ud800_a_b_c",
    ):
        assert api_keys.matching(keys, wrong.encode("utf-8", "replace").decode()) is None


def test_a_rotated_key_takes_its_place_in_the_plain_file(aisle_home: Path) -> None:
    api_keys.ensure()
    before = api_keys.plain_keys()
    _, plain = api_keys.rotate("server", grace_hours=2)
    after = api_keys.plain_keys()
    assert after == {**before, "server": plain}
    assert stat.S_IMODE(api_keys.first().stat().st_mode) == 0o600
    old, new = (each for each in api_keys.read() if each.name == "server")
    assert old.expires_at is not None
    left = datetime.fromisoformat(old.expires_at) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left < timedelta(hours=2.1)
    assert new.expires_at is None
    assert (new.scopes, new.kind) == (old.scopes, old.kind)


def test_a_key_that_expires_soon_is_not_prolonged_by_rotating(aisle_home: Path) -> None:
    key, _ = api_keys.create("brief", days=0.01)
    api_keys.rotate("brief", grace_hours=100)
    assert {each.expires_at for each in api_keys.read()} == {key.expires_at}


def test_every_fault_of_a_wish_is_told(aisle_home: Path) -> None:
    with pytest.raises(SettingsError) as error:
        api_keys.create(
            "a/b", "public", ["read", "admin", "fly"], ["shop.example", "https://a.example/x"], days=-1
        )
    for part in ("'a/b'", "not admin", "'fly'", "'shop.example'", "a.example/x", "-1"):
        assert part in str(error.value)
    with pytest.raises(SettingsError, match="only a public key"):
        api_keys.create("s", "server", origins=["https://a.example"])
    api_keys.create("twice")
    with pytest.raises(SettingsError, match="already"):
        api_keys.create("twice")
    with pytest.raises(NotThere):
        api_keys.revoke("none")
    with pytest.raises(NotThere):
        api_keys.rotate("none")
    assert active() == ["twice"]


def test_a_torn_file_is_told_and_not_written_over(aisle_home: Path) -> None:
    api_keys.ensure()
    api_keys.path().write_text('{"keys": [{"key_id"')
    with pytest.raises(SettingsError, match="no list of keys"):
        api_keys.create("x")
    assert api_keys.path().read_text() == '{"keys": [{"key_id"'


def test_the_command(aisle_home: Path) -> None:
    run = CliRunner().invoke
    assert "no keys yet" in run(app, ["keys", "list"]).output
    made = run(
        app, ["keys", "create", "front", "--public", "--origin", "https://shop.example", "--days", "30"]
    )
    plain = made.output.splitlines()[0]
    assert plain.startswith("aisle_public_")
    found = json.loads(run(app, ["keys", "list", "--json"]).output)
    assert found[0]["origins"] == ["https://shop.example"]
    assert found[0]["state"] == "active"
    assert not {"salt", "hash"} & set(found[0])
    rotated = json.loads(run(app, ["keys", "rotate", "front", "--grace-hours", "1", "--json"]).output)
    assert rotated["key"] != plain
    listed = run(app, ["keys", "list"]).output
    assert plain not in listed
    assert "https://shop.example" in listed
    assert run(app, ["keys", "revoke", "front"]).output.count("front (") == 2
    assert active() == []
    for command in ("list", "create", "revoke", "rotate", "user-token", "user-secret"):
        assert "Example: aisle keys" in run(app, ["keys", command, "--help"]).output


def test_the_command_for_pages(aisle_home: Path) -> None:
    def told(*words: str) -> str:
        return CliRunner().invoke(app, ["keys", *words]).output.strip()

    token = told("user-token", "ann", "--hours", "1")
    secret = told("user-secret")
    assert user_tokens.user_of(bytes.fromhex(secret), token) == "ann"
    assert json.loads(told("user-token", "bob", "--json"))["user_id"] == "bob"
    other = json.loads(told("user-secret", "--new", "--json"))["secret"]
    assert other != secret
    with pytest.raises(NoProof):
        user_tokens.user_of(bytes.fromhex(other), token)
    for wrong in (("user-token", "ann", "--hours", "0"), ("user-token", " ")):
        assert isinstance(CliRunner().invoke(app, ["keys", *wrong]).exception, SettingsError)


def test_status_says_where_the_keys_are(settings: Settings) -> None:
    assert json.loads(status.show(settings, as_json=True))["keys"] is None
    api_keys.ensure()
    shown = status.show(settings)
    assert f"keys      3 active; the first ones in {api_keys.first()}" in shown
    assert not [plain for plain in api_keys.plain_keys().values() if plain in shown]
    api_keys.first().unlink()
    assert "keys      3 active: aisle keys list" in status.show(settings)
