"""Who has attributes alone gets what people like them buy, by the attribute that the shop names."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from aisle import settings as settings_module
from aisle.errors import SettingsError
from aisle.segment import Segment
from aisle.settings import Settings
from serving.overlay import Overlay
from tests.serving.conftest import Kept, Release, asking, running
from tests.serving.test_people import rung, wait_for


@pytest.fixture
def by_tier(aisle_home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AISLE_FEATURES__SEGMENT", "attributes.tier")
    settings_module.load.cache_clear()
    return settings_module.load()


@pytest.fixture
def served(by_tier: Settings, stage_release: Release) -> Iterator[httpx.Client]:
    """The release was fitted where France, Germany and United Kingdom are the segments."""
    stage_release("1")
    with running(by_tier, Kept()) as url, asking(url) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        yield client


def listed(client: httpx.Client, **params: object) -> list[str]:
    found = client.get("/v1/recommendations", params=params).json()
    return [each["item_id"] for each in found["items"]]


def test_a_user_with_attributes_only_is_answered_by_their_segment(served: httpx.Client) -> None:
    assert rung(served, user_id="new") == "popular"
    served.patch("/v1/users/new", json={"country": "Germany", "attributes": {"size": "M"}})
    assert rung(served, user_id="new") == "popular", "the country is not what this shop goes by"
    served.patch("/v1/users/new", json={"attributes": {"tier": "France", "size": "M"}})
    assert rung(served, user_id="new") == "segment"
    assert listed(served, user_id="new") == listed(served, country="France")
    assert listed(served, user_id="new") != listed(served, country="Germany")
    served.patch("/v1/users/new", json={"attributes": {"tier": "nobody's"}})
    assert rung(served, user_id="new") == "popular"
    served.patch("/v1/users/new", json={"attributes": {"tier": "France"}})
    served.delete("/v1/users/new")
    assert rung(served, user_id="new") == "popular"


def test_what_was_told_of_it_is_folded_as_it_was(by_tier: Settings) -> None:
    overlay = Overlay(segment=by_tier.features.segment)
    told = {"user_id": "u", "country": "Spain", "attributes": '{"tier": "gold"}', "language": "es", "at": 1}
    overlay.take("users", [told])
    assert overlay.profile("u").country == "gold"
    again = Overlay(segment=by_tier.features.segment)
    again.take("users", overlay.rows("users"))
    assert again.profile("u") == overlay.profile("u")
    plain = Overlay()
    plain.take("users", [told])
    assert plain.profile("u").country == "Spain"
    assert "attributes" not in plain.users["u"].fields, "what nothing goes by takes no memory"


@pytest.mark.parametrize("wrong", ["", "tier", "attributes", "attributes.", "attributes. ", "country.tier"])
def test_a_segment_of_nothing_is_refused(aisle_home, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("AISLE_FEATURES__SEGMENT", wrong)
    settings_module.load.cache_clear()
    with pytest.raises(SettingsError, match="segment"):
        settings_module.load()


def test_the_country_is_the_segment_as_it_comes(settings: Settings) -> None:
    assert Segment.of(settings.features.segment) == ("country", None)
