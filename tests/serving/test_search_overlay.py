"""What the shop told a moment ago is in the next search, whatever the model knows of it; and a release is swapped without an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle import settings as settings_module
from engine.rules import Caps, Chosen, Pin, PriceRange, Rules
from engine.state import UserState
from serving import release
from serving.asking import Ask
from serving.laying import laid_over
from serving.rulebook import RuleBook
from serving.search_answers import search
from serving.search_asking import Searched
from serving.search_fresh import Fresh, behind
from serving.search_view import Indexed, SearchView, SearchViews, Texts
from serving.told import Told
from serving.view import View
from tests.serving import search_shop
from tests.serving.conftest import asking, running
from tests.serving.test_search_api import PATH, found, ids, stage, store

SEARCH = settings_module.load().search


@pytest.fixture
def shop(aisle_home, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("AISLE_ANSWERS__DEADLINE_SECONDS", "5")
    settings_module.load.cache_clear()
    stage("1")
    with running(settings_module.load(), store()) as url, asking(url) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        yield client
    settings_module.load.cache_clear()


def put(shop: httpx.Client, item: str, **fields: Any) -> None:
    assert shop.put(f"/v1/items/{item}", json=fields).status_code == 202


def test_a_new_item_is_found_in_the_next_answer_and_gone_after_its_deletion(shop: httpx.Client) -> None:
    for turn in range(3):
        item = f"zeppelin-{turn}"
        put(
            shop,
            item,
            title=f"Zeppelin model {turn}",
            categories=["toys", "airships"],
            brand="Graf",
            price=80,
            stock=3,
        )
        answer = found(shop, "zepelin model")
        assert item in ids(answer)
        assert item in ids(found(shop, item))
        assert {"value": "airships", "count": turn + 1} in answer["facets"]["categories"]
        assert {"value": "Graf", "count": turn + 1} in answer["facets"]["brands"]
    assert ids(found(shop, "zeppelin", rules={"price": {"max": 79}})) == []
    assert len(ids(found(shop, "zeppelin", rules={"caps": {"brand": 2}}))) == 2
    assert len(ids(found(shop, category="airships"))) == 3
    shop.put("/v1/items/zeppelin-0/stock", json={"stock": 0})
    assert set(ids(found(shop, "zeppelin", rules={"in_stock": True}))) == {"zeppelin-1", "zeppelin-2"}
    shop.patch("/v1/items/zeppelin-1", json={"title": "Airship kit", "price": 5})
    assert "zeppelin-1" not in ids(found(shop, "zeppelin model"))
    hit = next(each for each in found(shop, "airship")["items"] if each["item_id"] == "zeppelin-1")
    assert (hit["title"], hit["price"]) == ("Airship kit", 5)
    for turn in range(3):
        assert shop.delete(f"/v1/items/zeppelin-{turn}").status_code == 202
    assert found(shop, "zeppelin")["total"] == 0
    put(shop, "zeppelin-0", title="Zeppelin again")
    assert ids(found(shop, "zeppelin")) == ["zeppelin-0"]


def test_it_stays_found_when_the_model_has_placed_it(shop: httpx.Client) -> None:
    put(shop, "dirigible", title="Dirigible lamp", price=9)
    until = time.monotonic() + 60
    while shop.get("/v1/items/dirigible").status_code != 200:
        assert ids(found(shop, "dirigible")) == ["dirigible"]
        assert time.monotonic() < until
        time.sleep(0.05)
    assert ids(found(shop, "dirigible")) == ["dirigible"]
    assert found(shop, "dirigible")["total"] == 1


def test_a_known_item_is_found_as_it_was_told(shop: httpx.Client) -> None:
    first = found(shop, "retrospot bag")["items"][0]
    item = first["item_id"]
    shop.patch(f"/v1/items/{item}", json={"title": "Perambulator cover", "brand": "Acme", "price": 77.5})
    assert item not in ids(found(shop, "retrospot bag", k=50))
    hit = found(shop, "acme perambulatr")["items"][0]
    assert (hit["item_id"], hit["title"], hit["price"]) == (item, "Perambulator cover", 77.5)
    assert item in ids(
        found(shop, "perambulator", rules={"price": {"min": 77}, "brands": {"include": ["Acme"]}})
    )
    shop.put(f"/v1/items/{item}/stock", json={"stock": 0})
    assert ids(found(shop, "perambulator", rules={"in_stock": True})) == []
    assert shop.delete(f"/v1/items/{item}").status_code == 202
    answer = found(shop, "perambulator")
    assert (answer["total"], answer["total_unfiltered"]) == (0, 0)
    assert answer["note"]


def test_the_shops_own_rules_hold(shop: httpx.Client) -> None:
    item = found(shop, "lunch bag")["items"][0]["item_id"]
    last = found(shop, "lunch bag", k=50)["items"][-1]["item_id"]
    other = found(shop, "mug")["items"][0]["item_id"]
    pins = [{"item_id": last, "position": 1}, {"item_id": other, "position": 2}]
    assert (
        shop.put(
            "/v1/rules", json={"all": {"exclude": [item]}, "placements": {"bar": {"pins": pins}}}
        ).status_code
        == 200
    )
    assert item not in ids(found(shop, "lunch bag", k=50))
    answer = found(shop, "lunch bag", placement="bar", k=50)
    assert answer["items"][0]["item_id"] == last
    assert answer["items"][0]["pinned"]
    assert other not in ids(answer)  # pinned, but it is no answer to the question


def test_a_page_shows_nothing_that_was_deleted_meanwhile(shop: httpx.Client) -> None:
    first = found(shop, "heart", k=5)
    rest = found(shop, "heart", k=50)["items"][5:]
    shop.delete(f"/v1/items/{rest[0]['item_id']}")
    second = found(shop, "heart", page=2, request_id=first["request_id"])
    assert rest[0]["item_id"] not in ids(second)
    assert not {*ids(first)} & {*ids(second)}


def test_a_swap_is_searched_through_without_an_error(shop: httpx.Client) -> None:
    put(shop, "ornithopter", title="Ornithopter", price=1)
    errors, stop = [], threading.Event()
    versions: set[str] = set()

    def ask() -> None:
        with httpx.Client(base_url=shop.base_url, headers=shop.headers) as client:
            while not stop.is_set():
                for q in ("retropsot bag", "ornithopter", ""):
                    answer = client.get(PATH, params={"q": q})
                    if answer.status_code != 200 or not answer.json()["items"]:
                        errors.append(answer.text)
                    else:
                        versions.add(answer.json()["model_version"])

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for version in ("2", "3"):
        stage(version)
        until = time.monotonic() + 60
        while shop.get("/readyz").json()["version"] != version:
            assert time.monotonic() < until
            time.sleep(0.05)
        put(shop, f"autogyro-{version}", title=f"Autogyro {version}")
        assert ids(found(shop, f"autogyro {version}"))[0] == f"autogyro-{version}"
    time.sleep(0.3)
    stop.set()
    for asker in askers:
        asker.join()
    assert not errors, errors[:3]
    assert versions >= {"2", "3"}
    assert set(ids(found(shop, "autogyro"))) == {"autogyro-2", "autogyro-3"}


def test_two_releases_side_by_side_are_both_searched(shop: httpx.Client) -> None:
    put(shop, "ornithopter", title="Ornithopter", price=1)
    with release.lock():
        release.put_beside(release.Beside(stage("2", point=False), 0.5))
    until, seen = time.monotonic() + 60, set()
    while seen != {("1", "a"), ("2", "b")}:
        assert time.monotonic() < until, seen
        seen = set()
        for number in range(12):
            answer = found(shop, "ornithoptre", session_id=f"s-{number}")
            assert ids(answer) == ["ornithopter"]
            seen.add((answer["model_version"], answer["variant"]))


def test_there_is_an_answer_when_time_is_short(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISLE_ANSWERS__DEADLINE_SECONDS", "0.000001")
    settings_module.load.cache_clear()
    stage("1")
    with running(settings_module.load(), store()) as url, asking(url) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        until = time.monotonic() + 30
        while (answer := client.get(PATH, params={"q": "bag", "user_id": "u001"})).status_code == 503:
            assert answer.headers["retry-after"]
            assert time.monotonic() < until
        assert answer.json()["degraded"][-1] == "deadline"
        assert answer.json()["rung"] in ("popular", "segment")
        assert answer.json()["items"]
    settings_module.load.cache_clear()


# -- without HTTP: that no filter is ever passed by


def told(**fields: Any) -> Told:
    found = Told()
    found.fields = {name: (value, 1) for name, value in fields.items()}
    return found


@pytest.fixture(scope="module")
def view() -> SearchView:
    """The shop, with ten fresh items behind it, and every seventh item out of stock."""
    recommender = search_shop.recommender()
    stock = {item: row % 7 for row, item in enumerate(recommender.catalogue.item_ids)}
    held = View.of(recommender, "1", "d", 1, lambda item: stock.get(item, 0 if item == "f3" else None))
    fresh = [
        Fresh.of(f"f{n}", told(title=f"Red retrospot thing {n}", brand="Retrospot" if n % 2 else "Nova", price=n, categories=["home", "bags" if n < 5 else "nova"]))
        for n in range(10)
    ]  # fmt: skip
    texts = Texts.of(recommender.catalogue, fresh)
    return SearchView.of(held, 1, fresh, Indexed.of(texts, SEARCH))


values = st.sampled_from(["Retrospot", "Nova", "Regency", "Vintage", "none"])
paths = st.sampled_from(["home", "bags", "lights", "nova", "gifts"])
chosen_brands = st.builds(
    lambda a, b: Chosen(include=tuple({*a} - {*b}), exclude=tuple(b)),
    st.sets(values, max_size=2),
    st.sets(values, max_size=2),
)
chosen_paths = st.builds(
    lambda a, b: Chosen(include=tuple({*a} - {*b}), exclude=tuple(b)),
    st.sets(paths, max_size=2),
    st.sets(paths, max_size=1),
)
prices = st.one_of(
    st.none(),
    st.tuples(st.floats(0, 12), st.floats(0, 12)).map(lambda each: PriceRange(min=min(each), max=max(each))),
)
caps = st.builds(
    Caps, category=st.one_of(st.none(), st.integers(1, 3)), brand=st.one_of(st.none(), st.integers(1, 3))
)


@settings(max_examples=80, deadline=None)
@given(
    query=st.sampled_from(["", "red", "retropsot", "bag heart", "thing", "lunch bag red", "xylophonist"]),
    in_stock=st.booleans(),
    price=prices,
    brands=chosen_brands,
    categories=chosen_paths,
    caps=caps,
    excluded=st.sets(st.integers(0, 509), max_size=5),
    pinned=st.one_of(st.none(), st.integers(0, 509)),
    k=st.integers(1, 40),
)
def test_no_filter_is_ever_passed_by(
    view, query, in_stock, price, brands, categories, caps, excluded, pinned, k
) -> None:
    texts, assortment = view.indexed.texts, view.assortment
    exclude = tuple(texts.ids[row] for row in sorted(excluded))
    pins = () if pinned is None or pinned in excluded else (Pin(item_id=texts.ids[pinned], position=2),)
    rules = Rules(
        in_stock=in_stock,
        price=price,
        brands=brands,
        categories=categories,
        caps=caps,
        exclude=exclude,
        pins=pins,
    )
    asked = Searched(Ask("search", k=k, rules=rules), query)
    answer = search(view, asked, UserState("", None), RuleBook(), SEARCH, 500)
    shown = [each["item_id"] for each in answer.body["items"]]
    assert len(shown) == len(set(shown)) <= k
    rows = [assortment.catalogue.index[item] for item in shown]
    per: dict[str, list[str]] = {"category": [], "brand": []}
    for row, item in zip(rows, shown, strict=True):
        document = texts.document(row)
        assert item not in exclude
        assert not in_stock or not assortment.stock[row] <= 0
        if price:
            assert price.min <= assortment.price[row] <= price.max
        assert not brands.include or document.brand in brands.include
        assert document.brand not in brands.exclude
        assert not categories.include or {*document.categories} & {*categories.include}
        assert not {*document.categories} & {*categories.exclude}
        per["category"] += document.categories[-1:]
        per["brand"] += [document.brand] if document.brand else []
    for name, most in (("category", caps.category), ("brand", caps.brand)):
        counts = [per[name].count(each) for each in set(per[name])]
        assert most is None or max(counts, default=0) <= most
    facets = answer.body["facets"]
    assert sum(each["count"] for each in facets["prices"]) + facets["without_price"] == answer.body["total"]
    assert answer.body["total"] <= answer.body["total_unfiltered"]
    assert len(shown) <= answer.body["total"]


def test_items_behind_are_like_items_that_were_there_all_along(view: SearchView) -> None:
    """The rules' view of fresh items against that of a catalogue which has them."""
    recommender = search_shop.recommender()
    fresh = list(view.fresh)
    import pandas as pd

    from engine.assortment import Assortment

    rows = pd.DataFrame([{"item_id": f.item_id, "title": f.title, "brand": f.brand, "categories": list(f.categories), "price": f.price, "deleted": False} for f in fresh])  # fmt: skip
    whole = recommender.with_items(rows).catalogue
    wanted, got = Assortment.of(whole), behind(Assortment.of(recommender.catalogue), fresh)
    assert got.catalogue.item_ids == whole.item_ids
    np.testing.assert_array_equal(got.price, wanted.price)
    assert got.rows["brand"].keys() == wanted.rows["brand"].keys()
    for column in ("categories", "brand"):
        for value, there in wanted.rows[column].items():
            np.testing.assert_array_equal(got.rows[column][value], there)
        same = got.codes[column][:, None] == got.codes[column][None]
        np.testing.assert_array_equal(same, wanted.codes[column][:, None] == wanted.codes[column][None])
        np.testing.assert_array_equal(got.codes[column] < 0, wanted.codes[column] < 0)


