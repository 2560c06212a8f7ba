"""The gate on rankings of real recommenders: who is let through, and which rule refuses the others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aisle.settings import Settings
from monitoring.gate import Ages, Judgement, judge
from tests.monitoring.shop import Shop, baseline, muted, with_arrays

NONE, ONE = frozenset(), frozenset({"1"})


def refusing(judged: Judgement, verdict: str = "failed") -> set[str]:
    return {each.rule for each in judged.verdicts if each.verdict == verdict}


def test_a_sound_first_model_passes_against_the_best_baseline(shop: Shop, settings: Settings) -> None:
    judged = judge(shop.evaluation(shop.recommender, None), "2", settings, NONE)
    assert judged.verdict == "passed", judged.reasons
    assert judged.found.opponent == "personal_frequency"


def test_a_clearly_better_model_passes(shop: Shop, settings: Settings) -> None:
    old = baseline(shop.recommender, "item_item")
    judged = judge(shop.evaluation(shop.recommender, old), "2", settings, ONE)
    assert judged.verdict == "passed", judged.reasons
    assert judged.found.cell("champion:1", "all", "all", "ndcg@10").low > 0


def test_a_model_that_differs_by_noise_passes_as_not_inferior(
    shop: Shop, settings: Settings, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    weights = shop.recommender.sources["linear"].arrays()
    noisy = {
        name: (array * rng.normal(1.0, 0.02, array.shape)).astype(array.dtype)
        for name, array in weights.items()
        if array.dtype.kind == "f"
    }
    other = with_arrays(shop.recommender, "linear", noisy, tmp_path)
    judged = judge(shop.evaluation(other, shop.recommender), "2", settings, ONE)
    cell = judged.found.cell("champion:1", "all", "all", "ndcg@10")
    assert judged.verdict == "passed", judged.reasons
    assert cell.differing > 0
    assert -settings.gate.margin < cell.low < 0 < cell.high


@pytest.mark.parametrize("first", [True, False], ids=["first", "challenger"])
def test_a_bundle_with_nan_weights_is_refused(
    shop: Shop, settings: Settings, tmp_path: Path, first: bool
) -> None:
    weights = shop.recommender.sources["linear"].arrays()
    broken = {name: array * np.nan for name, array in weights.items() if array.dtype.kind == "f"}
    model = with_arrays(shop.recommender, "linear", broken, tmp_path)
    frame = shop.evaluation(model, None if first else shop.recommender)
    judged = judge(frame, "2", settings, NONE if first else ONE)
    assert judged.verdict == "refused"
    assert {"primary_metric", "new_to_user", "beats_popularity:all"} <= refusing(judged)
    assert any(reason.startswith("primary_metric: ndcg@10") for reason in judged.reasons)


def test_a_model_that_was_trained_on_a_shuffled_join_is_refused(shop: Shop, settings: Settings) -> None:
    def shuffled(histories: pd.DataFrame) -> pd.DataFrame:
        columns = ["item_ids", "event_types", "event_times", "quantities"]
        order = np.random.default_rng(3).permutation(len(histories))
        return histories.assign(**{name: histories[name].to_numpy()[order] for name in columns})

    judged = judge(shop.evaluation(shop.train(shuffled), shop.recommender), "2", settings, ONE)
    assert judged.verdict == "refused"
    assert {"primary_metric", "beats_popularity:all", "not_below:personal_frequency"} <= refusing(judged)


def test_a_model_that_is_worse_on_one_slice_only_is_refused_by_that_slice(
    shop: Shop, settings: Settings
) -> None:
    old = baseline(shop.recommender, "personal")
    judged = judge(shop.evaluation(muted(shop.recommender, 0.4), old), "2", settings, ONE)
    assert judged.verdict == "refused"
    assert judged.found.cell("champion:1", "all", "all", "ndcg@10").low > 0
    assert refusing(judged) == {"slice:tail_items:all"}


def test_without_a_champion_a_slice_vetoes_what_is_worse_than_every_baseline(
    shop: Shop, settings: Settings
) -> None:
    one_is_better = judge(shop.evaluation(muted(shop.recommender, 0.4), None), "2", settings, NONE)
    assert one_is_better.verdict == "passed", one_is_better.reasons
    frame = shop.evaluation(shop.recommender, None)
    tail = frame["version"].eq("2") & frame["slice"].eq("tail_items")
    judged = judge(frame.assign(value=frame["value"].mask(tail, 0.0)), "2", settings, NONE)
    assert refusing(judged) == {"slice:tail_items:all", "slice:tail_items:new"}


def test_a_missing_metric_blocks(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, shop.recommender)
    without = frame[~(frame["version"].eq("2") & frame["metric"].eq("recall@20") & frame["column"].eq("new"))]
    judged = judge(without, "2", settings, ONE)
    assert judged.verdict == "blocked"
    assert refusing(judged, "blocked") == {"metrics_present", "no_harm:recall@20:new"}
    assert "recall@20 of 2 on column 'new'" in judged.reasons[0]


def test_no_evaluation_at_all_blocks(settings: Settings, shop: Shop) -> None:
    nothing = shop.baselines.iloc[:0]
    assert judge(nothing, "2", settings, NONE).verdict == "blocked"
    assert judge(shop.baselines, "2", settings, NONE).verdict == "blocked"


def test_a_metric_that_is_no_number_refuses(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, shop.recommender)
    row = frame.index[frame["version"].eq("2") & frame["metric"].eq("ndcg@10") & frame["slice"].eq("all")][0]
    frame.loc[row, "value"] = np.nan
    judged = judge(frame, "2", settings, ONE)
    assert judged.verdict == "refused"
    assert "metrics_finite" in refusing(judged)


def test_users_that_one_side_lacks_block(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, shop.recommender)
    user = frame.loc[frame["version"].eq("2") & frame["slice"].eq("all"), "user_id"].iloc[0]
    judged = judge(frame[~(frame["version"].eq("2") & frame["user_id"].eq(user))], "2", settings, ONE)
    assert judged.verdict == "blocked"


def test_too_few_users_block(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, None)
    some = set(frame["user_id"].unique()[:60]) | {""}
    judged = judge(frame[frame["user_id"].isin(some)], "2", settings, NONE)
    assert "enough_users" in refusing(judged, "blocked")
    assert judged.verdict != "passed"
    (said,) = [each.sentence for each in judged.verdicts if each.rule == "enough_users"]
    assert "held-out users, 100 are needed" in said
    assert "training.test_days" in said


def test_another_champion_than_the_one_in_force_blocks(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, baseline(shop.recommender, "item_item"))
    judged = judge(frame, "2", settings, frozenset({"3"}))
    assert judged.verdict == "blocked"
    assert refusing(judged, "blocked") == {"right_opponent"}


def test_an_older_model_never_replaces_a_newer_champion(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, baseline(shop.recommender, "item_item"))
    october, december = datetime(2011, 10, 3, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC)
    judged = judge(frame, "2", settings, ONE, Ages(october, december))
    assert judged.verdict == "refused"
    assert judged.reasons == [
        "not_older: trained on the data up to 2011-10-03, the champion up to 2011-12-10: an older model replaces no newer one by itself; "
        "`aisle promote 2 --override REASON` releases it all the same"
    ]
    assert judge(frame, "2", settings, ONE, Ages(december, december)).verdict == "passed", (
        "the same day is not older"
    )
    assert judge(frame, "2", settings, ONE, Ages(None, december)).verdict == "blocked"


def test_the_order_of_the_rows_and_a_repeated_evaluation_change_nothing(
    shop: Shop, settings: Settings
) -> None:
    frame = shop.evaluation(shop.recommender, None)
    twice = pd.concat([frame, frame]).sample(frac=1.0, random_state=1)
    assert judge(twice, "2", settings, NONE) == judge(frame, "2", settings, NONE)


def test_two_values_of_one_metric_block(shop: Shop, settings: Settings) -> None:
    frame = shop.evaluation(shop.recommender, None)
    other = frame[frame["version"].eq("2")].head(1).assign(value=0.5)
    judged = judge(pd.concat([frame, other]), "2", settings, NONE)
    assert "metrics_present" in refusing(judged, "blocked")
