"""The search box of the page at /: corrected spelling, facets as links, filters that can be taken away, and nothing of it a script."""

from __future__ import annotations

import html
import re

import httpx
import pytest

from tests.serving.test_search_api import shop  # noqa: F401 - a fixture


def shown(shop: httpx.Client, **params: str) -> str:  # noqa: F811
    answer = shop.get("/", params=params)
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return answer.text


def links(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'href="(/\?[^"]*)"', page)]


def count(page: str) -> int:
    found = re.search(r"(\d+) items?", page)
    return int(found[1]) if found else 0


def test_a_misspelt_text_is_corrected_and_narrowed_down_by_links(shop: httpx.Client) -> None:  # noqa: F811
    page = shown(shop, q="retropsot", user_id="u001")
    assert "Shown for <mark>retrospot</mark>" in page
    total = count(page)
    assert total > 5
    bags = next(each for each in links(page) if "category=bags" in each)
    assert "user_id=u001" in bags
    narrowed = shop.get(bags).text
    assert 0 < count(narrowed) < total
    dearer = next(each for each in links(narrowed) if "min_price" in each or "max_price" in each)
    both = shop.get(dearer).text
    assert 0 < count(both) <= count(narrowed)
    assert both.count("✕") >= 2
    without = next(each for each in links(both) if "category" not in each and "price" in each)
    assert count(shop.get(without).text) >= count(both)
    brand = next(each for each in links(page) if "brand=" in each)
    assert count(shop.get(brand).text) > 0


def test_what_finds_nothing_offers_a_way_on(shop: httpx.Client) -> None:  # noqa: F811
    page = shown(shop, q="retrospottinge")
    assert "Did you mean" in page
    assert count(shop.get(next(each for each in links(page) if "q=retrospot" in each)).text) > 5
    assert "Nothing in this shop" in shown(shop, q="xylophonist")


@pytest.mark.parametrize(
    "params",
    [
        {"q": '"><script>alert(1)</script>'},
        {"q": "\0"},
        {"q": "x" * 10_000},
        {"category": "none such"},
        {"min_price": "abc"},
        {"min_price": "9", "max_price": "1"},
        {"brand": "<img src=x>"},
        {"q": "bag", "user_id": "\0"},
    ],
)
def test_any_input_gives_a_page(shop: httpx.Client, params: dict[str, str]) -> None:  # noqa: F811
    page = shown(shop, **params)
    assert "<img" not in page
    assert "</html>" in page
