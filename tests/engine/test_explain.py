"""Reasons of a whole list beside the definition of one: the same source, evidence and parts, worked out item by item in plain Python."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from aisle import goal
from aisle import settings as settings_module
from aisle.lake import project_root
from bench import online_retail
from engine import compiled, explain
from engine.explain import SPEAKS_FOR, Kinds, deed
from engine.interactions import Events
from engine.ranker import PARTS
from engine.ranking import SCORE
from engine.recipe import Recipe
from engine.recommender import Ranked, Recommender
from engine.state import UserState, epoch, from_frame
from tests.engine.shop import CUT, WEIGHTS, frames, tower
from training.ranking import Examples, learn

SHIPPED = ("popularity", "personal", "item_item", "linear", "next_bought", "content", "factors")
SMALL = (*SHIPPED, "graph", "people")
USERS = 400
Case = tuple[Recommender, list[UserState]]


@pytest.fixture(scope="module")
def shipped() -> Case:
    """The shipped shop, and everybody's first customers."""
    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    cut = online_retail.END - timedelta(days=28)
    window = online_retail.window(lines, cut, 28)
    recipe = Recipe.of(settings_module.load()).model_copy(update={"sources": {name: {} for name in SHIPPED}})
    model = Recommender.fit(window.items, window.histories, cut, recipe)
    ranker = learn([Examples.of(model, window.histories, window.truth, cut, 100, 7)], 7)
    return model.with_ranker(ranker), from_frame(window.histories.head(USERS))


@pytest.fixture(scope="module")
def small() -> Case:
    """Every source of a history, without a ranker and with one."""
    items, histories, truth = frames()
    recipe = Recipe(event_weights=WEIGHTS, sources={name: {} for name in (*SMALL, "two_tower")})
    model = Recommender.fit(items, histories, CUT, recipe, {"two_tower": tower()})
    ranker = learn([Examples.of(model, histories, truth, CUT, 1000, 7)], 7)
    return model.with_ranker(ranker), from_frame(histories)[:30]


def steps_of(model: Recommender) -> list[dict[int, list[tuple[str, float]]]]:
    """By tree and leaf, the steps to it: each belongs to the feature that was asked."""
    owner = [PARTS.get(name, name.removeprefix(SCORE)) for name in model.ranker.names]

    def walk(node: dict[str, Any], steps: list[tuple[str, float]], found: dict) -> dict[int, list]:
        if "leaf_value" in node:
            found[node.get("leaf_index", 0)] = steps
            return found
        for child in (node["left_child"], node["right_child"]):
            mean = child.get("leaf_value", child.get("internal_value"))
            walk(child, [*steps, (owner[node["split_feature"]], mean - node["internal_value"])], found)
        return found

    roots = [tree["tree_structure"] for tree in model.ranker.model.dump_model()["tree_info"]]
    return [
        walk(root, [("base", root.get("internal_value", root.get("leaf_value", 0.0)))], {}) for root in roots
    ]


def along(steps: list[dict[int, list[tuple[str, float]]]], leaves: np.ndarray) -> dict[str, float]:
    """The parts of one ranked item."""
    parts: dict[str, float] = {}
    for tree, leaf in zip(steps, leaves.tolist(), strict=True):
        for name, step in tree[leaf]:
            parts[name] = parts.get(name, 0.0) + step
    return parts


def blended(model: Recommender, ranked: Ranked, item: int) -> dict[str, float]:
    """The parts of an item that no ranker ordered."""
    events, weights = ranked.events, model.recipe.weights
    had = bool(((events.item == item) & (events.weight > 0)).any())
    used = weights.again if had else weights.new
    parts = {
        name: used.get(name, 0.0) * float(each[0, item]) for name, each in ranked.scored.normalised.items()
    }
    parts["again"] = weights.offset if had else 0.0
    below = float(ranked.scored.scores[0, item]) - sum(parts.values())
    return {**parts, "below": below} if abs(below) > 1e-3 else parts


def spoken(model: Recommender, parts: dict[str, float], plain: Events, item: int) -> list[tuple[str, Any]]:
    """The sources that have evidence, loudest first. plain: of the batch path, whose sources are asked for this item alone."""
    loud = {name: parts[name] for name in model.sources if parts.get(name)}
    for part, name in SPEAKS_FOR.items():
        if name in loud:
            loud[name] += parts.get(part, 0.0)
    asked = [(name, model.sources[name].evidence(plain, item)) for name in sorted(loud, key=loud.get)[::-1]]
    return [(name, evidence) for name, evidence in asked if evidence is not None]


def strongest(weights, tastes, item: int) -> tuple[set[int], float]:
    """What of a history adds most to an item, with its share; several where they tie."""
    parts = tastes.toarray().ravel() * weights[:, [item]].toarray().ravel()
    best = np.flatnonzero(np.isclose(parts, parts.max(), rtol=1e-5))
    return {*best.tolist()}, float(parts.max() / parts[parts > 0].sum())


