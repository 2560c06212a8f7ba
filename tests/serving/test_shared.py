"""Lists in Redis, against a real one: shared by workers, another key after every change, and done without when it is gone."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from aisle import settings as settings_module
from aisle.errors import SettingsError
from aisle.settings import Settings
from bench.pipeline import free_port
from engine.state import UserState
from serving import owned, shared
from serving.asking import Ask
from serving.cached import Pool
from serving.exposures import Shown
from serving.making import Made
from serving.rulebook import EMPTY
from serving.shared import SharedLists, packed, unpacked
from serving.told_items import ToldItems
from tests.serving.conftest import CUT, Kept, asking, running, stage
from tests.serving.test_beside import until

SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="no redis-server here: apt-get install redis-server")
REST = 0.3


class Redis:
    """A server of the test's own, without a disk."""

    def __init__(self, folder: Path):
        self.port, self.folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [
            str(SERVER),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not come up")

    def client(self):
        from redis import Redis as Client

        return Client.from_url(self.url)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    found = Redis(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def workers(redis: Redis, monkeypatch: pytest.MonkeyPatch, aisle_home: Path) -> Iterator[list[httpx.Client]]:
    """Two processes' worth of the API over one home, both with the same Redis."""
    for name, value in (
        ("SERVING__CACHE", redis.url),
        ("SERVING__CACHE_TIMEOUT_SECONDS", "0.2"),
        ("ANSWERS__DEADLINE_SECONDS", "5"),
        ("ANSWERS__PREPARED_USERS", "0"),
        ("SERVING__FEATURE_DEADLINE_SECONDS", "5"),
        ("SERVING__POINTER_SECONDS", "0.05"),
    ):
        monkeypatch.setenv(f"AISLE_{name}", value)
    monkeypatch.setattr(shared, "REST_SECONDS", REST)
    monkeypatch.setattr("serving.prepared.Prepared.start", lambda self: None)
    monkeypatch.setattr("serving.prepared.Prepared.stop", lambda self: None)
    settings_module.load.cache_clear()
    settings = settings_module.load()
    stage("1")
    with ExitStack() as stack:
        clients = []
        for _ in range(2):
            client = stack.enter_context(asking(stack.enter_context(running(settings, Kept()))))
            until(lambda client=client: client.get("/readyz").status_code == 200)
            clients.append(client)
        yield clients


def counted(client: httpx.Client, outcome: str) -> float:
    wanted = f'aisle_shared_lists_total{{outcome="{outcome}"}} '
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def up(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("aisle_shared_cache_up "))


def ask(client: httpx.Client, user: str = "u001", **more: object) -> dict:
    answer = client.post("/v1/recommendations", json={"user_id": user, "k": 8, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


@needs_redis
def test_what_one_worker_made_the_other_need_not(workers: list[httpx.Client], redis: Redis) -> None:
    one, other = workers
    made = ask(one)
    until(lambda: counted(one, "stored") == 1)
    taken = ask(other)
    assert taken["items"] == made["items"]
    assert taken["rung"] == made["rung"] == "personalised"
    assert (counted(other, "hit"), counted(other, "miss")) == (1, 0)
    ask(other)
    assert counted(other, "hit") == 1, "the second time it is in the process"
    turned = ask(other, request_id=taken["request_id"], page=2)
    assert turned["items"], "its further pages are made from what was shared"
    assert not {each["item_id"] for each in turned["items"]} & {each["item_id"] for each in taken["items"]}
    keys = redis.client().keys()
    assert len(keys) == 2, "the list, and whose it is"
    assert all(redis.client().ttl(key) > 3000 for key in keys)


@needs_redis
def test_every_change_is_another_list(workers: list[httpx.Client]) -> None:
    one, other = workers
    rules = {"in_stock": True}
    first = ask(one, rules=rules)["items"][0]["item_id"]
    until(lambda: counted(one, "stored") == 1)
    assert ask(other, rules=rules)["items"][0]["item_id"] == first

    told = one.patch(f"/v1/items/{first}", json={"stock": 0})
    assert told.status_code < 300, told.text
    for client in workers:
        until(
            lambda client=client: first not in {each["item_id"] for each in ask(client, rules=rules)["items"]}
        )
    stored = counted(one, "stored") + counted(other, "stored")
    assert stored == 2, "both were told the same, so that the second found what the first made"

    second = ask(one, rules=rules)["items"][0]["item_id"]
    assert one.put("/v1/rules", json={"all": {"exclude": [second]}}).status_code == 200
    for client in workers:
        until(
            lambda client=client: (
                second not in {each["item_id"] for each in ask(client, rules=rules)["items"]}
            )
        )

    stage("2", seed=8)
    for client in workers:
        until(lambda client=client: ask(client, rules=rules)["model_version"] == "2")


@needs_redis
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_answers_go_on_without_it_and_it_is_asked_seldom(
    workers: list[httpx.Client], redis: Redis, how: str
) -> None:
    one = workers[0]
    ask(one)
    until(lambda: counted(one, "stored") == 1)
    if how == "stopped":
        redis.process.send_signal(signal.SIGSTOP)
    else:
        redis.kill()
    started = time.monotonic()
    for number in range(30):
        assert ask(one, user=f"u{number:03d}")["degraded"] == []
    took = time.monotonic() - started
    errors, tries = counted(one, "error"), took / REST
    assert 1 <= errors <= 2 * tries + 3, "a fault costs one request, not each"
    assert counted(one, "resting") + counted(one, "dropped") > 10
    assert up(one) == 0
    if how == "stopped":
        redis.process.send_signal(signal.SIGCONT)
    else:
        redis.start()
    time.sleep(REST)
    stored = counted(one, "stored")

    def back() -> bool:
        ask(one, user="u050", rules={"price": {"max": time.monotonic()}})
        return counted(one, "stored") > stored and up(one) == 1

    until(back)


@needs_redis
def test_what_is_no_list_is_a_miss(workers: list[httpx.Client], redis: Redis) -> None:
    one, other = workers
    made = ask(one)
    until(lambda: counted(one, "stored") == 1)
    client = redis.client()
    (key,) = client.keys("aisle:list:*")
    client.set(key, b'{"rung": "personalised"}\n[1, 2')
    assert ask(other)["items"] == made["items"]
    assert counted(other, "strange") == 1
    text = b"".join(
        [key, client.get(key), *client.keys("*"), *client.zrange(client.keys("aisle:lists-of:*")[0], 0, -1)]
    )
    assert b"u001" not in text, "nothing about who asked is stored"


def lists(redis: Redis) -> set[bytes]:
    return set(redis.client().keys("aisle:list:*"))


@needs_redis
def test_an_erasure_takes_a_person_s_lists_along(
    workers: list[httpx.Client], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that either worker made, and one that comes late; nobody else's."""
    monkeypatch.setattr(owned, "AGAIN_SECONDS", 1.0)
    one, other = workers
    ask(one, user="u002")
    until(lambda: len(lists(redis)) == 1)
    kept = lists(redis)
    for number, client in enumerate([one, other, one]):
        ask(client, rules={"price": {"max": 1000 + number}})
    until(lambda: len(lists(redis)) == 4)
    assert one.delete("/v1/users/u001").status_code == 202
    until(lambda: lists(redis) == kept)
    assert counted(one, "erased") + counted(other, "erased") == 3
    late = owned.owner("user", "u001")
    owned.store(redis.client(), "aisle:list:late", b"of a worker that was at it", [late], 3600)
    until(lambda: lists(redis) == kept)
    assert not redis.client().exists(late)


@needs_redis
def test_an_erasure_waits_for_a_redis_that_is_away(
    workers: list[httpx.Client], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = workers[0]
    ask(one)
    until(lambda: len(lists(redis)) == 1)
    redis.process.send_signal(signal.SIGSTOP)
    assert one.delete("/v1/users/u001").status_code == 202
    until(lambda: counted(one, "error") > 0)
    redis.process.send_signal(signal.SIGCONT)
    until(lambda: not lists(redis))


@needs_redis
def test_the_lists_of_a_session_are_its_person_s(settings: Settings, redis: Redis) -> None:
    made = settings.model_copy(update={"serving": settings.serving.model_copy(update={"cache": redis.url})})
    told = type("Told", (), {"of": lambda self, view: "told"})()
    kept = SharedLists(made, told, CollectorRegistry())
    ask_of = [Ask(session_id="s1"), Ask(session_id="s2"), Ask(user_id="u", session_id="s3")]
    kept.start()
    for number, each in enumerate(ask_of):
        key = (("1", "a"), 0, f"print {number}", replace(each, session_id=None))
        name = kept.key(key, None, EMPTY, each)
        assert name is not None
        kept.put(name, list_of([f"i{number}"]))
    assert kept.key((("1", "a"), 0, "", Ask()), None, EMPTY, Ask(session_id="s1")).owners == ()
    until(lambda: len(lists(redis)) == 3)
    kept.take("erasures", [{"user_id": "u", "at": 1, "sessions": ["s1"]}])
    until(lambda: len(lists(redis)) == 1)
    kept.stop()


@needs_redis
def test_a_set_of_owners_keeps_what_stands_alone(redis: Redis) -> None:
    client, name = redis.client(), owned.owner("user", "u")
    owned.store(client, "aisle:list:short", b"x", [name], 1)
    time.sleep(1.1)
    owned.store(client, "aisle:list:long", b"x", [name], 60)
    assert client.zrange(name, 0, -1) == [b"aisle:list:long"]
    assert 0 < client.ttl(name) <= 60
    assert owned.drop(client, [name, owned.owner("user", "nobody")]) == 1
    assert client.keys() == []


def list_of(ids: list[str]) -> Made:
    pool = Pool(
        "personalised", ids, np.linspace(1, 0, len(ids)).astype(np.float32), len(ids), UserState("u"), CUT
    )
    items = [{"item_id": ids[0], "position": 1, "title": "ü \n x", "price": None}]
    return Made(pool, shared.to_json(items), (Shown(ids[0], 1, "linear", 0.5),), True)


def test_a_list_comes_back_as_it_went() -> None:
    made = list_of(["a", "b\nc", "ü"])
    back = unpacked(packed(made), UserState("u"))
    assert back is not None
    assert (back.items, back.json, back.shown, back.more) == (made.items, made.json, made.shown, made.more)
    assert back.pool.ids == made.pool.ids
    assert back.pool.scores.tolist() == made.pool.scores.tolist()
    assert (back.pool.rung, back.pool.own, back.pool.now) == (made.pool.rung, made.pool.own, made.pool.now)


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"{}",
        b"x\ny",
        packed(list_of(["a"]))[:-2],
        b"[]\n[]",
        b"{" * 100_000,
        packed(list_of(["a"])).rpartition(b"\n")[0] + b"\n[1]",
        packed(list_of(["a"])).replace(b'"item_id":"a"', b'"item_id":"b"'),
    ],
)
def test_a_spoilt_list_is_none(spoilt: bytes) -> None:
    assert unpacked(spoilt, UserState("u")) is None


class Overlaid:
    """As much of an overlay as is asked."""

    def __init__(self) -> None:
        from serving.told import Told

        self.items: dict[str, Told] = {}
        self.version, self.placed = 0, ""
        self.shelf = type("Shelf", (), {"delta_version": 3})()

    def take(self, rows: list[dict]) -> None:
        from serving.told import ITEM_FIELDS, Told

        for row in rows:
            self.items.setdefault(row["item_id"], Told()).fold(row, ITEM_FIELDS)
            self.version += 1

    def placed_of(self, version: str) -> str:
        return self.placed


def test_who_was_told_the_same_has_the_same_name() -> None:
    rows = [
        {"item_id": "a", "stock": "0", "at": 1},
        {"item_id": "b", "price": "2.50", "at": 2},
        {"item_id": "a", "stock": "7", "at": 3},
    ]
    names = []
    for order in (rows, rows[::-1], [*rows, *rows], rows[1:]):
        overlay = Overlaid()
        told = ToldItems(overlay)
        for row in order:
            overlay.take([row])
            told.take("items", [row])
        shown = {"overlay": overlay.version, "version": "1", "__len__": lambda self: 40}
        view = type("View", (), shown)()
        names.append(told.of(view))
        overlay.placed = "others"
        assert told.of(view) != names[-1], "other items of silver lie over the release"
        overlay.placed = ""
        overlay.version += 1
        assert told.of(view) is None, "more was told since the view was made"
    assert len(set(names)) == 1, "the stock of 0 was forgotten by all of them"


def test_the_setting_is_process_or_a_redis(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, fine in (
        ("process", True),
        ("redis://cache:6379/1", True),
        ("memcached://x", False),
        ("", False),
    ):
        monkeypatch.setenv("AISLE_SERVING__CACHE", text or '""')
        settings_module.load.cache_clear()
        if fine:
            assert settings_module.load().serving.cache == text
        else:
            with pytest.raises(SettingsError, match=r"serving\.cache"):
                settings_module.load()
    settings_module.load.cache_clear()


def test_the_default_keeps_lists_in_the_process(settings: Settings) -> None:
    assert settings.serving.cache == "process"
