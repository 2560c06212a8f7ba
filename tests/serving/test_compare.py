"""`aisle compare`: two releases on the tiny shop, for chosen users and over all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aisle.errors import NotThere, SettingsError
from aisle.settings import Settings
from engine.state import from_frame
from serving.compare import compare, handful, tau
from tests.serving.conftest import Release, shop
from tests.serving.test_console import write_gold

AISLE = Path(sys.executable).parent / "aisle"


@pytest.fixture
def two(settings: Settings, stage_release: Release) -> Settings:
    """Versions 1 and 3 are the same model; 2 is fitted to another shop with the same items."""
    for version, seed in (("1", 7), ("2", 8), ("3", 7)):
        stage_release(version, seed=seed)
    write_gold()
    return settings


def told(settings: Settings, *versions: str, **asked) -> dict:
    return json.loads(compare(settings, *versions, as_json=True, **asked))


def test_lists_stand_side_by_side_with_marks_and_reasons(two: Settings) -> None:
    found = told(two, "1", "2", users=["u001", "u004"], k=6)
    assert [each["user_id"] for each in found["users"]] == ["u001", "u004"]
    for each in found["users"]:
        ours, theirs = each["lists"]
        ids = [[item["item_id"] for item in listed] for listed in (ours, theirs)]
        assert [len(listed) for listed in ids] == [6, 6]
        for item in ours:
            there = ids[1].index(item["item_id"]) + 1 if item["item_id"] in ids[1] else None
            assert item["other_place"] == there
            assert item["why"]
        assert each["overlap"] == pytest.approx(len({*ids[0]} & {*ids[1]}) / 6, abs=1e-4)
    text = compare(two, "1", "2", users=["u001"], k=6)
    assert "User u001" in text
    assert "version 1" in text
    assert "TITLE <b>" in text
    marks = {
        "*" if item["other_place"] is None else ""
        for item in told(two, "1", "2", users=["u001"], k=6)["users"][0]["lists"][0]
    }
    assert ("*" in marks) == (" * " in text.split("User u001")[1])


def test_the_same_model_agrees_with_itself_and_another_less(two: Settings) -> None:
    same, other = told(two, "1", "3", k=5), told(two, "1", "2", k=5)
    assert (same["n_users"], same["overlap"], same["rank_correlation"]) == (60, 1.0, 1.0)
    assert other["overlap"] < 0.9
    assert other["rank_correlation"] < 0.9
    assert other == told(two, "1", "2", k=5)


def test_without_names_a_few_light_and_heavy_users_are_shown(two: Settings) -> None:
    found = told(two, "1", "2", k=3)
    assert 0 < len(found["users"]) <= 4
    states = from_frame(shop()[1])
    assert handful(states, 7) == handful(states, 7) != handful(states, 8)


def test_faults_name_the_thing(two: Settings) -> None:
    for asked, said in (
        ({"users": ["nobody"]}, "'nobody'"),
        ({"k": 0}, "-k must be"),
    ):
        with pytest.raises((NotThere, SettingsError), match=said):
            compare(two, "1", "2", **asked)
    with pytest.raises(SettingsError, match="against itself"):
        compare(two, "1", "1")
    with pytest.raises(NotThere, match="'99'"):
        compare(two, "1", "99")


def test_without_histories_there_is_nothing_to_compare(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    stage_release("2", seed=8)
    with pytest.raises(NotThere, match="aisle run features"):
        compare(settings, "1", "2")


def test_the_command_says_it_in_one_line(two: Settings) -> None:
    done = subprocess.run(
        [AISLE, "compare", "1", "2", "--user", "nobody"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().startswith("aisle: no history of 'nobody'")
    assert len(done.stderr.strip().splitlines()) == 1


def test_rank_correlation_of_short_lists() -> None:
    assert tau(["a", "b", "c"], ["c", "b", "a"]) == -1.0
    assert tau(["a", "b"], ["c", "d"]) == -0.8
    assert 0 < tau(["a", "b", "c"], ["a", "c", "b"]) < 1
    assert tau([], []) == 1.0