def agree(model: Recommender, state: UserState, listed: np.ndarray, ranked: Ranked) -> int:
    """Holds the reasons of a list to the definition. How many of them name an item of the history."""
    plain, named = model.events([state], ranked.events.now), 0
    candidates, leaves = ranked.scored.candidates, ranked.scored.leaves
    steps = steps_of(model) if candidates else []
    told = model.told(ranked, listed, exact=False)
    written = model.told(ranked, listed, exact=False, written=4)
    for item, each, text in zip(listed.tolist(), told, written, strict=True):
        among = np.flatnonzero(candidates.item == item) if candidates else []
        parts = along(steps, leaves[among[0]]) if len(among) else blended(model, ranked, item)
        found = each.reason["parts"]
        for name in {*found, *parts}:
            assert found.get(name, 0.0) == pytest.approx(parts.get(name, 0.0), abs=2e-5), (name, each)
        assert each.score == pytest.approx(sum(found.values()), abs=2e-3)
        said = json.loads(text.reason["parts"])
        assert said == {name: round(value, 4) for name, value in found.items() if round(value, 4)}
        assert (text.item_id, text.score, text.reason["source"]) == (*each[:2], each.reason["source"])
        assert text.reason["evidence"] == each.reason["evidence"]
        source, evidence = spoken(model, parts, plain, item)[0]
        assert each.reason["source"] == source
        named += holds(model, state, plain, item, each.reason, evidence)
    return named


def holds(
    model: Recommender, state: UserState, plain: Events, item: int, reason: dict[str, Any], evidence: dict
) -> bool:
    """Holds one reason's evidence to what its source says of the item alone, and to the user's own events."""
    told, source = reason["evidence"], model.sources[reason["source"]]
    ids = model.catalogue.item_ids
    if evidence.get("own"):
        assert told == deed(state, ids[item], epoch(plain.now))
        return False
    if "item" not in evidence:
        assert {name: told[name] for name in evidence} == evidence
        return False
    assert told["title"] == model.catalogue.value("title", model.catalogue.index[told["item_id"]])
    assert told["event_type"] == deed(state, told["item_id"], 0.0)["event_type"]
    assert told["share"] == pytest.approx(evidence["share"], abs=2e-3)
    assert told.keys() - evidence.keys() == {"item_id", "title", "event_type"}
    if source.name in ("item_item", "content", "next_bought"):
        weights = source.weights if source.name == "next_bought" else source.similarity
        tastes = plain.owned() if source.name == "next_bought" else plain.tastes(source.half_life_days)
        best, share = strongest(weights, tastes, item)
        assert model.catalogue.index[told["item_id"]] in best
        assert told["share"] == pytest.approx(share, abs=1e-3)
    return True


def test_reasons_of_many_customers_of_the_shipped_shop(shipped: Case) -> None:
    model, states = shipped
    named = 0
    for state in states[::8]:
        ranked = model.rank(state, model.recipe.cut)
        named += agree(model, state, model.top(ranked.scores[None], 20)[0], ranked)
    assert named > 50


def test_reasons_of_every_source(small: Case) -> None:
    model, states = small
    for each in (model, Recommender(model.recipe, model.catalogue, model.sources, model.trends)):
        heard = set()
        for state in states:
            ranked = each.rank(state, CUT)
            agree(each, state, np.arange(len(each.catalogue)), ranked)
            heard |= {one.reason["source"] for one in each.told(ranked, np.arange(40), exact=False)}
        assert len(heard) >= 4


def test_what_a_source_says_of_many_items_is_what_it_says_of_each(small: Case) -> None:
    model, states = small
    items = np.arange(len(model.catalogue))
    for state in states[:5]:
        plain, ranked = model.events([state], CUT), model.rank(state, CUT)
        for name, source in model.sources.items():
            alone = [source.evidence(plain, item) for item in items.tolist()]
            for one, other in zip(source.evidences(ranked.events, items), alone, strict=True):
                assert (one is None) == (other is None), name
                if one and "share" in one:
                    assert one.pop("share") == pytest.approx(other.pop("share"), abs=2e-3), name
                assert one == other, name


def test_exact_parts_add_up_and_name_the_same_kinds(small: Case) -> None:
    model, states = small
    ranked = model.rank(states[0], CUT)
    listed = model.top(ranked.scores[None], 10)[0]
    for each in model.told(ranked, listed):
        assert sum(each.reason["parts"].values()) == pytest.approx(each.score, abs=1e-4)
        assert {*each.reason["parts"]} <= {*model.kinds.names}


