"""`aisle recommend`: the release's answer, with histories from gold and sessions from silver."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from aisle import features, lake
from aisle.errors import NotThere, SettingsError
from aisle.features import Built
from aisle.settings import Settings
from serving import sample
from serving.console import recommend
from tests.serving.conftest import CUT, Release, shop


def write_gold() -> None:
    """The shop's histories as `features.gold` leaves them at CUT, and an older point that must not be read."""
    histories = shop()[1].assign(as_of=CUT)
    older = histories.assign(as_of=datetime(2011, 10, 1, tzinfo=UTC), country="Old")
    both = pd.concat([histories, older], ignore_index=True)
    lake.append("gold.user_history", both)
    lake.append("gold.user_stats", both)
    features.note_built(Built(CUT.isoformat(), [CUT.isoformat()], {}))


def write_session() -> None:
    moments = [datetime(2011, 10, day, tzinfo=UTC) for day in (1, 2)]
    rows = [
        {"event_id": f"e{place}", "session_id": "s1", "item_id": f"i00{place}", "event_type": "purchase"}
        | {"event_time": moment, "quantity": 2.0, "event_month": "2011-10"}
        for place, moment in enumerate(moments)
    ]
    lake.append("silver.interactions", rows)


def test_a_known_user(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    write_gold()
    text = recommend(settings, user="u001", k=5)
    assert "User u001 in Germany" in text
    assert "personalised, version 1" in text
    assert text.count("TITLE <b>") >= 5
    assert "popularity" in recommend(settings, user="u001", k=5, explain=True)


def test_the_console_says_what_the_api_says(settings: Settings, stage_release: Release) -> None:
    from serving import alone, live, release
    from serving.view import View
    from tests.serving.conftest import Kept

    stage_release("1")
    write_gold()
    told = json.loads(recommend(settings, user="u001", k=5, as_json=True))
    state = Kept().read("retrieval_v1", ["u001"])[0]
    found = alone.answer(View.of(live.load(release.current())), state, 5)
    assert told["items"] == [each.model_dump() for each in found.items]


def test_an_unknown_user_gets_what_is_popular(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    assert "nothing is known" in recommend(settings, user="nobody", k=3)
    write_gold()
    told = json.loads(recommend(settings, user="nobody", k=3, as_json=True))
    assert (told["rung"], len(told["items"])) == ("popular", 3)


def test_a_session_is_answered_from_its_own_events(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    write_session()
    told = json.loads(recommend(settings, session="s1", k=3, as_json=True))
    assert told["rung"] == "personalised"
    assert json.loads(recommend(settings, session="s2", k=3, as_json=True))["rung"] == "popular"


def test_similar_items(settings: Settings, stage_release: Release) -> None:
    stage_release("1")
    assert "Similar to TITLE <b>1</b> & CO (i001)" in recommend(settings, item="i001", k=3)
    with pytest.raises(NotThere, match="'i999'"):
        recommend(settings, item="i999")


def test_faults_are_told_with_the_way_out(settings: Settings, stage_release: Release) -> None:
    with pytest.raises(NotThere, match="make demo"):
        recommend(settings, user="u001")
    stage_release("1")
    for wrong in ({}, {"user": "a", "item": "b"}, {"user": "a", "k": 0}, {"user": "a", "k": 10**9}):
        with pytest.raises(SettingsError):
            recommend(settings, **wrong)


def test_the_sample_of_users_is_the_newest_and_repeatable(settings: Settings) -> None:
    assert sample.users(5) == []
    write_gold()
    assert sample.users(5) == sample.users(5) == ["u000", "u012", "u024", "u036", "u048"]
    assert len(sample.users(500)) == 60
