"""What is hidden is hidden everywhere, and only that; what is asked for is what was hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import cold_start
from tests.bench.test_quality_bench import known, pairs, sequence, wanted  # noqa: F401 - fixtures


@pytest.fixture
def protocol(request):
    return request.getfixturevalue("sequence")


def test_hidden_items_are_in_no_window(protocol) -> None:
    hidden = cold_start.hidden_items(protocol, 1)
    assert len(hidden) == round(len(protocol.test.items) * 0.1)
    assert hidden != cold_start.hidden_items(protocol, 2)
    told = cold_start.everywhere(protocol, lambda window: cold_start.without_items(window, hidden))
    for before, after in zip(
        (*protocol.earlier, protocol.validation, protocol.test),
        (*told.earlier, told.validation, told.test),
        strict=True,
    ):
        assert not hidden & set(after.items["item_id"])
        assert known(after) == {pair for pair in known(before) if pair[1] not in hidden}
        assert wanted(after) == {pair for pair in wanted(before) if pair[1] not in hidden}
        lengths = after.histories[list(cold_start.LISTS)].map(len)
        assert lengths.eq(lengths["item_ids"], axis=0).all(axis=None)


def test_people_left_out_come_back_with_their_newest_events_only(protocol) -> None:
    users = cold_start.left_out_users(protocol, 7)
    told = cold_start.without_users(protocol.test, users)
    assert users
    assert not users & set(told.histories["user_id"])
    shown = cold_start.revealed(protocol.test, users, 3)
    assert set(shown.histories["user_id"]) == users
    assert set(shown.truth["user_id"]) <= users
    whole = protocol.test.histories.set_index("user_id")["item_ids"]
    for row in shown.histories.itertuples():
        assert row.item_ids == list(whole[row.user_id])[:3]


def test_figures_say_what_is_asked() -> None:
    found = {
        "warm": [{"warm": 0.1}, {"warm": 0.2}],
        "cold": [{"cold": 0.06}, {"cold": 0.09}],
        "new_users": [
            {"revealed": 3, "column": "new", "metric": "recall@20", "engine": 0.3, "popularity": 0.1},
            {"revealed": 3, "column": "new", "metric": "ndcg@10", "engine": 0.3, "popularity": 0.2},
        ],
    }
    figures = cold_start.figures_of("tiny", found)
    assert figures["tiny, cold over warm"].value == pytest.approx(0.5)
    assert figures["tiny, cold over warm"].met
    ratio = figures["tiny, 3 events told, new recall@20 over popularity"]
    assert (round(ratio.value, 6), ratio.target) == (3.0, 2.0)
    assert figures["tiny, 3 events told, new ndcg@10 over popularity"].target is None


def test_what_is_chosen_by_validation_has_not_seen_the_test(protocol) -> None:
    told = cold_start.a_window_earlier(protocol)
    assert told.test is protocol.validation
    assert (*told.earlier, told.validation) == protocol.earlier
    assert max(window.at for window in (*told.earlier, told.validation)) < told.test.at < protocol.test.at


def test_new_users_figures_are_means_over_the_seeds() -> None:
    rows = [
        {"revealed": 1, "column": "all", "metric": "recall@20", "engine": engine, "popularity": popularity}
        for engine, popularity in ((0.2, 0.1), (0.4, 0.3))
    ]
    figures = cold_start.of_new_users("tiny", rows)
    assert figures["tiny, 1 events told, all recall@20"].value == pytest.approx(0.3)
    ratio = figures["tiny, 1 events told, all recall@20 over popularity"]
    assert (ratio.value, ratio.target) == (pytest.approx(1.5), 1.5)


def test_a_hidden_item_comes_in_without_what_its_sales_told(protocol) -> None:
    items, hidden = protocol.test.items, cold_start.hidden_items(protocol, 1)
    told = cold_start.as_told(items, hidden)
    learnt = ["n_buyers", "n_buyers_30d", "n_orders_30d", "days_since_first"]
    unknown = items["item_id"].isin(hidden)
    assert items.loc[unknown, learnt].gt(0).any(axis=None), "there is something to hide"
    assert told.loc[unknown, learnt].isna().all(axis=None)
    assert told[~unknown].equals(items[~unknown].astype(told.dtypes))
    assert told["categories"].equals(items["categories"])


def test_what_was_kept_is_of_the_same_settings_and_code(protocol, monkeypatch) -> None:
    before = cold_start._key(protocol)
    assert before == cold_start._key(protocol)
    settings = cold_start.without_sequence()
    for name, value in (("sources", ["popularity", "linear"]), ("ranker_users", 7), ("seed", 8)):
        other = settings.model_copy(update={"training": settings.training.model_copy(update={name: value})})
        with monkeypatch.context() as changed:
            changed.setattr(cold_start, "without_sequence", lambda other=other: other)
            assert cold_start._key(protocol) != before
    test = protocol.test
    retold = replace(test, items=test.items.assign(title="another"))
    assert cold_start._key(replace(protocol, test=retold)) != before
    with monkeypatch.context() as changed:
        changed.setattr(cold_start, "CODE", ("cold_start",))
        assert cold_start._key(protocol) != before
