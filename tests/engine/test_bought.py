"""What somebody looked at is not bought: it is shown, teaches no repeat purchases, and counts for less."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engine import tuning
from engine.interactions import Catalogue, Events
from engine.one_user import OneUser
from engine.ranking import union
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.sources import FROM_HISTORIES
from engine.sources.graph import Graph
from engine.sources.item_item import ItemItem
from engine.sources.next_bought import NextBought
from engine.sources.popularity import Popularity
from engine.state import DAY, UserState, epoch, from_frame
from engine.trends import Trends
from engine.windows import Window
from tests.engine.shop import CUT, frames, ids
from training.ranking import Examples, learn

WEIGHTS = {"purchase": 1.0, "cart": 0.5, "view": 0.1, "return": -1.0}
NOW = int(epoch(CUT))


def with_looks(histories: pd.DataFrame, looks: dict[str, list[str]], ago: int = 60) -> pd.DataFrame:
    """The histories with a view of each of a user's `looks`, so many seconds before the cut."""
    found = histories.copy()
    mine = [looks.get(user, []) for user in found["user_id"]]
    for column, value in (("event_types", "view"), ("event_times", NOW - ago), ("quantities", 1.0)):
        more = [[value] * len(each) for each in mine]
        found[column] = [[*new, *old] for new, old in zip(more, found[column], strict=True)]
    found["item_ids"] = [[*new, *old] for new, old in zip(mine, found["item_ids"], strict=True)]
    return found


def looked(seed: int = 5) -> pd.DataFrame:
    """The shop where everybody looked at three items yesterday."""
    rng, histories = np.random.default_rng(seed), frames()[1]
    looks = {user: rng.choice(ids(), 3, replace=False).tolist() for user in histories["user_id"]}
    return with_looks(histories, looks, DAY)


@pytest.fixture(scope="module", params=[True, False], ids=["repeat", "never"])
def fitted(request) -> Recommender:
    items, _, truth = frames()
    sources = {name: {} for name in FROM_HISTORIES}
    model = Recommender.fit(
        items, looked(), CUT, Recipe(event_weights=WEIGHTS, sources=sources, repeat=request.param)
    )
    ranker = learn([Examples.of(model, looked(), truth, CUT, 1000, 7)], 7)
    assert ranker is not None
    return model.with_ranker(ranker)


def states() -> list[UserState]:
    """Some of the shop's, one who carted and returned, one who only looked."""
    mixed = UserState(
        "mixed",
        None,
        ["item 04", "item 03", "item 03", "item 02", "item 04"],
        ["cart", "return", "purchase", "purchase", "view"],
        [NOW - DAY * day for day in (1, 2, 3, 4, 5)],
    )
    only = UserState("only", None, ["item 30", "item 31"], ["view", "cart"], [NOW - 60, NOW - 90])
    return [*from_frame(looked())[:12], mixed, only]


@pytest.mark.parametrize("kind", ["view", "cart"])
@pytest.mark.parametrize("ranked", [True, False])
def test_what_was_only_looked_at_is_still_listed(fitted: Recommender, kind: str, ranked: bool) -> None:
    model = fitted if ranked else fitted.with_ranker(None)
    state = from_frame(frames()[1])[0]
    new = next(item for item in ids()[:20] if item not in state.item_ids)
    more = UserState(
        "u", state.country, [new, *state.item_ids], [kind, *state.event_types], [NOW - 60, *state.event_times]
    )
    assert new in [each.item_id for each in model.recommend(more, 40, CUT)]
    assert new in model.batch([more], 40, CUT)[0][0]
    assert new in model.batch([more], 40, CUT, new_only=True)[0][0]
    bought = UserState("u", state.country, more.item_ids, ["purchase", *state.event_types], more.event_times)
    listed = [each.item_id for each in model.recommend(bought, 40, CUT)]
    assert (new in listed) == bool(model.recipe.repeat)
    assert new not in model.batch([bought], 40, CUT, new_only=True)[0][0]


def test_a_user_alone_is_answered_as_among_others(fitted: Recommender) -> None:
    together = fitted.events(states(), CUT)
    scores = fitted.scores(states(), CUT)
    user, item = union(together, fitted.normalised_scores(together), fitted.recipe.repeat is not False)
    for row, state in enumerate(states()):
        alone = fitted.rank(state, CUT)
        assert alone.scored.leaves is not None, "the way of one user was not taken"
        assert alone.scored.candidates.item.tolist() == item[user == row].tolist()
        np.testing.assert_allclose(alone.scores, scores[row], atol=2e-4, err_msg=state.user_id)


def test_a_narrow_rule_leaves_out_what_was_bought_alone(fitted: Recommender) -> None:
    mixed, allowed = states()[-2], np.zeros(40, bool)
    allowed[[2, 3, 4, 9]] = True
    found = fitted.rank(mixed, CUT, allowed).scored.candidates
    assert found.item.tolist() == ([2, 3, 4, 9] if fitted.recipe.repeat else [4, 9])


def test_sums_of_a_history_are_those_of_many(fitted: Recommender) -> None:
    together = fitted.events(states(), CUT)
    for row, state in enumerate(states()):
        alone = OneUser.alone(state, fitted.catalogue.index, CUT, fitted.types)
        for name in ("owned", "bought", "days", "lasting_days"):
            wanted = getattr(together, name)().toarray()[row]
            assert getattr(alone, name)().toarray()[0].tolist() == wanted.tolist(), name
            few = getattr(alone.among(4), name)().toarray()[0]
            assert few.tolist() == wanted[:4].tolist(), name


