"""What a misspelt word is taken for: by its letters, its sound, and the words that it stands beside."""

from __future__ import annotations

import numpy as np
import pytest

from aisle import settings as settings_module
from serving.search_index import Document
from serving.search_sound import sound
from serving.search_text import TextIndex, build

SETTINGS = settings_module.load().search
TITLES = [
    *["EAU DE NILE FRAME"] * 6,
    "EAU DE NILE T-LIGHT HOLDER",
    "RABBIT NIGHT LIGHT",
    "TOADSTOOL NIGHT LIGHT",
    "OWL NIGHT LIGHT",
    *["WHITE HEART"] * 3,
    "HEART WITH BELL",
    *["RED BOAT"] * 3,
    "BOOT RACK",
    "PHONE CHARM",
    "CRYSTAL BOWL",
    "CRÈME DOUGHNUT",
]


@pytest.fixture(scope="module")
def index() -> TextIndex:
    return build({f"i{number}": Document(title) for number, title in enumerate(TITLES)}, SETTINGS)


@pytest.mark.parametrize(
    ("query", "corrected", "first"),
    [
        ("nite light", "night light", "RABBIT NIGHT LIGHT"),
        ("nite frame", "nile frame", "EAU DE NILE FRAME"),
        ("wite hart", "white heart", "WHITE HEART"),
        ("fone charm", "phone charm", "PHONE CHARM"),
        ("kristal", "crystal", "CRYSTAL BOWL"),
        ("creme donut", "creme doughnut", "CRÈME DOUGHNUT"),
        ("boet rack", "boot rack", "BOOT RACK"),
        ("boet red", "boat red", "RED BOAT"),
    ],
)
def test_the_other_words_of_a_query_tell_which_was_meant(
    index: TextIndex, query: str, corrected: str, first: str
) -> None:
    found = index.search(query)
    assert found.corrected == corrected
    assert TITLES[int(found.slots[np.argmax(found.text)])] == first


def test_a_known_word_is_not_taken_for_another_of_its_sound(index: TextIndex) -> None:
    found = index.search("nile light")
    assert (found.corrected, [TITLES[slot] for slot in found.slots]) == (None, ["EAU DE NILE T-LIGHT HOLDER"])


def test_a_word_that_was_taken_out_is_no_correction(index: TextIndex) -> None:
    gone = dict.fromkeys(
        (item for item, title in zip(index.ids, TITLES, strict=True) if "NIGHT" in title), None
    )
    after = index.with_changes(gone)
    assert after.search("nite light").corrected == "nile light"
    added = after.with_changes({"new": Document("KNIGHT LIGHT")})
    assert added.search("nite light").corrected == "knight light"


def test_other_languages_have_no_english_sounds() -> None:
    french = build({"a": Document("NIGHT LIGHT")}, SETTINGS.model_copy(update={"language": "french"}))
    assert french.search("nite").matching == "none"
    assert not french.terms.sounds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lite", "light"),
        ("brite", "bright"),
        ("nife", "knife"),
        ("rench", "wrench"),
        ("kwik", "quick"),
        ("foto", "photo"),
        ("sale", "sail"),
        ("lam", "lamb"),
        ("lites", "lights"),
    ],
)
def test_what_sounds_alike(one: str, other: str) -> None:
    assert sound(one) == sound(other)


@pytest.mark.parametrize(
    ("one", "other"), [("nite", "note"), ("nite", "nut"), ("cat", "chat"), ("light", "late"), ("bag", "back")]
)
def test_what_does_not(one: str, other: str) -> None:
    assert sound(one) != sound(other)


@pytest.mark.parametrize("text", ["", "at", "85123a", "1.5", "猫猫猫", "crème"])
def test_what_is_no_english_word_has_no_sound(text: str) -> None:
    assert sound(text) == ""
