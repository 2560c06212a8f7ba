"""The rules hold whatever is asked: drawn shops, documents and orders."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aisle.settings import Boost
from engine.assortment import Assortment
from engine.interactions import Catalogue
from engine.places import Places, ordered
from engine.rules import Already, Caps, Chosen, Pin, PriceRange, Rules, had
from engine.state import UserState

CATEGORIES, BRANDS = ("a", "b", "c"), ("x", "y")


@st.composite
def shops(draw) -> tuple[Assortment, dict[str, int | None], np.ndarray]:
    """An assortment, its stock, and scores of which some are not finite."""
    n = draw(st.integers(1, 24))
    ids = [f"i{row:02d}" for row in range(n)]
    frame = pd.DataFrame(
        {
            "item_id": ids,
            "price": [draw(st.one_of(st.none(), st.floats(0, 30))) for _ in ids],
            "categories": [draw(st.lists(st.sampled_from(CATEGORIES), max_size=2)) for _ in ids],
            "brand": [draw(st.sampled_from((*BRANDS, None))) for _ in ids],
        }
    )
    gone = draw(st.sets(st.integers(0, n - 1), max_size=3))
    stock = {item: draw(st.one_of(st.none(), st.integers(-1, 2))) for item in ids}
    scores = [draw(st.one_of(st.floats(-5, 5, width=32), st.just(float("-inf")))) for _ in ids]
    catalogue = Catalogue(ids, frame, tuple(sorted(gone)))
    return Assortment.of(catalogue, stock.get), stock, np.array(scores, np.float32)


items = st.integers(0, 25).map(lambda row: f"i{row:02d}")


@st.composite
def documents(draw) -> Rules:
    """A sound document; what would contradict itself is drawn apart."""
    low, high = sorted((draw(st.floats(0, 30)), draw(st.floats(0, 30))))
    category, brand = draw(st.permutations(CATEGORIES)), draw(st.permutations(BRANDS))
    exclude = tuple(draw(st.lists(items, max_size=6, unique=True)))
    pinned = draw(st.lists(items.filter(lambda item: item not in exclude), max_size=4, unique=True))
    places = draw(st.permutations(range(1, 13)))
    cap = st.one_of(st.none(), st.integers(1, 3))
    return Rules(
        in_stock=draw(st.booleans()),
        price=draw(st.one_of(st.none(), st.just(PriceRange(min=low, max=high)))),
        categories=Chosen(
            include=tuple(category[: draw(st.integers(0, 2))]),
            exclude=tuple(category[2 : draw(st.integers(2, 3))]),
        ),
        brands=Chosen(exclude=tuple(brand[: draw(st.integers(0, 1))])),
        exclude=exclude,
        caps=Caps(category=draw(cap), brand=draw(cap)),
        pins=tuple(Pin(item_id=item, position=place) for item, place in zip(pinned, places, strict=False)),
        boosts=tuple(
            Boost(column="brand", value=each, times=draw(st.floats(0, 3)), add=draw(st.floats(-2, 2)))
            for each in draw(st.lists(st.sampled_from(BRANDS), max_size=2))
        ),
    )


def broken(shop: Assortment, stock: dict, row: int, rules: Rules) -> list[str]:
    """What forbids an item, told naively."""
    cells = shop.catalogue.frame.iloc[row]
    item, price = cells["item_id"], cells["price"]
    values = {"categories": set(cells["categories"]), "brands": {cells["brand"]} - {None}}
    found = ["gone"] if row in shop.catalogue.gone else []
    found += ["exclude"] if item in rules.exclude else []
    if rules.in_stock and stock[item] is not None and stock[item] <= 0:
        found.append("in_stock")
    if rules.price and not (pd.notna(price) and rules.price.min <= price <= rules.price.max):
        found.append("price")
    for name, own in values.items():
        chosen = getattr(rules, name)
        if (chosen.include and not own & set(chosen.include)) or own & set(chosen.exclude):
            found.append(name)
    return found


def pages_of(shop: Assortment, scores: np.ndarray, rules: tuple[Rules, ...], k: int) -> list[list[int]]:
    """Every page until an empty one."""
    allowed = shop.allowed(rules)
    order = ordered(shop.boosted(scores, rules), allowed, len(scores))
    rest = np.flatnonzero(allowed)
    order = np.concatenate([order, rest[~np.isin(rest, order)]])
    places, found, taken = Places.of(shop, rules, allowed), [], frozenset()
    while True:
        page = places.page(order, len(found) * k, k, taken)
        if not page:
            return found
        found.append(page)
        taken |= set(page)


@settings(max_examples=300, deadline=None)
@given(shops(), documents(), documents(), st.integers(1, 8))
def test_what_is_forbidden_is_never_shown_and_what_is_not_is_shown_once(shop_, one, other, k) -> None:
    shop, stock, scores = shop_
    pages = pages_of(shop, scores, (one, other), k)
    shown = [row for page in pages for row in page]
    assert len(shown) == len(set(shown))
    may = {
        row
        for row in range(len(scores))
        if not broken(shop, stock, row, one) + broken(shop, stock, row, other)
    }
    assert set(shown) == may


@settings(max_examples=300, deadline=None)
@given(shops(), documents(), documents(), st.integers(1, 8))
def test_caps_hold_on_every_page(shop_, one, other, k) -> None:
    shop, _, scores = shop_
    frame = shop.catalogue.frame
    for page in pages_of(shop, scores, (one, other), k):
        assert len(page) <= k
        last = Counter(cell[-1] for row in page if (cell := frame["categories"].iat[row]))
        brand = Counter(cell for row in page if (cell := frame["brand"].iat[row]))
        for counts, name in ((last, "category"), (brand, "brand")):
            for cap in (getattr(each.caps, name) for each in (one, other)):
                assert cap is None or max(counts.values(), default=0) <= cap


@settings(max_examples=300, deadline=None)
@given(shops(), documents(), st.integers(1, 8))
def test_pins_are_at_their_places(shop_, rules, k) -> None:
    shop, stock, scores = shop_
    rules = rules.model_copy(update={"caps": Caps()})
    pages = pages_of(shop, scores, (rules,), k)
    shown = [row for page in pages for row in page]
    index = shop.catalogue.index
    for pin in rules.pins:
        row = index.get(pin.item_id)
        if row is not None and not broken(shop, stock, row, rules):
            place = shown.index(row) + 1
            assert place == pin.position or len(shown) < pin.position + len(rules.pins)


@settings(max_examples=200, deadline=None)
@given(shops(), documents(), st.integers(1, 8))
def test_no_page_is_empty_while_one_item_may_be_shown(shop_, rules, k) -> None:
    shop, _, scores = shop_
    assert bool(pages_of(shop, scores, (rules,), k)) == bool(shop.allowed((rules,)).any())


def test_a_full_list_has_every_pin_exactly_where_it_was_put() -> None:
    frame = pd.DataFrame({"item_id": [f"i{row:02d}" for row in range(30)]})
    shop = Assortment.of(Catalogue(frame["item_id"].tolist(), frame))
    rules = Rules(
        pins=(Pin(item_id="i29", position=1), Pin(item_id="i28", position=7), Pin(item_id="i27", position=5))
    )
    pages = pages_of(shop, -np.arange(30, dtype=np.float32), (rules,), 5)
    assert pages[0] == [29, 0, 1, 2, 27]
    assert pages[1] == [3, 28, 4, 5, 6]


def test_a_later_document_decides_who_has_a_place() -> None:
    frame = pd.DataFrame({"item_id": ["a", "b", "c"]})
    shop = Assortment.of(Catalogue(["a", "b", "c"], frame))
    both = tuple(Rules(pins=(Pin(item_id=item, position=1),)) for item in ("b", "c"))
    assert pages_of(shop, np.zeros(3, np.float32), both, 3) == [[2, 0, 1]]
    back = (*both, Rules(pins=(Pin(item_id="b", position=1),)))
    assert pages_of(shop, np.zeros(3, np.float32), back, 3) == [[1, 0, 2]], "b was put there first and last"


def test_a_boost_lifts_and_never_brings_back_what_is_not_shown() -> None:
    frame = pd.DataFrame({"item_id": ["a", "b", "c", "d"], "brand": ["x", "x", "y", "y"]})
    shop = Assortment.of(Catalogue(["a", "b", "c", "d"], frame))
    before = np.array([1.5, -np.inf, 2.0, 1.0], np.float32)
    rules = (Rules(boosts=(Boost(column="brand", value="x", times=3),)),)
    scores = shop.boosted(before, rules)
    assert ordered(before, shop.allowed(rules), 4).tolist() == [2, 0, 3]
    assert ordered(scores, shop.allowed(rules), 4).tolist() == [0, 2, 3]
    assert before[0] == 1.5


def test_already_goes_by_type_and_window() -> None:
    state = UserState(
        "u", None, ["a", "b", "c"], ["purchase", "purchase", "view"], [9 * 86_400, 86_400, 9 * 86_400]
    )
    now = 10 * 86_400.0
    assert had(state, [Rules(already=Already())], now) == {"a", "b"}
    assert had(state, [Rules(already=Already(days=2))], now) == {"a"}
    assert had(
        state, [Rules(already=Already(event_types=("view",))), Rules(already=Already(days=2))], now
    ) == {"a", "c"}
    assert had(state, [Rules()], now) == set()


@given(
    prices=st.lists(
        st.one_of(st.none(), st.sampled_from([0.0, 1.0, 1.5, 2.0, 9.0])), min_size=1, max_size=30
    ),
    least=st.sampled_from([None, 0.0, 1.0, 1.2, 9.5]),
    span=st.sampled_from([None, 0.0, 0.5, 20.0]),
)
@settings(max_examples=200, deadline=None)
def test_a_range_of_prices_is_what_its_checks_say(prices, least, span) -> None:
    """However much of the catalogue is outside: it is written the other way round then."""
    frame = pd.DataFrame({"item_id": [f"i{row:02d}" for row in range(len(prices))], "price": prices})
    assortment = Assortment.of(Catalogue.of(frame))
    rules = Rules(price=PriceRange(min=least, max=None if span is None else (least or 0.0) + span))
    wanted = np.ones(len(prices), bool)
    for _, mask in assortment.checks(rules):
        wanted &= mask
    assert assortment.allowed([rules]).tolist() == wanted.tolist()


def test_columns_that_did_not_change_are_read_once() -> None:
    frame = pd.DataFrame(
        {"item_id": ["a", "b"], "brand": ["x", "y"], "categories": [["c"], []], "price": [1.0, 2.0]}
    )
    first = Assortment.of(Catalogue(["a", "b"], frame))
    cheaper = frame.copy(deep=False)
    cheaper["price"] = [0.5, 2.0]
    second = Assortment.of(Catalogue(["a", "b"], cheaper), like=first)
    assert second.rows["brand"] is first.rows["brand"]
    assert second.allowed([Rules(price=PriceRange(max=0.7))]).tolist() == [True, False]
    other = frame.assign(brand=["x", "x"])
    assert Assortment.of(Catalogue(["a", "b"], other), like=first).having("brand", ["x"]).all()


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ({"price": {"min": 3, "max": 1}}, 1),
        ({"pins": [{"item_id": "a", "position": 1}, {"item_id": "b", "position": 1}]}, 1),
        ({"pins": [{"item_id": "a", "position": 0}], "caps": {"brand": 0}, "unknown": 1}, 3),
        ({"already": {"event_types": ["stare"], "days": -1}}, 3),
        ({"price": {"max": float("nan")}}, 1),
        ({"boosts": [{"column": "title", "value": "x"}]}, 1),
        ({"categories": {"include": ["a"], "exclude": ["a"]}}, 1),
    ],
)
def test_every_fault_of_a_document_is_told(document: dict, faults: int) -> None:
    with pytest.raises(ValidationError) as told:
        Rules.model_validate(document)
    assert told.value.error_count() == faults


def test_contradictions_are_told_together() -> None:
    pins = [{"item_id": "a", "position": 1}, {"item_id": "a", "position": 1}]
    with pytest.raises(
        ValidationError,
        match="position 1 is pinned twice; pins: item a is pinned twice; pins: 'a' is excluded",
    ):
        Rules.model_validate({"pins": pins, "exclude": ["a"]})
