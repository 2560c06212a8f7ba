"""Whoever follows `next_page` comes to a page that has none, and to no refusal on the way."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from aisle import settings as settings_module
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_asking import ASK
from tests.serving.test_swap import wait_for

SIMILAR, SEARCH = "/v1/items/i001/similar", "/v1/search"


def followed(api: httpx.Client, path: str, **asked) -> list[httpx.Response]:
    """An answer and all further pages that it says there are."""
    answers = [api.get(path, params=asked)]
    while (page := answers[-1].json()["next_page"]) is not None:
        going = {"page": page, "request_id": answers[0].json()["request_id"]}
        answers.append(api.get(path, params={**asked, **going}))
        assert answers[-1].status_code == 200, answers[-1].text
    return answers


@pytest.fixture(scope="module")
def three_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API of a shop that lets nobody turn more than three pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("pages")))
        patch.setenv("AISLE_ANSWERS__MAX_PAGES", "3")
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as url, asking(url) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, 90)
            yield client
    settings_module.load.cache_clear()


@pytest.mark.parametrize("path", [ASK, "/v1/popular", SIMILAR, SEARCH])
@pytest.mark.parametrize(("k", "pages"), [(3, 3), (15, 3), (30, 2), (100, 1)])
def test_next_page_leads_to_the_last_one_that_may_be_asked_for(
    three_pages: httpx.Client, path: str, k: int, pages: int
) -> None:
    answers = followed(three_pages, path, k=k)
    assert len(answers) == pages
    shown = [item["item_id"] for each in answers for item in each.json()["items"]]
    there = 39 if path == SIMILAR else 40  # all that the shop has, but for the item itself
    assert len(shown) == len({*shown}) == min(3 * k, there)
    going = {"page": pages + 1, "request_id": answers[0].json()["request_id"]}
    beyond = three_pages.get(path, params=going)
    assert beyond.status_code == (422 if pages == 3 else 200)
    assert pages == 3 or beyond.json()["items"] == []