def test_what_a_rule_moved_is_a_part(small: Case) -> None:
    model, states = small
    ranked = model.rank(states[0], CUT)
    ranked = replace(ranked, scores=ranked.scores.copy())
    ranked.scores[3] += 2.0
    reason = model.told(ranked, np.array([3, 4]))[0].reason
    assert reason["parts"]["rules"] == pytest.approx(2.0, abs=1e-5)
    ranked.scores[4] = -np.inf
    text = model.told(ranked, np.array([4]), exact=False, written=4)[0].reason["parts"]
    assert json.loads(text)["rules"] is None


def test_who_has_no_history_is_told_what_is_popular(small: Case) -> None:
    model, _ = small
    ranked = model.rank(UserState("nobody"), CUT)
    told = model.told(ranked, model.top(ranked.scores[None], 5)[0], exact=False)
    assert {each.reason["source"] for each in told} == {"popularity"}


def test_ties_go_to_the_source_that_is_named_first_and_nothing_speaks_without_a_part() -> None:
    kinds = Kinds.of(("a", "personal", "popularity"))
    columns = {name: place for place, name in enumerate(kinds.names)}
    values = np.zeros((3, len(columns)))
    values[0, [columns["a"], columns["popularity"]]] = 0.5
    values[1, columns["again"]] = 9.0  # speaks for what the user bought, where that has a part of its own
    values[1, columns["a"]] = -1.0
    values[2, [columns["personal"], columns["again"], columns["a"]]] = 0.1, 0.5, 0.3
    assert kinds.loudest(values).tolist() == [[0, 2, -1], [0, -1, -1], [1, 0, -1]]


@pytest.mark.parametrize("digits", [1, 4])
def test_numbers_are_written_as_json_reads_them(digits: int) -> None:
    rng = np.random.default_rng(5)
    odd = [0.0, -0.0, 1.0, -1.0, 0.06, -0.99996, 12345.67891, 1e13, -1e13, 1e-9, 0.00004, 10.0, 100.02]
    values = np.concatenate([odd, rng.normal(size=400), 10.0 ** rng.uniform(-6, 12, 87)]).reshape(-1, 5)
    kinds = Kinds.of(('a "name"', "ü"))
    assert len(kinds.names) == 5
    for row, text in zip(values.tolist(), kinds.written(values, digits), strict=True):
        wanted = {name: value for name, value in zip(kinds.names, row, strict=True) if round(value, digits)}
        found = json.loads(text)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, abs=0.5001 * 10**-digits)
            assert found[name] == round(found[name], digits)
    odd_ones = np.array([[np.nan, np.inf, -np.inf, 1e300, 0.5]])
    assert list(json.loads(kinds.written(odd_ones, digits)[0]).values()) == [None] * 4 + [0.5]
    assert kinds.written(np.zeros((0, 5)), digits) == []
    assert kinds.written(np.zeros((2, 5)), digits) == [b"{}", b"{}"]


@pytest.mark.usefixtures("alone")
def test_a_reason_asks_the_compiler_for_nothing_new(small: Case) -> None:
    model, states = small
    compiled.warm()
    loops = {name: each for name, each in vars(compiled).items() if hasattr(each, "signatures")}
    before = {name: set(each.signatures) for name, each in loops.items()}
    for state in states:
        ranked = model.rank(state, CUT)
        model.told(ranked, np.arange(20), exact=False, written=4)
    assert not {name for name, each in loops.items() if {*each.signatures} - before[name]}


def test_deeds_of_several_items_are_those_of_each() -> None:
    day = 86_400
    kinds = ["view", "purchase", "wished", "view", "purchase", "cart", "other"]
    items = ["a", "a", "b", "b", "a", "c", "d"]
    state = UserState("u", None, items, kinds, [day * when for when in (9, 8, 7, 6, 2, 1, 0)])
    found = explain.deeds(state, {*"abd"})
    assert found == {
        "a": ("purchase", [8 * day, 2 * day]),
        "b": ("view", [6 * day]),
        "d": ("other", [0]),
    }


def test_others_are_said_to_have_done_what_the_shop_goes_by(small: Case) -> None:
    """Where people buy, nothing is said of it; of what a user did alone neither."""
    model, states = small
    for kind, said in (("purchase", None), ("rating", "rating")):
        told = []
        for state in states:
            ranked = model.rank(state, CUT)
            items = np.arange(len(model.catalogue.item_ids))
            parts = np.zeros((len(items), len(model.kinds.names)))
            parts[:, model.kinds.names.index("item_item")] = 1.0
            told += explain.reasons(
                model.sources, model.kinds, parts, ranked.events, items, model.catalogue, goal=kind
            )
        evidences = [each["evidence"] for each in told]
        assert {each.get("goal") for each in evidences if "item_id" in each} == {said}
        assert not any(
            "goal" in each for each in evidences if "item_id" not in each and "trending" not in each
        )


def test_a_recipe_of_ratings_goes_by_ratings() -> None:
    settings = goal.towards(settings_module.load(), ("rating", "like"))
    assert Recipe.of(settings).goal == "rating"
    assert Recipe.of(settings_module.load()).goal == "purchase"
