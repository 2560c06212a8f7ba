"""The embedded index: what a text finds, however it is written; and that a changed index says what one made anew says."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle import settings as settings_module
from aisle.errors import SettingsError
from bench.search_queries import WRONG, made
from serving.search_index import Document, Matches
from serving.search_text import TextIndex, build
from serving.search_words import words
from tests.serving.search_shop import titles

SETTINGS = settings_module.load().search


def documents() -> dict[str, Document]:
    return {code: Document(title) for code, title, _ in titles()}


@pytest.fixture(scope="module")
def index() -> TextIndex:
    return build(documents(), SETTINGS)


def best(found: Matches, k: int = 10) -> list[str]:
    return [found.ids[found.slots[place]] for place in np.argsort(-found.text, kind="stable")[:k]]


@pytest.mark.parametrize("how", WRONG)
def test_real_titles_are_found_however_they_are_written(index: TextIndex, how: str) -> None:
    rows = titles()
    asked = made([words(title) for _, title, _ in rows], how, 3, 60)
    missed = []
    for number, query in asked:
        code, title, _ = rows[number]
        same = {other for other, text, _ in rows if words(text) == words(title)}
        if not same & set(best(index.search(query))):
            missed.append((query, code, title))
    assert len(asked) > 25
    assert len(missed) <= 0.04 * len(asked), missed


@pytest.mark.parametrize(
    ("query", "title", "how"),
    [
        ("jumbo bag red retrospot", "JUMBO BAG RED RETROSPOT", "exact"),
        ("retrospot red bag jumbo", "JUMBO BAG RED RETROSPOT", "exact"),
        ("jumbos bags red", "JUMBO BAG RED RETROSPOT", "form"),
        ("jmubo bag red", "JUMBO BAG RED RETROSPOT", "corrected"),
        ("retropsot jumbo", "JUMBO BAG RED RETROSPOT", "corrected"),
        ("regency cakest", "REGENCY CAKESTAND 3 TIER", "begins"),
        ("regency cake stand", "REGENCY CAKESTAND 3 TIER", "joined"),
        ("paperchain kit", "PAPER CHAIN KIT 50'S CHRISTMAS", "split"),
        ("tlight holder white hanging", "WHITE HANGING HEART T-LIGHT HOLDER", "exact"),
        ("CRÈME cream réd", "CREAM", "exact"),
    ],
)
def test_how_a_word_was_found_is_told(index: TextIndex, query: str, title: str, how: str) -> None:
    found = index.search(query)
    assert found.matching != "none"
    by_id = dict(zip(index.ids, index.documents, strict=True))
    tops = [by_id[item].title for item in best(found, 3)]
    assert any(title in each for each in tops), tops
    assert how in {word.how for word in found.words}
    top = int(found.slots[found.text.argmax()])
    assert all(hit.where in ("title", "item_id", "brand", "categories") for hit in found.hits(top))
    assert found.hits(top)


def test_codes_are_found_exactly_and_never_corrected(index: TextIndex) -> None:
    assert best(index.search("85123A"))[0] == "85123A"
    assert best(index.search(" 85123a "))[0] == "85123A"
    assert "85123A" not in best(index.search("85124A"))
    assert index.search("22423 cakestand").matching == "all"
    odd = build({"new/1 x": Document("A lamp"), "é-2": Document("Another lamp")}, SETTINGS)
    assert best(odd.search("new/1 x"))[0] == "new/1 x"
    assert best(odd.search("É-2"))[0] == "é-2"


def test_a_correction_is_told_and_so_is_that_nothing_fits(index: TextIndex) -> None:
    found = index.search("retropsot lnch bag")
    assert found.corrected == "retrospot lunch bag"
    assert index.search("lunch bag").corrected is None
    nothing = index.search("xylophonist")
    assert (nothing.matching, len(nothing.slots)) == ("none", 0)
    assert nothing.words[0].taken_for == ()
    assert index.search("retrospottinge").suggestion == "retrospot"


def test_a_misspelt_word_that_is_another_word_is_still_understood() -> None:
    shop = build({"1": Document("Hart spray"), "2": Document("Beach heart")}, SETTINGS)
    assert best(shop.search("hart"))[0] == "1"
    found = shop.search("beach hart")
    assert best(found) == ["2"]
    assert (found.matching, found.corrected) == ("all", "beach heart")


def test_where_no_item_has_all_words_those_with_most_are_found(index: TextIndex) -> None:
    found = index.search("red retrospot bag for my unicycle zzzz")
    assert found.matching == "some"
    assert "RETROSPOT" in dict(zip(index.ids, index.documents, strict=True))[best(found)[0]].title


def test_typing_goes_on_with_the_last_word() -> None:
    shop = build({"1": Document("A car"), "2": Document("A card")}, SETTINGS)
    assert best(shop.search("car")) == ["1"]
    assert best(shop.search("car", typing=True)) == ["1", "2"]


def test_brands_and_categories_are_searched_too() -> None:
    shop = build({"1": Document("Mug", "Acme", ("Kitchen", "Cups")), "2": Document("Acme poster")}, SETTINGS)
    assert best(shop.search("acme")) == ["2", "1"]
    hit = shop.search("acme cup").hits(0)
    assert [each.where for each in hit] == ["brand", "categories"]


NASTY = [
    "",
    " ",
    "\0",
    "a\0b",
    "x" * 10_000,
    "a " * 5000,
    "🛒",
    "👩‍👩‍👧‍👧 mug",
    "'; DROP TABLE items;--",
    ".*(a+)+$",
    "[[[",
    "%_%",
    "\\",
    '"',
    "用户 猫",
    "שלום",
    "नमस्ते",
    "ไทย",
    "\ud800",
    "\u202e",
    "a" * 63 + "é",
    "-" * 500,
    "1.5.5.5",
    "NaN None null",
]


@pytest.mark.parametrize("query", NASTY)
def test_any_text_is_safe(index: TextIndex, query: str) -> None:
    for typing in (False, True):
        found = index.search(query, typing)
        assert len(found.slots) == len(found.text)
        assert np.isfinite(found.text).all()
        for slot in found.slots[:3]:
            found.hits(int(slot))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.booleans())
def test_any_text_at_all_is_safe(query: str, typing: bool) -> None:
    shop = build({str(n): Document(title, "B", ("c",)) for n, title in enumerate(NASTY)}, SETTINGS)
    found = shop.search(query, typing)
    assert ((found.text > 0) & (found.text <= 1.0001)).all()
    assert (found.matching == "none") == (not len(found.slots))


def test_an_index_of_nothing_finds_nothing() -> None:
    nothing = build({}, SETTINGS)
    assert nothing.search("red bag", typing=True).matching == "none"
    assert best(nothing.with_changes({"1": Document("Red bag")}).search("red bgs")) == ["1"]


def test_other_scripts_and_accents_are_found() -> None:
    shop = build(
        {
            "1": Document("Crème brûlée Brenner"),
            "2": Document("猫のマグカップ"),
            "3": Document("STRASSE Łódź"),
            "4": Document("☕ set"),
        },
        SETTINGS,
    )
    assert best(shop.search("creme brulee")) == ["1"]
    assert best(shop.search("猫")) == ["2"]
    assert best(shop.search("straße lodz")) == ["3"]
    assert best(shop.search("☕")) == ["4"]


def test_an_index_that_was_changed_says_what_one_made_anew_says() -> None:
    draw = random.Random(5)
    held = dict(list(documents().items())[:300])
    index = build(held, SETTINGS)
    pool = [title for _, title, _ in titles()]
    for round_ in range(25):
        changed: dict[str, Document | None] = {}
        for _ in range(draw.randrange(1, 6)):
            item = draw.choice([*held, f"new-{round_}", "never there"])
            changed[item] = (
                None if draw.random() < 0.3 else Document(draw.choice(pool) + draw.choice(["", " zzyx"]))
            )
        before = {item: best(index.search(item)) for item in list(held)[:2]}
        made_before = index
        index = index.with_changes(changed)
        assert {item: best(made_before.search(item)) for item in before} == before  # the old one is as it was
        held = {item: each for item, each in {**held, **changed}.items() if each is not None}
    anew = build(held, SETTINGS)
    for query in ("red retrospot bag", "zzyx", "hart decoraton", "new-3", "lunch", "cakestnd"):
        one, other = index.search(query), anew.search(query)
        got = {one.ids[slot]: round(float(text), 3) for slot, text in zip(one.slots, one.text, strict=True)}
        wanted = {
            other.ids[slot]: round(float(text), 3) for slot, text in zip(other.slots, other.text, strict=True)
        }
        assert got.keys() == wanted.keys(), query
        assert all(abs(got[item] - wanted[item]) < 0.03 for item in got), (
            query
        )  # slots of removed items still count in n


def test_an_index_does_not_grow_with_items_that_come_and_go() -> None:
    index = build({"1": Document("Red bag")}, SETTINGS)
    for number in range(500):
        index = index.with_changes({f"i{number}": Document(f"Seasonal thing{number}")})
        index = index.with_changes({f"i{number}": None})
    assert len(index.ids) < 200
    assert len(index.terms.terms) < 400
    assert best(index.search("red bag")) == ["1"]


def test_a_language_without_stems_is_told() -> None:
    with pytest.raises(SettingsError, match=r"search\.language 'klingon' is none of arabic"):
        build({}, SETTINGS.model_copy(update={"language": "klingon"}))
    plain = build({"1": Document("boxes")}, SETTINGS.model_copy(update={"language": ""}))
    assert not len(plain.search("box").slots) or plain.search("box").words[0].how != "form"
