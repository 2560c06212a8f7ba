"""The sequence model learns an order that is there, says the same in TensorFlow and NumPy, and goes on from its weights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sequence import Histories, hidden
from engine.sources.sequence import Sequence
from engine.state import UserState
from training.sequence import Examples, Judge, _of, _vocabulary, fit
from training.sequence_model import SequenceModel, SequenceSettings, exported, tf

CUT = datetime(2024, 6, 1, tzinfo=UTC)
DAY = 86_400
RING = 20  # items that follow one another in a ring: 0, 1, … 19, 0, …
TINY = SequenceSettings(
    dimension=16, length=8, steps=6, dropout=0.1, negatives=16, batch_events=256, epochs=8, learning_rate=1e-2
)


def catalogue(n: int = RING) -> Catalogue:
    items = pd.DataFrame({"item_id": [f"item {row:02d}" for row in range(n)]})
    items["categories"] = [[f"third {row // 7}"] for row in range(n)]
    return Catalogue.of(items)


def histories(seed: int = 0, users: int = 80, basket: int = 1, step: int = 1) -> list[UserState]:
    """Users who walk round the ring, `basket` items a day, newest first, the day before the cut at the latest."""
    rng = np.random.default_rng(seed)
    states = []
    for user in range(users):
        days, start = int(rng.integers(3, 14)), int(rng.integers(RING))
        visits = [
            (day, (start + step * (day * basket + at)) % RING) for day in range(days) for at in range(basket)
        ]
        visits = visits[::-1]
        times = [int(CUT.timestamp()) - (days - day) * DAY for day, _ in visits]
        names = [f"item {item:02d}" for _, item in visits]
        states.append(UserState(f"u{user}", None, names, ["purchase"] * len(visits), times))
    return states


def events(states: list[UserState], shop: Catalogue | None = None) -> Events:
    return Events.of(states, (shop or catalogue()).index, CUT, {"purchase": 1.0, "return": -1.0})


def following(asked: Events) -> np.ndarray:
    """The ring's item after each user's newest."""
    _, first = np.unique(asked.user, return_index=True)
    return (asked.item[first] + 1) % RING


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def learned():
    return fit(events(histories()), catalogue(), TINY, progress=quiet)


def test_it_learns_what_follows(learned) -> None:
    asked = events(histories(seed=1))
    scores = Sequence.fit(learned.export, catalogue()).scores(asked)
    assert (scores.argmax(axis=1) == following(asked)).mean() > 0.9
    assert learned.epochs[-1]["loss"] < learned.epochs[0]["loss"]
    assert learned.examples_per_second > 0


def test_tensorflow_and_numpy_say_the_same() -> None:
    shop, some = catalogue(), events(histories(basket=3))
    model = SequenceModel(_vocabulary(some, shop, None), TINY)
    random = np.random.default_rng(5)
    for variable in model.trained:  # nothing may hide behind a weight that starts at zero
        variable.assign(variable + random.normal(size=variable.shape, scale=0.3).astype(np.float32))
    flat = Histories.of(some.user, some.item, some.weight, some.age, some.n_users)
    windows = flat.windows(np.maximum(flat.start[:-1], flat.start[1:] - 8), flat.start[1:])
    arrays = tuple(map(tf.constant, (windows.item, windows.weight, windows.step, windows.there)))
    expected = model.hidden(model.item_vectors(), arrays).numpy()
    export = exported(model)
    found = hidden(export, export.vectors(shop), windows)
    np.testing.assert_allclose(found[windows.there], expected[windows.there], rtol=1e-4, atol=1e-4)


def test_the_same_data_and_seed_give_the_same_weights(learned) -> None:
    again = fit(events(histories()), catalogue(), TINY, progress=quiet)
    other = fit(events(histories()), catalogue(), replace(TINY, seed=8), progress=quiet)
    for name, each in learned.weights.items():
        np.testing.assert_array_equal(each, again.weights[name], err_msg=name)
    assert not np.array_equal(learned.weights["item_table"], other.weights["item_table"])


def test_a_judge_chooses_the_epoch_and_its_weights_are_kept() -> None:
    asked = events(histories(seed=2))
    wanted = sparse.csr_array(np.eye(RING, dtype=np.float32)[following(asked)])
    rated = fit(
        events(histories()), catalogue(), replace(TINY, epochs=30), Judge(asked, wanted), progress=quiet
    )
    figures = [row["new_ndcg@10"] for row in rated.epochs]
    assert rated.kept == 1 + int(np.argmax(figures))
    assert len(figures) < 30, "it stops where nothing is gained any more"
    kept = Judge(asked, wanted).figures(Sequence.fit(rated.export, catalogue()), TINY.judged_users, TINY.seed)
    assert kept["new_ndcg@10"] == pytest.approx(max(figures))


def test_a_judge_ranks_the_whole_catalogue(learned) -> None:
    asked = events(histories(seed=3, users=20))
    wanted = sparse.csr_array(np.eye(RING, dtype=np.float32)[following(asked)])
    source = Sequence.fit(learned.export, catalogue())
    rank = (source.scores(asked) > source.scores(asked)[np.arange(20), following(asked)][:, None]).sum(axis=1)
    found = Judge(asked, wanted).figures(source, 20, 0)
    assert found["ndcg@10"] == pytest.approx(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean(), abs=1e-6)


def test_some_users_of_events_are_those_users() -> None:
    whole, some = events(histories(users=6)), np.array([1, 4])
    picked, alone = _of(whole, some), events([whole.states[1], whole.states[4]])
    for name in ("user", "item", "weight", "age"):
        np.testing.assert_array_equal(getattr(picked, name), getattr(alone, name))


@pytest.mark.parametrize("basket", [1, 3])
def test_a_basket_is_learnt_item_by_item_in_an_order_of_its_own(basket: int) -> None:
    some, shop = events(histories(basket=basket)), catalogue()
    examples = Examples.of(some, shop, _vocabulary(some, shop, None), TINY)
    random = np.random.default_rng(0)
    (one, _), (other, importance) = examples.one_by_one(random), examples.one_by_one(random)
    assert (one.item == other.item).all() == (basket == 1)
    whole = examples.histories
    together = list(zip(examples.user.tolist(), whole.step.tolist(), strict=True))
    same = [sorted(zip(together, each.item.tolist(), strict=True)) for each in (whole, one, other)]
    assert same[0] == same[1] == same[2], "no item leaves its basket"
    assert ((importance == 0) == (other.step == 0)).all(), "the first of a user answers nothing"
    assert examples.shares.sum() == pytest.approx(1)


def test_an_epoch_reads_every_event_once_or_the_newest_within_its_bound() -> None:
    some, shop = events(histories(basket=3)), catalogue()
    vocabulary = _vocabulary(some, shop, None)
    first, last = Examples.of(some, shop, vocabulary, TINY).windows(np.random.default_rng(0))
    read = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    assert sorted(read.tolist()) == list(range(len(some.item)))
    assert (last - first).max() == TINY.length
    bounded = Examples.of(some, shop, vocabulary, replace(TINY, epoch_events=300))
    first, last = bounded.windows(np.random.default_rng(0))
    assert 300 <= (last - first).sum() < 300 + TINY.length


def test_a_batch_holds_targets_of_the_next_step() -> None:
    some, shop = events(histories()), catalogue()
    examples = Examples.of(some, shop, _vocabulary(some, shop, None), TINY)
    seen = 0
    for windows, target, importance in examples.epoch(np.random.default_rng(0)):
        there = target >= 0
        np.testing.assert_array_equal(target[there], (windows.item[there] + 1) % RING)
        assert (importance[there] == 1).all()
        assert not (there & ~windows.there).any()
        seen += int(there.sum())
    assert seen == len(some.item) - some.n_users


def test_old_answers_count_less_where_settings_say_so() -> None:
    some, shop = events(histories()), catalogue()
    settings = replace(TINY, half_life_days=2.0)
    examples = Examples.of(some, shop, _vocabulary(some, shop, None), settings)
    expected = 0.5 ** (examples.histories.age / 2.0)
    np.testing.assert_allclose(examples.importance, expected, rtol=1e-5)
    shuffled, importance = examples.one_by_one(np.random.default_rng(0))
    np.testing.assert_allclose(
        importance, np.where(shuffled.step > 0, 0.5 ** (shuffled.age / 2.0), 0), rtol=1e-5
    )


def test_a_warm_start_goes_on_and_new_items_get_rows(learned) -> None:
    shop = catalogue(RING + 2)
    walkers = histories(seed=4)
    newer = UserState(
        "n", None, ["item 21", "item 20"], ["purchase"] * 2, [int(CUT.timestamp()) - DAY * n for n in (1, 2)]
    )
    some = events([*walkers, newer], shop)
    still = fit(some, shop, replace(TINY, epochs=1, learning_rate=0.0), start=learned.weights, progress=quiet)
    assert still.export.item_ids == [f"item {row:02d}" for row in range(RING + 2)]
    np.testing.assert_array_equal(still.weights["item_table"][:RING], learned.weights["item_table"])
    assert not still.weights["item_table"][RING:].any(), "of a new item only its attributes are known"
    warm = fit(some, shop, replace(TINY, epochs=1), start=learned.weights, progress=quiet)
    assert warm.epochs[0]["loss"] < learned.epochs[0]["loss"] / 2
    assert warm.weights["item_table"][RING:].any()


def test_an_item_that_nobody_had_is_near_its_own_category(learned) -> None:
    """Item 20 came after the training; its category is that of items 14 to 19."""
    source = Sequence.fit(learned.export, catalogue(RING + 1))
    assert "item 20" not in learned.export.item_ids
    assert learned.export.attributes == ["category:third 0", "category:third 1", "category:third 2"]
    np.testing.assert_allclose(source.vectors[20], learned.export.attribute_vectors[2], rtol=1e-6)


def test_without_an_order_there_is_nothing_to_learn() -> None:
    one = [UserState("a", None, ["item 01", "item 02"], ["purchase", "return"], [2, 1])]
    with pytest.raises(ValueError, match="no user has two events"):
        fit(events(one), catalogue(), TINY, progress=quiet)
