"""The search bench asks what it says it asks, of engines that answer."""

from __future__ import annotations

import random

import pytest
from rapidfuzz.distance import OSA

from bench import search_titles
from bench.search_peers import PEERS, Engine
from bench.search_queries import WRONG, edited, made

TITLES = [
    "RED RETROSPOT LUNCH BAG",
    "ENAMEL MUG CREAM",
    "WOODEN PICTURE FRAME",
    "GLASS CLOCHE LARGE",
    "PAPER LANTERN WHITE",
]


@pytest.mark.parametrize("name", PEERS)
def test_every_engine_finds_a_title_as_it_is_written(name: str) -> None:
    engine: Engine = PEERS[name]([str(number) for number in range(len(TITLES))], TITLES)
    for number, title in enumerate(TITLES):
        assert engine.find(title.lower())[0] == number
    assert engine.find('"; drop') is not None


def test_an_edit_is_one_edit() -> None:
    draw = random.Random(1)
    for word in ("lunch", "retrospot", "aaaa"):
        assert {OSA.distance(word, edited(word, draw)) for _ in range(200)} == {1}


@pytest.mark.parametrize("how", WRONG)
def test_queries_are_the_same_for_a_seed_and_wrong_as_named(how: str) -> None:
    words = [title.lower().split() for title in TITLES]
    asked = made(words, how, 7, 5)
    assert asked == made(words, how, 7, 5)
    assert asked
    for number, query in asked:
        assert query
        if how == "one edit":
            assert OSA.distance(query, " ".join(words[number])) == 1
        if how == "swapped words":
            assert sorted(query.split()) == sorted(words[number])


def test_made_up_titles_are_of_the_real_ones_words() -> None:
    rows = search_titles.made_up(300)
    assert rows == search_titles.made_up(300)
    assert len({item for item, _, _ in rows}) == 300
    real = {word for _, title, _ in search_titles.real() for word in title.split()}
    share = [sum(word in real for word in title.split()) / len(title.split()) for _, title, _ in rows]
    assert min(share) > 0
    assert sum(share) / len(share) > 0.8
