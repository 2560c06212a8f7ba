"""The sequence model's forward pass on random weights, against sums written out, and what must not change its answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from engine import bundle
from engine.interactions import Catalogue, Events
from engine.sequence import Histories, SequenceExport, batches, hidden, user_vectors
from engine.sources.sequence import Sequence
from engine.state import UserState, epoch
from tests.engine.shop import CUT, WEIGHTS, ids

D, HEADS, BLOCKS, WIDE = 8, 2, 2, 5
LAYERS = {"qkv": (D, 3 * D), "merge": (D, D), "seen_gate": (D, D), "wide_gate": (D, D)}
LAYERS |= {"widen": (D, 2 * WIDE), "narrow": (WIDE, D)}


def export(seed: int = 0, length: int = 6) -> SequenceExport:
    """Random weights; the shop's first 30 items are known by id, and two attributes are."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape, scale=0.5).astype(np.float32)

    layers = {name: draw(BLOCKS, *shape) for name, shape in LAYERS.items()}
    layers |= {f"{name}_bias": draw(BLOCKS, shape[1]) for name, shape in LAYERS.items()}
    layers |= {"norms": draw(BLOCKS, 4, D), "last_norm": draw(2, D)}
    return SequenceExport(
        item_ids=ids()[:30],
        item_vectors=draw(30, D),
        attributes=["brand:acme", "category:gifts"],
        attribute_vectors=draw(2, D),
        distances=draw(4, HEADS),
        strength=draw(D),
        length=length,
        layers=layers,
    )


def shop(brand_of_new: str | None = None, categories: list[str] | None = None) -> Catalogue:
    items = pd.DataFrame({"item_id": ids(), "brand": None})
    items["brand"] = [None] * 30 + [brand_of_new] * 10
    items["categories"] = [[]] * 30 + [categories or []] * 10
    return Catalogue.of(items)


def events(*users: list[tuple[int, float]], kind: str = "purchase") -> Events:
    """Users as lists of (item row, days before the cut), newest first."""
    states = [
        UserState(
            f"u{n}",
            None,
            [f"item {item:02d}" for item, _ in user],
            [kind] * len(user),
            [int(epoch(CUT) - age * 86_400) for _, age in user],
        )
        for n, user in enumerate(users)
    ]
    return Events.of(states, shop().index, CUT, {**WEIGHTS, "view": 0.1})


def written_out(model: SequenceExport, items: list[int], steps: list[int]) -> np.ndarray:
    """The hidden state at the last event of one history, one query at a time."""

    def norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ model.layers[name][block] + model.layers[f"{name}_bias"][block]

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    states = [model.item_vectors[item] + model.strength for item in items]
    each = D // HEADS
    for block in range(BLOCKS):
        one, shift_one, two, shift_two = model.layers["norms"][block]
        qkv = [dense(norm(x, one, shift_one), "qkv") for x in states]
        after = []
        for place, x in enumerate(states):
            seen = []
            for head in range(HEADS):
                part = slice(head * each, (head + 1) * each)
                among = [p for p in range(len(items)) if steps[p] <= steps[place]]
                logits = [
                    qkv[place][:D][part] @ qkv[p][D : 2 * D][part] / np.sqrt(each)
                    + model.distances[min(steps[place] - steps[p], 3), head]
                    for p in among
                ]
                shares = np.exp(logits) / np.exp(logits).sum()
                seen.append(sum(s * qkv[p][2 * D :][part] for s, p in zip(shares, among, strict=True)))
            x = x + dense(np.concatenate(seen), "merge") * sigmoid(dense(x, "seen_gate"))
            wide, gate = np.split(dense(norm(x, two, shift_two), "widen"), 2)
            after.append(x + dense(wide * gate * sigmoid(gate), "narrow") * sigmoid(dense(x, "wide_gate")))
        states = after
    newest = [x for x, step in zip(states, steps, strict=True) if step == steps[-1]]
    return norm(np.mean(newest, axis=0), *model.layers["last_norm"])


def vectors_of(model: SequenceExport, asked: Events) -> np.ndarray:
    histories = Histories.of(asked.user, asked.item, asked.weight, asked.age, asked.n_users)
    return user_vectors(model, model.item_vectors, histories)


