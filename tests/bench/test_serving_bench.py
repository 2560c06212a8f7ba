"""The arithmetic of the serving bench: what is expanded, what is asked, and what becomes of what was heard."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import expansion, online_retail, serving, serving_floor, serving_index
from bench.expansion import Size
from bench.load import Heard, closed, gets, opened, posts
from bench.serving_phases import Questions, Round, _median_of_log, middle, ruled
from tests.serving.conftest import stage

SMALL = Size(items=60, users=90, seed=7)


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    """A shop of 20 items and 30 users."""
    random = np.random.default_rng(3)
    n = 800
    user = random.integers(0, 30, n)
    at = pd.Timestamp(online_retail.END) - pd.to_timedelta(
        np.sort(random.integers(0, 300, n))[::-1], unit="D"
    )
    frame = pd.DataFrame(
        {
            "user_id": [f"{each}" for each in user],
            "item_id": [f"i{each}" for each in random.integers(0, 20, n)],
            "time": at.astype("datetime64[us, UTC]"),
            "kind": np.where(random.random(n) < 0.05, "return", "purchase"),
            "quantity": 1.0,
            "price": random.uniform(1, 9, n).round(2),
            "country": "France",
            "title": "A THING",
        }
    )
    days = frame["time"].dt.strftime("%j")
    return frame.assign(order_id=frame["user_id"] + "/" + days).sort_values("time", ignore_index=True)


def test_an_expansion_has_the_users_and_no_line_of_its_own(lines: pd.DataFrame) -> None:
    found = expansion.expand(lines, SMALL)
    assert found["user_id"].nunique() == 90
    assert found["item_id"].nunique() <= 60
    real = set(zip(lines["user_id"], lines["item_id"], lines["time"], lines["kind"], strict=True))
    user, item = (found[name].str.rsplit("-", n=1).str[0] for name in ("user_id", "item_id"))
    assert set(zip(user, item, found["time"], found["kind"], strict=True)) <= real
    assert found["time"].is_monotonic_increasing
    pd.testing.assert_frame_equal(found, expansion.expand(lines, SMALL))
    other = expansion.expand(lines, Size(60, 90, seed=8))
    assert len(other) != len(found) or not other["item_id"].equals(found["item_id"])


def test_who_bought_again_buys_the_same_variant_again(lines: pd.DataFrame) -> None:
    found = expansion.expand(lines, SMALL)
    real = found["item_id"].str.rsplit("-", n=1).str[0]
    assert found.groupby([found["user_id"], real])["item_id"].nunique().max() == 1
    assert found.groupby("item_id")["title"].nunique().max() == 1
    assert found.groupby(real)["title"].nunique().max() > 1


def test_an_expansion_keeps_whole_orders(lines: pd.DataFrame) -> None:
    found = expansion.expand(lines, SMALL)
    sizes = lines.groupby("order_id").size()
    orders = found.groupby("order_id").size()
    assert (orders == sizes.reindex(orders.index.str.rsplit("-", n=1).str[0]).to_numpy()).all()


def test_the_catalogue_of_an_expansion_is_whole(lines: pd.DataFrame) -> None:
    found = expansion.expand(lines, SMALL)
    cut = online_retail.END - timedelta(days=28)
    items = expansion.items_of(found, lines, cut, SMALL)
    assert len(items) == items["item_id"].nunique() == 60
    assert (items["price"] > 0).all()
    assert items["n_buyers"].max() <= 90
    assert set(found[found["time"] < cut]["item_id"]) <= set(items["item_id"])


def test_an_expansion_does_not_shrink(lines: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="30 users and 20 items do not expand to 10 and 60"):
        expansion.expand(lines, Size(items=60, users=10))


def test_no_question_is_asked_twice() -> None:
    questions = Questions(ruled(["a", "b"], ["x", "y"], 10.0))
    asked = [next(questions.stream("k")) for _ in range(50)]
    assert len(set(asked)) == 50
    body = json.loads(asked[0].partition(b"\r\n\r\n")[2])
    assert body["rules"]["exclude"] == ["x", "y"]
    assert int(asked[0].lower().split(b"content-length: ")[1].split(b"\r\n")[0]) == len(
        asked[0].partition(b"\r\n\r\n")[2]
    )


def test_a_percentile_is_of_the_answers_of_its_time() -> None:
    heard = Heard(2.0, at=[0.1, 0.2, 1.5], times=[0.001, 0.003, 0.5])
    assert heard.goodput == 1.5
    assert heard.percentile(50) == pytest.approx(3.0)
    assert heard.percentile(50, until=1.0) == pytest.approx(2.0)
    assert math.isnan(heard.percentile(50, since=9.0))


async def _serving(stall: Callable[[int], float], ask: Callable[[int], Awaitable[Heard]]) -> Heard:
    """An HTTP server that takes one request after the other, the n-th `stall(n)` seconds, asked by `ask(port)`."""
    lock, count = asyncio.Lock(), 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                async with lock:
                    count += 1
                    await asyncio.sleep(stall(count))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        return await ask(server.sockets[0].getsockname()[1])


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """A server that stalls once for 0.4 s: a closed loop hears of it once, an open one in all that came meanwhile."""

    def stall(number: int) -> float:
        return 0.4 if number == 20 else 0.0

    quick = asyncio.run(_serving(stall, lambda port: closed(port, gets(lambda _: "/", "k"), 1, 1.0)))
    steady = asyncio.run(_serving(stall, lambda port: opened(port, gets(lambda _: "/", "k"), 100, 1.0)))
    assert quick.percentile(90) < 100
    assert steady.percentile(85) > 100
    assert 50 < sum(steady.statuses.values()) < 160, "the rate is kept through the stall"


def test_posts_carry_a_name_that_the_log_can_be_searched_for(tmp_path: Path) -> None:
    assert b"X-Request-ID: kept-3-0\r\n" in next(posts("/v1/popular", lambda _: {}, "k", "kept-3-"))
    log = tmp_path / "api.log"
    lines = [
        {"message": "answered", "request_id": f"kept-3-{number}", "ms": ms}
        for number, ms in enumerate((0.4, 0.6, 9.0))
    ]
    lines += [{"message": "answered", "request_id": "kept-2-0", "ms": 100.0}, {"request_id": "kept-3-9"}]
    log.write_text("\n".join(json.dumps(line) for line in lines))
    assert _median_of_log(log, "kept-3-") == 0.6
    assert math.isnan(_median_of_log(log, "kept-4-"))


def found_of(peaks: list[float], floors: list[float], peers: list[float]) -> dict:
    rounds = [
        {
            "peak": peak,
            "floor": floor,
            "peer": peer,
            "one p50": 2.0,
            "half p50": 3.0,
            "half p99": 9.0,
            "kept p50": 0.5,
            "kept p50 outside": 0.9,
        }
        for peak, floor, peer in zip(peaks, floors, peers, strict=True)
    ]
    swap = {"errors": 0, "quiet": 10.0, "during": 12.0, "seconds": 2.0}
    return {
        "rounds": rounds,
        "statuses": [{"peak": {"200": 90}, "half": {"200": 9, "503": 1}}],
        "swaps": [swap, {**swap, "errors": 2, "during": 30.0}, swap],
        "changed": [0.01] * 19 + [0.5],
        "starts": [3.0, 9.0, 4.0],
        "ready_bytes": 2**29,
        "twice_bytes": 3 * 2**30,
        "loaded_bytes": 2**31,
        "reads": {"ours 1": 100.0, "sdk 1": 900.0, "ours 64": 2000.0, "sdk 64": 9000.0},
        "lists found kept": {"hit": 0.0, "miss": 99.0},
    }


def test_figures_are_medians_of_rounds_and_of_their_ratios() -> None:
    made = serving.figures("online_retail", found_of([100, 10, 50], [100, 100, 100], [10, 10, 1]))
    value = {label.removeprefix("online_retail: "): figure for label, figure in made.items()}
    assert value["full path, peak"].value == 50
    assert value["full path over floor"].value == 0.5
    assert value["full path over floor"].met
    assert value["full path over peer"].value == 10
    assert value["swap and rollback, errors"].value == 2
    assert value["swap and rollback, errors"].met is False
    assert value["swap and rollback, p99 over quiet"].value == pytest.approx(1.2)
    assert value["strange answers"].value == 1
    assert value["start to ready"].value == 4.0
    assert value["memory after the load"].value == 2.0
    assert value["memory after the load"].met
    assert value["feature read, one user, over Feast's"].value == 9
    assert value["feature read, 64 users, over Feast's"].met is False
    assert value["event to changed answer, p95"].value == pytest.approx(34.5)


def test_an_expanded_shop_is_called_what_it_is() -> None:
    made = serving.figures("expanded", found_of([1], [1], [1]))
    assert all(label.startswith("expanded (simulated expansion): ") for label in made)


def test_the_middle_of_what_no_round_has_is_unknown() -> None:
    assert math.isnan(middle([Round()], "peak"))
    assert middle([Round({"peak": 3.0}), Round({"peak": 1.0}), Round()], "peak") == 2.0


def test_the_index_is_held_against_what_is_exact() -> None:
    """Vectors in groups, as learnt ones are. A search that forgets the best one of ten is told from one that does not."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(40, 16))
    vectors = (centres[random.integers(0, 40, 6000)] + 0.4 * random.normal(size=(6000, 16))).astype(
        np.float32
    )
    queries = (centres[random.integers(0, 40, 8)] + 0.4 * random.normal(size=(8, 16))).astype(np.float32)
    found = serving_index.measure(vectors, queries)
    assert found["recall"] > 0.8  # of vectors made up; what the bench wants of learnt ones is its target
    assert found["filtered recall"] == 1.0
    assert found["changed recall"] > 0.8
    exact = serving_index.exact(vectors)
    best = np.argsort(-(vectors @ queries[0]))[: serving_index.K]
    assert exact(queries[0]).tolist() == best.tolist()
    worse = serving_index.compare(lambda query: exact(query)[1:], exact, queries)
    assert worse[2] == pytest.approx(0.9)


def test_the_floor_answers_with_the_lists_of_the_engine(aisle_home: Path) -> None:
    from bench.serving_floor import Floor
    from engine.state import UserState

    stage("1")
    floor = Floor()
    state = UserState("u", "France", ["i001", "i002"], ["purchase"] * 2, [1_300_000_000] * 2)
    floor.store = type("Store", (), {"read": lambda self, service, users: [state]})()
    items = json.loads(floor.answer("u"))["items"]
    wanted = floor.recommender.recommend(state, serving_floor.K, floor.now)
    assert [each["item_id"] for each in items] == [each.item_id for each in wanted]