def test_a_shop_that_weighs_no_purchase_has_what_it_weighs() -> None:
    state = UserState("u", None, ["item 01", "item 02"], ["rating", "purchase"], [NOW - 60, NOW - 90])
    index = {item: row for row, item in enumerate(ids())}
    for weights, wanted in (({"rating": 0.5}, [1]), ({"rating": 0.5, "purchase": 1.0}, [2])):
        assert Events.of([state], index, CUT, weights).bought().indices.tolist() == wanted


def test_looking_first_teaches_no_repeat_purchases() -> None:
    """The same purchases, none of what its buyer had bought before; in the second shop each was viewed once before."""
    items, histories, truth = frames()
    had = {state.user_id: {*state.item_ids} for state in from_frame(histories)}
    first = truth[[item not in had[user] for user, item in truth.values]]
    looks = {user: list(group) for user, group in first.groupby("user_id")["item_id"]}
    recipe = Recipe(event_weights=WEIGHTS)
    plain, _ = tuning.choose(Window(CUT, items, histories, first), recipe)
    viewed, model = tuning.choose(Window(CUT, items, with_looks(histories, looks), first), recipe)
    assert (plain.repeat, viewed.repeat) == (False, False)
    again, _ = tuning.choose(Window(CUT, items, with_looks(histories, looks), truth), recipe)
    assert again.repeat is True
    # And that all bought what they had looked at is learnt: it comes first.
    user, wanted = next((user, items) for user, items in looks.items() if len(items) > 2)
    state = next(each for each in from_frame(with_looks(histories, looks)) if each.user_id == user)
    assert {*wanted} == {each.item_id for each in model.recommend(state, len(wanted), CUT)}


def events(*rows: tuple[str, str, str, float]) -> Events:
    """user, item, type, days ago; newest first."""
    frame = pd.DataFrame(rows, columns=["user", "item", "kind", "ago"]).sort_values("ago")
    found = [
        UserState(
            user, None, list(some["item"]), list(some["kind"]), [int(NOW - ago * DAY) for ago in some["ago"]]
        )
        for user, some in frame.groupby("user")
    ]
    return Events.of(found, {"a": 0, "b": 1, "c": 2, "d": 3}, CUT, WEIGHTS)


CATALOGUE = Catalogue.of(pd.DataFrame({"item_id": list("abcd")}))


def test_personal_counts_days_of_purchases() -> None:
    rows = [("u", "a", "view", day) for day in (1, 2, 3)] + [("u", "b", "purchase", day) for day in (1, 2)]
    found = events(*rows, ("u", "c", "cart", 1))
    personal = FROM_HISTORIES["personal"].fit(found, CATALOGUE)
    assert personal.scores(found)[0].tolist() == [0.0, 2.0, 0.0, 0.0]
    assert personal.scores(OneUser.over(found))[0].tolist() == [0.0, 2.0, 0.0, 0.0]


def test_trends_count_who_bought_and_who_came_back_to_buy() -> None:
    found = Trends.fit(
        events(
            ("u", "a", "purchase", 1), ("u", "a", "view", 2), ("v", "a", "view", 3),
            ("u", "b", "purchase", 1), ("u", "b", "purchase", 2), ("w", "c", "view", 1),
        )
    )  # fmt: skip
    assert found.recent[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert found.again[:2].tolist() == pytest.approx([1 / 9, 2 / 9])
    assert found.buyers.tolist() == [2.0, 1.0, 1.0, 0.0], "of what was looked at, sources know something"


def test_next_bought_learns_from_purchases_what_comes_next() -> None:
    past = [(user, "a", "view", 40.0) for user in "uvw"]
    looks = events(*past, *[(user, "b", "view", 2.0) for user in "uvw"])
    buys = events(*past, *[(user, "b", "purchase", 2.0) for user in "uvw"])
    assert NextBought.fit(looks, CATALOGUE, ridge=1.0).weights.nnz == 0
    assert NextBought.fit(buys, CATALOGUE, ridge=1.0).weights.toarray()[0, 1] > 0


def test_popular_in_a_country_is_what_is_bought_there() -> None:
    found = events(*[(f"u{n}", "a", "view", 1.0) for n in range(6)], ("u7", "b", "purchase", 1.0))
    found.countries[:] = "Japan"
    shares = Popularity.fit(found, CATALOGUE).of_country("Japan")
    assert shares[0] == 0.0
    assert shares[1] > 0.0


def test_neighbours_by_purchases_outweigh_neighbours_by_views() -> None:
    both = [(user, "a", "purchase", 1.0) for user in "uvwxyz"]
    found = events(
        *both,
        *[(user, "b", "purchase", 1.0) for user in "uvw"],
        *[(user, "c", "view", 1.0) for user in "xyz"],
    )
    similar = ItemItem.fit(found, CATALOGUE).similarity.toarray()
    # Three buyers in common; three who looked, each a tenth of one.
    assert similar[0, 1] == pytest.approx(3 / (np.sqrt(6 * 3) + 5))
    assert similar[0, 2] == pytest.approx(0.3 / (np.sqrt(6 * 0.03) + 5))
    steps = Graph.fit(found, CATALOGUE).steps.toarray()
    assert steps[0, 1] > steps[0, 2] > 0


def test_a_purchase_is_whole_whatever_it_weighs_and_whatever_came_with_it() -> None:
    found = events(
        ("u", "a", "purchase", 1), ("u", "a", "view", 2), ("u", "b", "cart", 1), ("u", "b", "view", 2),
        ("u", "c", "view", 1), ("u", "d", "purchase", 3), ("u", "d", "return", 1),
    )  # fmt: skip
    assert found.strength().toarray()[0].tolist() == pytest.approx([1.0, 0.6, 0.1, 1.0])
    alone = Events.of(found.states, {"a": 0}, CUT, {"purchase": 0.25})
    assert alone.strength().toarray()[0].tolist() == [1.0]
