"""The tutorial's two-tower, the peer of `make bench-training`: it learns on a few customers and is judged as ours is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training import frames
from training.dataset import Dataset
from training.judge import Judge
from training.tensorflow_import import without_notices

with without_notices():
    from bench.tutorial_two_tower import TutorialTower
    from training.two_tower import seeded


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(frames.write_dataset(tmp_path_factory.mktemp("dataset"), users=50))


@pytest.fixture
def learnt(dataset, settings) -> TutorialTower:
    training = settings.training.model_copy(update={"dimension": 16, "batch_size": 64})
    seeded(training.seed)
    model = TutorialTower(dataset, training)
    model.fit(model.batches(1_024), verbose=0)
    return model


def test_the_peer_is_judged_by_the_same_judge(learnt, dataset) -> None:
    judge = Judge.of(dataset, learnt.training)
    users, items = learnt._vectors(judge.users, judge.item_ids)
    assert users.shape == (len(judge.users), 16)
    assert items.shape == (len(judge.item_ids), 16)
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1.0, rtol=1e-4)
    figures = learnt.judged()
    assert figures == dict(judge.figures(users, items))
    assert {"ndcg@10", "recall@20"} <= set(figures)
    wanted, listed = judge.truth.toarray() > 0, np.argsort(-(users @ items.T), axis=1)[:, :20]
    there = wanted.any(axis=1)
    hits = np.take_along_axis(wanted, listed, axis=1).sum(axis=1)
    assert figures["recall@20"] == pytest.approx((hits[there] / wanted[there].sum(axis=1)).mean(), abs=1e-3)
