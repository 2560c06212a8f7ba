"""The quality bench: its windows leak nothing, its cache knows what it was made of, a tiny set goes through end to end."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import cache, protocols
from bench.contest import Contest
from bench.judging import Question, judge, summary
from bench.published import MARK, of_set, stands_in
from bench.quality import _published, figures_of


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = [
        (user, item)
        for user in range(60)
        for item in random.choice(40, random.integers(6, 15), replace=False)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id"])


@pytest.fixture(scope="module")
def split(pairs):
    test = pairs.groupby("user_id").head(2)
    return protocols.split_of("tiny", protocols.named(pairs.drop(test.index)), protocols.named(test))


@pytest.fixture(scope="module")
def sequence(pairs):
    rows = pairs.assign(position=pairs.groupby("user_id").cumcount())
    return protocols.sequence_of(
        "tiny", rows, pd.DataFrame({"item_id": [3, 99], "attributes": [[1, 2], [4]]})
    )


def known(window) -> set[tuple[str, str]]:
    rows = window.histories[["user_id", "item_ids"]].explode("item_ids")
    return set(zip(rows["user_id"], rows["item_ids"], strict=True))


def wanted(window) -> set[tuple[str, str]]:
    return set(zip(window.truth["user_id"], window.truth["item_id"], strict=True))


@pytest.mark.parametrize("which", ["split", "sequence"])
def test_no_window_knows_its_own_or_a_later_ones_truth(which, request):
    protocol = request.getfixturevalue(which)
    assert wanted(protocol.test)
    assert wanted(protocol.validation)
    for earlier in (*protocol.earlier, protocol.validation, protocol.test):
        later = wanted(earlier) | wanted(protocol.test)
        if earlier is not protocol.test:
            later |= wanted(protocol.validation)
        assert not known(earlier) & later
    for earlier in protocol.earlier:
        assert not wanted(earlier) & (wanted(protocol.validation) | wanted(protocol.test))


def test_events_are_before_their_window(sequence, split):
    for protocol in (sequence, split):
        for window in (*protocol.earlier, protocol.validation, protocol.test):
            assert window.histories["event_times"].map(max).max() < window.at.timestamp()
    assert sequence.test.histories["event_times"].map(max).eq(protocols.AT.timestamp() - 86_400).all()


def test_everything_before_the_test_is_learnt_from(pairs, split, sequence):
    assert len(known(split.test)) == len(pairs) - 2 * pairs["user_id"].nunique()
    assert len(known(sequence.test)) == len(pairs) - pairs["user_id"].nunique()


def test_unseen_items_can_be_ranked_and_have_their_attributes(sequence):
    items = sequence.test.items.set_index("item_id")
    assert items.loc["99", "categories"] == ["c4"]
    assert items.loc["99", "n_buyers"] == 0
    assert "99" in Question.of(sequence.test).item_ids


def test_a_sets_absence_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv(protocols.DATA, raising=False)
    with pytest.raises(protocols.NotHere, match="AISLE_BENCH_DATA is not set"):
        protocols.load("gowalla")
    monkeypatch.setenv(protocols.DATA, str(tmp_path))
    with pytest.raises(protocols.NotHere, match="amazon_beauty"):
        protocols.load("beauty")


def test_keys_change_with_data_and_configuration(split):
    truth = split.validation.truth.iloc[1:]
    changed = type(split.validation)(
        split.validation.at, split.validation.items, split.validation.histories, truth
    )
    assert (
        protocols.digest(changed) != protocols.digest(split.validation) == protocols.digest(split.validation)
    )
    assert (
        cache.key("a", {"x": 1, "y": 2})
        == cache.key("a", {"y": 2, "x": 1})
        != cache.key("a", {"x": 1, "y": 3})
    )


def test_the_judge_knows_a_perfect_list_and_an_empty_one(split):
    question = Question.of(split.test)
    perfect = np.full((len(question.asked), 20), -1)
    for row in range(len(perfect)):
        items = question.truth[[row]].nonzero()[1]
        perfect[row, : len(items)] = items
    found = judge(question, "new", perfect, ("ndcg@20", "recall@20"))
    assert found["ndcg@20"].to_numpy() == pytest.approx(1.0)
    assert found["recall@20"].eq(1.0).all()
    assert judge(question, "new", np.full_like(perfect, -1), ("recall@20",))["recall@20"].eq(0.0).all()
    with pytest.raises(ValueError, match="lists for"):
        judge(question, "new", perfect[1:], ("recall@20",))


def test_a_tiny_set_end_to_end_and_again_from_the_cache(split, monkeypatch, tmp_path):
    monkeypatch.setenv(cache.HERE, str(tmp_path))
    contest = Contest(split, minutes=0.02)
    entry = contest.run("item-item cosine")
    owned = contest.test.owned
    assert not any(owned[[row] * 20, entry.lists["new"][row]].any() for row in range(len(contest.test.asked)))
    rows = summary(contest.test, entry.lists, split.metrics, 50)
    assert {row["metric"] for row in rows} == {"recall@20", "ndcg@20", "coverage@20"}
    assert contest.run("personal frequency").why
    monkeypatch.setattr(contest, "_child", lambda *_: pytest.fail("nothing should run again"))
    np.testing.assert_array_equal(contest.run("item-item cosine").lists["new"], entry.lists["new"])


def test_published_figures_are_marked_and_beat_nobody(split):
    assert stands_in("gowalla", "EASE").figures["recall@20"] == 0.1765
    rows = _published(split, f"EASE {MARK}", of_set("gowalla")[0].figures)
    ours = {
        "model": "aisle",
        "column": "new",
        "metric": "recall@20",
        "mean": 0.1,
        "seconds": 1.0,
        "peak_mib": 1.0,
    }
    assert all(row["published"] and row["model"].endswith(MARK) for row in rows)
    assert not any("best peer" in label for label in figures_of("gowalla", [ours, *rows]))