def test_what_was_told_before_the_first_release_is_there_with_it() -> None:
    class Shelf:
        def of(self, item: str) -> None:
            return None

    class Overlay:
        items = {
            "early": told(title="Early bird whistle"),
            "gone": told(title="Gone", deleted=True),
            "bare": told(price=3.0),
        }
        shelf = Shelf()

    views = SearchViews(SEARCH, Overlay())
    views.take("items", [{"item_id": item} for item in Overlay.items])
    views.take("events", [{"event_type": "view"}])
    recommender = search_shop.recommender()
    views.prepare(recommender)
    held = views.of(View.of(recommender, "1", "d", 1))
    assert [each.item_id for each in held.fresh] == ["early"]
    assert views.of(held.view) is held
    views.take("items", [{"item_id": "85123A"}])  # known: nothing to do
    assert views.of(held.view) is held


def test_what_is_told_while_a_release_is_prepared_is_found_with_it() -> None:
    class Shelf:
        def of(self, item: str) -> None:
            return None

    class Overlay:
        items = {"early": told(title="Early bird whistle")}
        shelf = Shelf()

    views, recommender = SearchViews(SEARCH, Overlay()), search_shop.recommender()
    views.take("items", [{"item_id": "early"}])
    with views._lock:  # a search makes its view
        preparing = threading.Thread(target=views.prepare, args=(recommender,))
        preparing.start()
        time.sleep(0.1)
        Overlay.items["late"] = told(title="Late bird whistle")
        views.take("items", [{"item_id": "late"}])
    preparing.join()
    held = views.of(View.of(recommender, "1", "d", 1))
    assert [each.item_id for each in held.fresh] == ["early", "late"]


