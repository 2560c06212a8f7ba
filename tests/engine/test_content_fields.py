"""Tags, attributes and descriptions in `content`: what they add, what they never drown, and what stays as it was without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from engine.interactions import Catalogue
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources.content import Content, tfidf, words
from engine.sources.content_fields import KEYWORDS, Fields, rarity
from engine.sources.content_words import FIELDS, LONGEST, MOST, beyond, pairs
from engine.sources.neighbours import by_column, nearest
from engine.state import UserState
from tests.engine.shop import CUT, frames
from tests.engine.test_new_items import NEW, shop_items

COLOURS, STUFF = ("red", "blue", "green", "white"), ("oak", "steel", "linen", "glass", "wool")


def told_items() -> pd.DataFrame:
    """Titles say nothing; every item has one of four colours and one of five materials, in all pairs twice."""
    items = frames()[0]
    rows = range(len(items))
    return items.assign(
        title=[f"No. {row:03d}" for row in rows],
        categories=None,
        description=[f"A piece of {STUFF[row % 5]}, made by hand, number x{row}." for row in rows],
        tags=[["new"] if row % 8 == 0 else None for row in rows],
        attributes=[pairs({"colour": COLOURS[row % 4]}) for row in rows],
    )


def content(items: pd.DataFrame) -> Content:
    return Content.fit(None, Catalogue.of(items))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    recipe = Recipe(
        event_weights={"purchase": 1.0}, sources={"popularity": {}, "item_item": {}, "content": {}}
    )
    return Recommender.fit(told_items(), frames()[1], CUT, recipe)


def parts(matrix: sparse.csr_array) -> tuple[bytes, bytes, bytes]:
    return matrix.data.tobytes(), matrix.indices.tobytes(), matrix.indptr.tobytes()


def test_without_such_fields_everything_is_what_it_was() -> None:
    catalogue = Catalogue.of(shop_items())
    vectors = tfidf([words(catalogue, row) for row in range(len(catalogue))])
    before = by_column(nearest(vectors, sparse.csr_array(vectors.T), 200))
    for items in (
        shop_items(),
        shop_items().assign(description=None, tags=None, attributes=None),
        shop_items().assign(description="", tags=[[]] * 40, attributes=[["note="]] * 40),
    ):
        found = content(items)
        assert parts(found.similarity) == parts(before)
        assert found.told is None
        assert found.arrays().keys() == {"data", "indices", "indptr", "shape", "parameters"}


def test_items_are_alike_by_what_they_share_alone(fitted: Recommender) -> None:
    plain = np.flatnonzero(np.arange(40) % 8)  # no tag
    like = fitted.sources["content"].similarity.toarray()[np.ix_(plain, plain)]
    colour, stuff = plain % 4, plain % 5
    same_colour, same_stuff = (each[:, None] == each for each in (colour, stuff))
    apart = ~np.eye(len(plain), dtype=bool)
    only_colour, only_stuff = like[same_colour & ~same_stuff & apart], like[same_stuff & ~same_colour & apart]
    assert like[same_colour & same_stuff & apart].min() > max(only_colour.max(), only_stuff.max())
    assert min(only_colour.min(), only_stuff.min()) > like[~same_colour & ~same_stuff].max()


def test_an_item_that_nobody_bought_is_found_by_its_attributes_alone(fitted: Recommender) -> None:
    new = pd.DataFrame(
        {
            "item_id": ["new one", "nothing told"],
            "title": ["Unheard", "Of"],
            "price": 3.0,
            "attributes": [pairs({"colour": "Red ", "size": "42"}), None],
            "tags": [["New"], None],
        }
    )
    grown = fitted.with_items(new)
    like = grown.sources["content"].similarity
    row, stranger = grown.catalogue.index["new one"], grown.catalogue.index["nothing told"]
    assert set(like[[row]].indices.tolist()) == set(range(0, 40, 4)), "the red ones"
    assert like[[row]].toarray().argmax() % 8 == 0, "those that are new as well come first"
    assert not like[[stranger]].nnz
    bought = UserState("u", None, ["item 04", "item 12"], ["purchase"] * 2, [int(CUT.timestamp()) - 90] * 2)
    found = {each.item_id: each.reason for each in grown.recommend(bought, 40, CUT)}
    assert "new one" in found
    assert "nothing told" not in found
    only = grown.sources["content"].evidences(grown.events([bought], CUT), np.array([row]))
    assert only[0]["same"] == ["colour=red"]
    again = grown.with_items(new.iloc[:1].assign(item_id="newer"))
    assert again.sources["content"].similarity[[again.catalogue.index["newer"]]].toarray().argmax() == row


def test_an_item_is_placed_as_a_refit_would_place_it(fitted: Recommender) -> None:
    items = told_items()
    whole, rest = content(items), items.iloc[:-1]
    recipe = fitted.recipe
    grown = Recommender.fit(rest, frames()[1], CUT, recipe).with_items(items.iloc[-1:])
    ours, theirs = (each.similarity[[39]].toarray()[0] for each in (grown.sources["content"], by_rows(whole)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def by_rows(found: Content) -> Content:
    return Content(by_column(found.similarity), found.half_life_days)


def test_a_bundle_keeps_them_and_its_items_frame_does_not(fitted: Recommender, tmp_path: Path) -> None:
    assert not {*FIELDS} & {*fitted.catalogue.frame}
    fitted.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    told, found = fitted.sources["content"].told, loaded.sources["content"].told
    assert found.words == told.words
    assert not (found.labels != told.labels).nnz
    new = told_items().iloc[[7]].assign(item_id="new")
    rows = [each.with_items(new).sources["content"].similarity[[40]].toarray() for each in (fitted, loaded)]
    np.testing.assert_array_equal(*rows)
    assert loaded.faults() == []


def test_a_bundle_from_before_takes_new_items_with_fields() -> None:
    """A new item's description is held against the titles that there are."""
    before = Recommender.fit(shop_items(), frames()[1], CUT, Recipe(event_weights={"purchase": 1.0}))
    assert before.sources["content"].told is None
    new = NEW.iloc[2:].assign(description="<p class='lamp'>A red cup.</p>", attributes=[["colour=red"]])
    like = before.with_items(new).sources["content"].similarity[[40]].toarray()[0]
    assert like.argmax() in range(0, 10, 5), "the red cups"
    assert not like[20:30:5].any() or like[20:30].max() < like[:10].max()


