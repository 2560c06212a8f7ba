"""Tags, attributes and a description of a new item, as the API was told them: what it is like before its first event."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.content_words import LONGEST
from serving import reasons
from serving.live import Loaded
from serving.overlay import Overlay
from tests.engine.shop import CUT, frames
from tests.engine.test_content_fields import told_items
from tests.serving.conftest import stage
from tests.serving.test_overlay import told, wait_for

RED = json.dumps({"colour": "red", "size": "M"})


@pytest.fixture
def loaded(aisle_home) -> Loaded:
    recipe = Recipe(
        event_weights={"purchase": 1.0}, sources={"popularity": {}, "item_item": {}, "content": {}}
    )
    return Loaded(stage("1"), Recommender.fit(told_items(), frames()[1], CUT, recipe))


@pytest.fixture
def overlay() -> Iterator[Overlay]:
    found = Overlay()
    found.start()
    yield found
    found.stop()


def like(overlay: Overlay, loaded: Loaded, item: str) -> set[str]:
    """What `content` holds a new item to be like."""
    found = overlay.recommender(loaded)
    if item not in found.catalogue.index:
        return set()
    row = found.sources["content"].similarity[[found.catalogue.index[item]]]
    return {found.catalogue.item_ids[each] for each in row.indices.tolist()}


def test_a_new_item_is_placed_by_its_attributes_alone(loaded: Loaded, overlay: Overlay) -> None:
    overlay.recommender(loaded)
    told(overlay, 1, "red one", title="Unheard", attributes=RED)
    wait_for(lambda: like(overlay, loaded, "red one"))
    assert like(overlay, loaded, "red one") == {f"item {row:02d}" for row in range(0, 40, 4)}


def test_attributes_that_are_told_after_the_item_place_it_anew(loaded: Loaded, overlay: Overlay) -> None:
    overlay.recommender(loaded)
    told(overlay, 1, "two steps", title="Unheard")
    wait_for(lambda: "two steps" in overlay.recommender(loaded).catalogue.index)
    assert not like(overlay, loaded, "two steps")
    told(overlay, 2, "two steps", title="Unheard", attributes=RED)
    wait_for(lambda: like(overlay, loaded, "two steps"))
    placed = overlay.recommender(loaded)
    told(overlay, 3, "two steps", title="Unheard", attributes=RED, price="3.00")
    assert overlay.recommender(loaded).sources is placed.sources, "a price is laid over what there is"


def test_the_fields_of_items_that_a_release_has_take_no_memory(loaded: Loaded, overlay: Overlay) -> None:
    told(overlay, 1, "item 03", attributes=RED)  # before any release is looked at
    overlay.recommender(loaded)
    told(overlay, 2, "item 04", attributes=RED)
    assert "attributes" not in overlay.items["item 04"].fields
    wait_for(lambda: "attributes" not in overlay.items["item 03"].fields)


def test_they_come_back_after_a_restart_and_are_cut(overlay: Overlay) -> None:
    told(overlay, 1, "new", description="x" * 20_000, tags='["a"]', attributes=RED)
    again = Overlay()
    again.take("items", overlay.rows("items"))
    assert again.items["new"].fields == overlay.items["new"].fields
    assert len(again.items["new"].get("description")) == LONGEST


def test_a_reason_names_what_both_have() -> None:
    evidence = {"item_id": "a", "title": "Lamp", "alike": True, "event_type": "view", "same": ["colour=red"]}
    assert reasons.words(evidence) == "Like Lamp, which you looked at: same colour (red)"