@settings(max_examples=200, deadline=None)
@given(
    before=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["Mug", "Bag", "Hat"]), st.sampled_from([None, "B"])), unique_by=lambda each: each[0]),
    after=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["Mug", "Bag", "Hat"]), st.sampled_from([None, "B"])), unique_by=lambda each: each[0]),
)  # fmt: skip
def test_what_changed_between_two_texts_is_all_that_changed(before, after) -> None:
    def of(rows) -> Texts:
        ids, titles, brands = ([row[place] for row in rows] for place in range(3))
        return Texts(ids, titles, brands, [["x", each] for each in ids])

    def said(texts: Texts) -> dict:
        return {item: texts.document(row) for row, item in enumerate(texts.ids)}

    old, new = of(before), of(after)
    changed = new.changed(old)
    assert {item: each for item, each in {**said(old), **changed}.items() if each is not None} == said(new)
    assert all(said(old).get(item) != each for item, each in changed.items())


def test_an_unchanged_text_is_not_read_again(view: SearchView) -> None:
    class Shelf:
        deleted: frozenset[str] = frozenset()

        def of(self, item: str) -> None:
            return None

    recommender = search_shop.recommender()
    texts = Texts.of(recommender.catalogue)
    dearer = laid_over(recommender, {"22423": told(price=99.0)}, Shelf(), False)
    assert Texts.of(dearer.catalogue, like=texts) is texts
    renamed = laid_over(recommender, {"22423": told(title="Cake tower")}, Shelf(), False)
    assert set(Texts.of(renamed.catalogue, like=texts).changed(texts)) == {"22423"}