def test_neither_words_nor_attributes_drown_a_title() -> None:
    """Two lamps of one title stay nearest, whatever a text or a hundred attributes say of each and of others."""
    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{each}" for each in rng.integers(0, 60, 400)) for _ in range(40)]
    items = shop_items().assign(
        title=[f"{kind} {row // 2}" for row, kind in enumerate(shop_items()["title"].sort_values())],
        description=texts,
        attributes=[pairs({f"a{each}": str(rng.integers(3)) for each in range(100)}) for _ in range(40)],
    )
    titles = content(items.drop(columns=["description", "attributes"])).similarity.toarray()
    whole = content(items).similarity.toarray()
    pairs_of = np.arange(40) ^ 1
    assert (titles.argmax(axis=0) == pairs_of).mean() > 0.9
    assert ((whole.argmax(axis=0) == pairs_of) >= (titles.argmax(axis=0) == pairs_of)).mean() > 0.9


def test_without_a_title_the_rest_counts_whole() -> None:
    """As categories would: the same labels make the same likeness."""
    some = [[f"k{row // 4}", f"c{row % 5}"] for row in range(40)]
    plain = shop_items().assign(title="", categories=None)
    by_category = content(plain.assign(categories=some)).similarity
    by_tag = content(plain.assign(tags=some)).similarity
    np.testing.assert_allclose(by_tag.toarray(), by_category.toarray(), atol=1e-6)


def test_what_is_read_is_bounded() -> None:
    items = (
        shop_items()
        .iloc[:2]
        .assign(
            description="word " * 20_000,
            tags=[[f"t{row}" for row in range(10_000)]] * 2,
            attributes=[[f"a{row}={row % 7}" for row in range(10_000)]] * 2,
        )
    )
    more = beyond(Catalogue.of(items))
    assert more is not None
    assert len(more[0].labels) == 2 * MOST
    assert sum(map(len, more[0].description)) <= LONGEST
    column: dict[str, int] = {}
    many = [each._replace(description=[f"w{row}" for row in range(500)]) for each in more]
    fields = Fields.of([["cup"]] * 2, many, column)
    spread = fields.spread()
    kept = fields.with_keywords(rarity(spread, 2), spread, 2).description
    assert kept is not None
    assert np.diff(kept.indptr).max() <= 2 * KEYWORDS
