"""GET and POST /v1/search over a shop of real titles: the contract, preference, filters, facets, pages, refusals, and what is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from aisle import api_keys
from aisle import settings as settings_module
from serving import release
from serving.search_asking import ANSWER, SearchAnswer
from serving.telemetry import JsonLines
from tests.serving import search_shop
from tests.serving.conftest import CUT, Kept, asking, running
from tests.serving.test_api import refused
from tests.serving.test_client import Aisle
from tests.serving.test_exposures import landed
from tests.serving.test_swap import wait_for

PATH = "/v1/search"
BAG = "JUMBO BAG RED RETROSPOT"


def stage(version: str, point: bool = True) -> release.Pointer:
    folder = release.folder(version)
    search_shop.recommender().save(folder / "bundle")
    digest = release.digest(folder / "bundle")
    release.write_json(
        folder / "smoke.json", {"verdict": "passed", "digest": digest, "as_of": CUT.isoformat()}
    )
    staged = release.staged(version)
    assert staged is not None
    staged = replace(staged, at=CUT.replace(minute=int(version)).isoformat())
    if point:
        release.point(staged)
    return staged


def store() -> Kept:
    from engine.state import from_frame

    found = Kept()
    found.states = {state.user_id: state for state in from_frame(search_shop.histories(search_shop.items()))}
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("search")))
        for name in ("AISLE_ANSWERS__DEADLINE_SECONDS", "AISLE_SERVING__FEATURE_DEADLINE_SECONDS"):
            patch.setenv(name, "5")
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), store()) as url, asking(url) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, 90)
            yield client
    settings_module.load.cache_clear()


def found(shop: httpx.Client, q: str = "", **asked) -> dict:
    answer = shop.post(PATH, json={"q": q, **asked})
    assert answer.status_code == 200, answer.text
    return SearchAnswer.model_validate(answer.json()) and answer.json()


def ids(answer: dict) -> list[str]:
    return [each["item_id"] for each in answer["items"]]


def test_a_misspelt_text_finds_its_item_and_says_how(shop: httpx.Client) -> None:
    answer = found(shop, "jmubo bags retropsot red", user_id="u001", k=5)
    assert answer["items"][0]["title"] == BAG
    assert answer["corrected"] == "jumbo bags retrospot red"
    assert (answer["matching"], answer["rung"], answer["model_version"]) == ("all", "personalised", "1")
    assert {word["word"]: word["how"] for word in answer["words"]}["jmubo"] == "corrected"
    hits = {hit["word"]: hit for hit in answer["items"][0]["matched"]}
    assert hits["jmubo"] == {"word": "jmubo", "as": "jumbo", "how": "corrected", "in": "title"}
    assert hits["bags"]["how"] == "form"
    assert [each["position"] for each in answer["items"]] == list(range(1, len(answer["items"]) + 1))


def test_get_and_post_say_the_same(shop: httpx.Client) -> None:
    asked = {"q": "lunch bag", "user_id": "u003", "min_price": 1, "max_price": 9, "in_stock": True, "k": 7}
    got = shop.get(PATH, params=asked).json()
    rules = {"price": {"min": 1, "max": 9}, "in_stock": True}
    assert ids(got) == ids(found(shop, "lunch bag", user_id="u003", rules=rules, k=7))
    assert got["total"] >= len(got["items"]) > 0


def test_the_score_is_the_documented_sum_and_orders_the_answer(shop: httpx.Client) -> None:
    weight = settings_module.load().search.preference
    for user in ("u001", "u007", None):
        answer = found(shop, "retrospot", k=30, **({"user_id": user} if user else {}))
        scores = [each["score"] for each in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        for each in answer["items"]:
            text, liked = each["text"], each["preference"]
            assert each["score"] == pytest.approx(text["share"] + liked["share"], abs=1e-5)
            assert text["share"] == pytest.approx((1 - weight) * text["fit"], abs=1e-5)
            assert liked["share"] == pytest.approx(weight * liked["fit"], abs=1e-5)
            assert 0 <= liked["fit"] <= 1


def test_who_asks_decides_among_items_that_fit_alike(shop: httpx.Client) -> None:
    mine = shop.get("/v1/recommendations", params={"user_id": "u002", "k": 100}).json()
    wanted = next(each for each in mine["items"] if {"BAG", "HEART"} & {*each["title"].split()})
    word = "bag" if "BAG" in wanted["title"].split() else "heart"
    stranger, known = (ids(found(shop, word, k=100, **who)) for who in ({}, {"user_id": "u002"}))
    assert set(stranger) == set(known)
    assert known != stranger
    assert known.index(wanted["item_id"]) <= stranger.index(wanted["item_id"])
    assert found(shop, word)["rung"] == "popular"
    assert found(shop, word, country="France")["rung"] == "segment"


def test_a_session_counts_at_once(shop: httpx.Client) -> None:
    before = found(shop, "bag", session_id="s-search", k=50)
    last = before["items"][-1]["item_id"]
    event = {"event_type": "purchase", "session_id": "s-search", "item_id": last, "order_id": "o"}
    assert shop.post("/v1/events", json=event).status_code == 202
    after = found(shop, "bag", session_id="s-search", k=50)
    assert (before["rung"], after["rung"]) == ("popular", "session")
    assert after["items"] != before["items"]


def test_browsing_is_by_preference_alone(shop: httpx.Client) -> None:
    answer = found(shop, user_id="u001", category="lights", k=20)
    assert answer["matching"] == "browse"
    assert answer["items"]
    places = [each["preference"]["place"] for each in answer["items"]]
    assert places == sorted(places)
    assert all(each["text"] is None and each["matched"] == [] for each in answer["items"])
    hidden = answer["items"][0]["item_id"]
    shop.post("/v1/users/u001/preferences", json={"item_id": hidden, "preference": "hide"})
    assert hidden not in ids(found(shop, user_id="u001", category="lights", k=20))
    assert hidden in ids(found(shop, hidden, user_id="u001"))  # asked for by name it is there
    shop.post("/v1/users/u001/preferences", json={"item_id": hidden, "preference": "undo"})


def test_facets_count_all_that_was_found(shop: httpx.Client) -> None:
    for q in ("", "retrospot", "heart", "vintage"):
        answer = found(shop, q, k=3)
        facets, total = answer["facets"], answer["total"]
        assert sum(each["count"] for each in facets["prices"]) + facets["without_price"] == total
        assert {each["value"]: each["count"] for each in facets["categories"]}["home"] == total
        assert len(facets["prices"]) <= settings_module.load().search.price_ranges
        for each in facets["prices"]:
            rules = {"price": {"min": each["min"], "max": each["max"]}}
            if each["min"] is not None or each["max"] is not None:
                assert found(shop, q, rules=rules)["total"] == each["count"], each
        for each in facets["brands"]:
            assert found(shop, q, rules={"brands": {"include": [each["value"]]}})["total"] == each["count"]
        for each in facets["categories"]:
            assert found(shop, q, category=each["value"])["total"] == each["count"]


def test_pages_repeat_nothing_and_end(shop: httpx.Client) -> None:
    first = found(shop, "bag", user_id="u004", k=7)
    seen, answer = ids(first), first
    while answer["next_page"]:
        answer = found(shop, "bag", user_id="u004", page=answer["next_page"], request_id=first["request_id"])
        assert answer["request_id"] == first["request_id"]
        assert answer["total"] == first["total"]
        seen += ids(answer)
    assert len(seen) == len(set(seen)) == first["total"]
    assert [each["position"] for each in answer["items"]][-1] == first["total"]
    skipped = found(shop, "", user_id="u004", page=3, request_id=first["request_id"])
    assert skipped["query"] == "bag"
    assert ids(skipped) == seen[14:21]
    refused(
        shop.post(PATH, json={"q": "mug", "page": 2, "user_id": "u004", "request_id": first["request_id"]}),
        422,
    )
    refused(
        shop.post(PATH, json={"q": "bag", "page": 2, "user_id": "u005", "request_id": first["request_id"]}),
        404,
    )
    refused(shop.post(PATH, json={"q": "bag", "page": 2}), 422)


def test_what_finds_nothing_says_so(shop: httpx.Client) -> None:
    answer = found(shop, "xylophonist")
    assert (answer["total"], answer["items"], answer["matching"]) == (0, [], "none")
    assert "Nothing in this shop" in answer["note"]
    assert answer["facets"] == {"categories": [], "brands": [], "prices": [], "without_price": 0}
    assert found(shop, "retrospottinge")["suggestion"] == "retrospot"
    filtered = found(shop, "retrospot", rules={"price": {"min": 100_000}})
    assert (filtered["total"], filtered["matching"]) == (0, "all")
    assert filtered["total_unfiltered"] > 5
    assert "filters" in filtered["note"]
    assert "letters" in found(shop, "?!")["note"]
    refused(shop.get(PATH, params={"category": "none such"}), 404)


def test_reasons_are_told_where_they_are_asked_for(shop: httpx.Client) -> None:
    answer = found(shop, "bag", user_id="u001", explain=True, k=3)
    assert all(each["reason"]["text"] for each in answer["items"])
    assert found(shop, "bag", k=1, explain=True)["items"][0]["reason"]["source"] == "popularity"
    assert found(shop, "bag", k=1)["items"][0]["reason"] is None


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"q": "x" * 10_000}, {"body.q"}),
        ({"q": 7}, {"body.q"}),
        ({"q": None}, {"body.q"}),
        ({"q": "a", "k": 0, "user_id": "\0", "rules": {"price": {"min": 9, "max": 1}}, "limit": 1}, {"body.k", "body.user_id", "body.rules.price", "body.limit"}),
        ({"q": "a", "typing": "perhaps"}, {"body.typing"}),
        ({"q": "a", "rules": {"colours": ["red"]}}, {"body.rules.colours"}),
    ],
)  # fmt: skip
def test_every_fault_is_listed(shop: httpx.Client, body: dict, faults: set[str]) -> None:
    problem = refused(shop.post(PATH, json=body), 422)
    assert {fault["where"] for fault in problem["errors"]} == faults


@pytest.mark.parametrize(
    "q",
    [
        "\0",
        "a\0b",
        "'; DROP TABLE items--",
        ".*(a+)+$",
        "%' OR 1=1",
        "🛒",
        "<script>alert(1)</script>",
        "\u202eabc",
    ],
)
def test_nasty_texts_are_answered(shop: httpx.Client, q: str) -> None:
    assert found(shop, q)["request_id"]
    assert shop.get(PATH, params={"q": q}).status_code == 200
    assert shop.get(f"{PATH}?q=%FF%FE%00").status_code == 200


def test_a_key_must_be_allowed_to_read(shop: httpx.Client) -> None:
    refused(httpx.get(f"{shop.base_url}{PATH}", params={"q": "bag"}), 401)
    public = api_keys.headers("public")
    assert httpx.get(f"{shop.base_url}{PATH}", params={"q": "bag"}, headers=public).status_code == 200
    refused(httpx.get(f"{shop.base_url}{PATH}", params={"q": "bag", "user_id": "u001"}, headers=public), 403)


def test_figures_and_the_document(shop: httpx.Client) -> None:
    found(shop, "bag")
    found(shop, "xylophonist")
    text = shop.get("/metrics").text
    assert 'aisle_searches_total{outcome="none"}' in text
    assert 'aisle_searches_total{outcome="hits"}' in text
    assert "aisle_search_seconds_count" in text
    assert "aisle_empty_answers_total 0.0" in text
    assert f"aisle_search_items {float(search_shop.N_ITEMS)}" in text
    document = shop.get("/openapi.json").json()
    assert document["paths"]["/v1/search"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert SearchAnswer.model_validate(ANSWER)


def test_a_search_is_on_record_with_its_text_and_in_no_log(
    aisle_home,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    stage("1")
    caplog.set_level("DEBUG")
    with running(settings_module.load(), store()) as url, asking(url) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        answer = client.get(
            PATH, params={"q": "lunch bga 0815secret", "user_id": "u001", "k": 2, "placement": "top"}
        ).json()
        client.get(PATH, params={"q": "0815secret" * 99})
        client.get("/v1/popular", params={"k": 1})
    rows = {row["kind"]: row for row in landed()}
    row = rows["search"]
    assert row["query"] == "lunch bga 0815secret"
    assert (row["request_id"], row["user_id"], row["placement"]) == (answer["request_id"], "u001", "top")
    items = json.loads(row["items"])
    assert [each["item_id"] for each in items] == ids(answer)
    assert {each["source"] for each in items} == {"search"}
    assert not rows["popular"].get("query")
    out, form = capfd.readouterr(), JsonLines()
    ours = [form.format(each) for each in caplog.records if not each.name.startswith(("httpx", "httpcore"))]
    assert any('"path": "/v1/search"' in line for line in ours)
    assert not [text for text in (*ours, out.out, out.err) if "0815secret" in text]


def test_graphql_answers_the_same_within_its_limits(shop: httpx.Client) -> None:
    query = """query Find($q: String) { search(q: $q, userId: "u001", k: 4, rules: {price: {max: 9}}) {
      requestId rung corrected matching total facets { categories { value count } prices { min max count } withoutPrice }
      items { itemId title position score textShare preferenceShare matched } } }"""
    answer = shop.post("/v1/graphql", json={"query": query, "variables": {"q": "retropsot bag"}}).json()
    assert "errors" not in answer, answer
    data, rest = (
        answer["data"]["search"],
        found(shop, "retropsot bag", user_id="u001", k=4, rules={"price": {"max": 9}}),
    )
    assert [each["itemId"] for each in data["items"]] == ids(rest)
    assert (data["corrected"], data["total"]) == (rest["corrected"], rest["total"])
    assert data["facets"]["categories"] == rest["facets"]["categories"]
    first = data["items"][0]
    assert first["textShare"] + first["preferenceShare"] == pytest.approx(first["score"], abs=1e-5)
    many = " ".join(f'a{n}: search(q: "bag", k: 100) {{ total }}' for n in range(6))
    assert (
        "items; at most"
        in shop.post("/v1/graphql", json={"query": f"{{ {many} }}"}).json()["errors"][0]["message"]
    )
    wrong = shop.post("/v1/graphql", json={"query": '{ search(q: "a", k: 0, userId: "") { total } }'}).json()
    problem = wrong["errors"][0]["extensions"]["problem"]
    assert (problem["status"], {each["where"] for each in problem["errors"]}) == (422, {"k", "user_id"})


def test_the_python_client_searches(shop: httpx.Client) -> None:
    with Aisle(str(shop.base_url), api_keys.plain_keys()["server"], timeout=10) as client:
        answer = client.search("retropsot bag", "u001", k=2)
        assert answer.corrected == "retrospot bag"
        assert answer.total > 2 == len(answer.items)
        assert answer.items[0].matched[0]["as"] == "retrospot"
        second = client.search("retropsot bag", "u001", page=2, request_id=answer.request_id)
        assert not {each.item_id for each in answer.items} & {each.item_id for each in second.items}
        assert client.search(category="lights", k=3).items
        assert client.search("xylophonist").note
