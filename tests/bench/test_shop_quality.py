"""`aisle evaluate --peers`: what was imported is judged beside the same peers, by the windows of training."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from aisle import lake
from bench import cache, contest, protocols, quality
from bench.engine_run import OURS
from bench.peers import WHERE
from tests.training.test_quality import CUT, A, shop_in_the_lake  # noqa: F401 - a fixture

QUICK = ("popularity", "personal frequency", "implicit ALS", "EASE")


@pytest.fixture
def asked(settings, monkeypatch, shop_in_the_lake) -> argparse.Namespace:  # noqa: F811
    monkeypatch.delenv(cache.HERE, raising=False)
    monkeypatch.setattr(contest, "WHERE", {name: WHERE[name] for name in QUICK})
    return argparse.Namespace(
        set=(protocols.SHOP,), minutes=0.01, quick=False, peers_only=False, as_of=A.isoformat(), json=True
    )


def test_the_windows_of_the_shop(asked) -> None:
    protocol = protocols.imported(A)
    assert [protocol.validation.at, protocol.test.at] == [CUT - timedelta(days=28), CUT]
    assert protocol.columns == ("all", "new")
    assert protocol.test.histories["item_ids"].map(len).min() > 0


def test_a_shop_of_ones_own_is_judged_beside_peers_and_keeps_its_figures(asked, monkeypatch) -> None:
    monkeypatch.setattr(quality.engine_run, "everything", quality.engine_run.without_sequence)
    code, found = quality.of_sets(asked)
    assert code == 0
    rows, home = found[protocols.SHOP]["rows"], lake.home() / "quality"
    models = {row["model"] for row in rows}
    assert {OURS, "popularity alone", *QUICK} <= models
    ours = [row for row in rows if row["model"] == OURS]
    assert {(row["column"], row["metric"]) for row in ours} >= {("all", "ndcg@20"), ("new", "ndcg@20")}
    assert json.loads((home / "quality.json").read_text())["rows"] == rows
    assert (home / "quality.png").stat().st_size > 1_000
    assert not list(home.rglob("question-*")), "histories of people are not left behind"
    _each_source_has_its_own_seconds(found[protocols.SHOP])


def _each_source_has_its_own_seconds(found) -> None:
    first = {row["model"]: row for row in found["rows"]}
    whole = first[OURS]
    assert whole["seconds"] == pytest.approx(sum(found["seconds_by_part"].values()), rel=0.02)
    assert {"blend", "linear", "the rest"} <= set(found["seconds_by_part"])
    for model, row in first.items():
        if model.endswith(" alone"):
            assert row["seconds"] < whole["seconds"] / 2
            assert row["peak_mib"] is None
    assert first["aisle without ranker"]["seconds"] is None
    assert any("two_tower" in note for note in found["notes"])
    assert found["sizes"]["linear"]["bytes"] <= 1.1 * found["sizes"]["linear"]["rule"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "shop"], "no data yet"),
        (["--minutes", "0"], "no number of minutes above 0"),
        (["--minutes", "nan"], "no number of minutes above 0"),
        (["--set", "amazon"], "no set amazon; there are online_retail"),
    ],
)
def test_a_wrong_question_is_a_line_and_no_traceback(options, said, aisle_home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.quality", *options],
        cwd=lake.project_root(),
        env={**os.environ, "AISLE_HOME": str(aisle_home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