def test_the_forward_pass_is_the_sums_written_out() -> None:
    asked = events([(3, 0), (7, 1), (7, 2), (9, 5), (1, 9)])
    expected = written_out(export(), [1, 9, 7, 7, 3], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(vectors_of(export(), asked)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_basket_is_one_step_and_its_order_changes_nothing() -> None:
    asked = events([(3, 0), (7, 0), (9, 5), (1, 5)], [(7, 0), (3, 0), (1, 5), (9, 5)])
    found = vectors_of(export(), asked)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    steps = [0, 0, 1, 1]
    np.testing.assert_allclose(found[0], written_out(export(), [1, 9, 7, 3], steps), rtol=1e-4, atol=1e-5)


def test_the_order_of_steps_does_change_it() -> None:
    found = vectors_of(export(), events([(3, 0), (7, 1), (9, 5)], [(3, 0), (9, 1), (7, 5)]))
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_only_the_newest_events_are_read() -> None:
    newest = [(item, float(item)) for item in range(6)]
    found = vectors_of(export(), events(newest, [*newest, (20, 30.0)], newest[:5]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_later_events_are_not_seen_by_earlier_ones() -> None:
    asked = events([(3, 0), (7, 1), (9, 5)], [(4, 0), (7, 1), (9, 5)])
    histories = Histories.of(asked.user, asked.item, asked.weight, asked.age, 2)
    windows = histories.windows(histories.start[:-1], histories.start[1:])
    found = hidden(export(), export().item_vectors, windows)
    np.testing.assert_allclose(found[0, :2], found[1, :2], rtol=1e-4, atol=1e-6)
    assert np.abs(found[0, 2] - found[1, 2]).max() > 1e-3


def test_returns_are_left_out_and_a_view_is_not_a_purchase() -> None:
    model, bought = export(), vectors_of(export(), events([(3, 0)]))
    assert not vectors_of(model, events([(3, 0)], kind="return")).any()
    assert np.abs(vectors_of(model, events([(3, 0)], kind="view")) - bought).max() > 1e-3


def test_histories_are_oldest_first_with_steps() -> None:
    asked = events([(3, 0), (7, 0), (9, 5)], [], [(1, 2)])
    found = Histories.of(asked.user, asked.item, asked.weight, asked.age, 3)
    assert found.item.tolist() == [9, 7, 3, 1]
    assert found.step.tolist() == [0, 1, 1, 0]
    assert found.start.tolist() == [0, 3, 3, 4]


def test_batches_hold_everybody_once_and_keep_to_their_size() -> None:
    lengths = np.array([5, 0, 2, 9, 2, 40])
    found = list(batches(lengths, 12))
    assert sorted(np.concatenate(found).tolist()) == [0, 2, 3, 4, 5]
    assert all(len(one) == 1 or len(one) * lengths[one].max() <= 12 for one in found)


def test_users_are_scored_alone_as_in_company() -> None:
    source = Sequence.fit(export(), shop())
    longest = [(item, float(item)) for item in range(12)]
    together = source.scores(events([(3, 0), (7, 1)], longest, []))
    alone = source.scores(events([(3, 0), (7, 1)]))
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-4, atol=1e-5)
    assert together.dtype == np.float32
    assert not together[2].any(), "a user without a history"


def test_an_unknown_item_scores_nothing_and_one_with_known_attributes_something() -> None:
    asked = events([(3, 0), (7, 1)])
    unknown = Sequence.fit(export(), shop("nobody's"))
    assert not unknown.scores(asked)[0, 30:].any()
    assert np.abs(unknown.scores(asked)[0, :30]).min() > 0
    assert unknown.scores(asked)[0].mean() == pytest.approx(0, abs=1e-4)
    known = Sequence.fit(export(), shop("acme", ["gifts", "unheard of"]))
    expected = export().attribute_vectors.mean(axis=0)
    np.testing.assert_allclose(known.vectors[30:], np.tile(expected, (10, 1)), rtol=1e-6)
    assert known.scores(asked)[0, 35] != 0


def test_a_history_may_hold_items_that_the_model_cannot_read() -> None:
    source = Sequence.fit(export(), shop())
    with_unknown = source.scores(events([(35, 0), (3, 1), (7, 2)]))
    np.testing.assert_allclose(with_unknown, source.scores(events([(3, 1), (7, 2)])), rtol=1e-5)


def test_arrays_bring_the_source_back() -> None:
    source = Sequence.fit(export(), shop("acme"))
    again = Sequence.from_arrays(bundle.unpack_arrays(bundle.pack_arrays(source.arrays())))
    asked = events([(3, 0), (7, 1)], [(35, 0)])
    np.testing.assert_array_equal(again.scores(asked), source.scores(asked))
    assert again.export.item_ids == source.export.item_ids


def test_evidence_is_the_item_without_which_the_score_falls_most() -> None:
    source = Sequence.fit(export(), shop())
    history = [(3, 0.0), (7, 1.0), (9, 5.0), (7, 6.0)]
    full = source.scores(events(history))[0]
    for item in (0, 5, 12, 28):
        falls = {
            mine: full[item] - source.scores(events([row for row in history if row[0] != mine]))[0, item]
            for mine in (3, 7, 9)
        }
        loudest = max(falls, key=falls.__getitem__)
        found = source.evidence(events(history), item)
        if falls[loudest] <= 0:
            assert found is None
            continue
        share = falls[loudest] / sum(each for each in falls.values() if each > 0)
        assert found == {"item": loudest, "share": pytest.approx(share, abs=2e-3), "order": True}


def test_nothing_is_said_of_a_user_without_a_history_or_an_item_that_is_not_known() -> None:
    source = Sequence.fit(export(), shop())
    assert source.evidence(events([]), 3) is None
    assert source.evidence(events([(3, 0)], kind="return"), 3) is None
    assert source.evidence(events([(3, 0), (7, 1)]), 35) is None


def test_a_moment_later_nothing_has_changed() -> None:
    source, asked = Sequence.fit(export(), shop()), events([(3, 0), (7, 1)])
    later = replace(asked, age=asked.age + 3, now=asked.now + timedelta(days=3))
    np.testing.assert_array_equal(source.scores(later), source.scores(asked))
