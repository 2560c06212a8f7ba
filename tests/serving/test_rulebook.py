"""The shop's rules: validated whole, versioned, on record, tried before, and in force with the next answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest

from aisle.errors import RaceLost, TamperedRecord
from aisle.lake import home
from engine.rules import Caps, Pin, Rules
from serving import rulebook
from serving.asking import Ask
from serving.rulebook import RuleBook, Rulebook, history

ASK, RULES = "/v1/recommendations", "/v1/rules"


@pytest.fixture
def clean(api: httpx.Client):
    """No rules in force after a test."""
    yield api
    assert api.put(RULES, json={}).status_code == 200


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["item_id"] for each in answer.json()["items"]]


def test_rules_hold_in_the_next_answer_and_in_their_scope(clean: httpx.Client) -> None:
    first = ids(clean.get(ASK, params={"user_id": "u001", "k": 5}))
    book = {
        "all": {"exclude": [first[0]]},
        "categories": {"c1": {"pins": [{"item_id": "i037", "position": 1}]}},
        "placements": {"basket": {"price": {"max": 5}}},
    }
    told = clean.put(RULES, json=book, params={"note": "it was recalled"}).json()
    assert told["rules"]["all"]["exclude"] == [first[0]]
    answer = clean.get(ASK, params={"user_id": "u001", "k": 40})
    assert first[0] not in ids(answer)
    assert answer.json()["rules_version"] == told["version"]
    assert ids(clean.get(ASK, params={"category": "c1"}))[0] == "i037"
    assert ids(clean.get(ASK))[0] != "i037"
    cheap = clean.get(ASK, params={"placement": "basket", "k": 40}).json()["items"]
    assert cheap
    assert max(each["price"] for each in cheap) <= 5
    assert all(first[0] not in ids(clean.get(path)) for path in ("/v1/popular?k=40", "/v1/trending?k=40"))


def test_every_fault_of_the_document_is_listed_and_nothing_is_written(clean: httpx.Client) -> None:
    before = clean.get(RULES).json()["version"]
    wrong = {
        "all": {"price": {"min": 9, "max": 1}, "caps": {"brand": -1}},
        "placements": {"x": {"pins": [{"item_id": "a", "position": 0}]}},
        "everywhere": {},
    }
    answer = clean.put(RULES, json=wrong)
    assert answer.status_code == 422
    assert {fault["where"] for fault in answer.json()["errors"]} == {
        "body.all.price",
        "body.all.caps.brand",
        "body.placements.x.pins.0.position",
        "body.everywhere",
    }
    assert clean.get(RULES).json()["version"] == before


def test_history_says_who_when_and_what(clean: httpx.Client) -> None:
    for most in (3, 4):
        clean.put(RULES, json={"all": {"caps": {"brand": most}}}, params={"note": f"at most {most}"})
    found = clean.get(f"{RULES}/history", params={"limit": 2}).json()["versions"]
    assert [each["note"] for each in found] == ["at most 4", "at most 3"]
    assert found[0]["previous_digest"] == found[1]["digest"]
    assert all(each["by"] == "server" and each["at"] for each in found)


def test_who_read_an_older_version_overwrites_nothing(clean: httpx.Client) -> None:
    etag = clean.get(RULES).headers["etag"]
    first = clean.put(RULES, json={"all": {"in_stock": True}}, headers={"If-Match": etag})
    assert first.status_code == 200
    late = clean.put(RULES, json={"all": {"exclude": ["i001"]}}, headers={"If-Match": etag})
    assert late.status_code == 409
    assert late.json()["type"] == "urn:aisle:problem:conflict"
    assert clean.get(RULES).json()["rules"]["all"]["in_stock"]
    same = clean.put(RULES, json={"all": {"in_stock": True}})
    assert same.json()["version"] == first.json()["version"]


def test_a_dry_run_tells_what_would_change_and_changes_nothing(clean: httpx.Client) -> None:
    before = ids(clean.get(ASK, params={"user_id": "u001", "k": 5}))
    version = clean.get(RULES).json()["version"]
    tried = {
        "all": {"exclude": [before[1]], "pins": [{"item_id": "none", "position": 1}]},
        "curated": ["i001"],
    }
    told = clean.post(f"{RULES}/preview", json={"rules": tried, "users": ["u001", "u002"], "k": 5}).json()
    change = told["changes"][0]
    assert change["before"] == before
    assert change["removed"] == {before[1]: ["exclude"]}
    assert change["after"] == [before[0], *before[2:], *change["added"]]
    assert told["warnings"] == ["no item 'none' in the released model"]
    assert told["allowed"] == {"before": 40, "after": 39}
    assert len(told["changes"]) == 2
    assert clean.get(RULES).json()["version"] == version
    assert ids(clean.get(ASK, params={"user_id": "u001", "k": 5})) == before


def previewed(api: httpx.Client, rules: dict, **asked) -> dict:
    """What would change for u001."""
    body = {"rules": {"all": rules}, "users": ["u001"], "k": 8, **asked}
    answer = api.post(f"{RULES}/preview", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["changes"][0]


@pytest.mark.parametrize(
    "already", [{"event_types": ["purchase"]}, {}, {"event_types": ["purchase", "view"], "days": 60}]
)
def test_a_dry_run_names_what_was_bought_already(clean: httpx.Client, already: dict) -> None:
    history = clean.get("/v1/users/u001/history").json()["events"]
    since = "" if "days" not in already else "2011-09-02T00:00:00"
    had = {each["item_id"] for each in history if each["event_time"] >= since}
    change = previewed(clean, {"already": already})
    gone = {item for item in change["before"] if item in had}
    assert gone
    assert not gone & {*change["after"]}
    assert change["removed"] == {item: ["already"] for item in change["before"] if item in gone}
    both = previewed(clean, {"already": already, "exclude": [next(iter(gone))]})
    assert both["removed"][next(iter(gone))] == ["exclude", "already"]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_dry_run_names_the_cap_that_was_full(clean: httpx.Client, most: int) -> None:
    change = previewed(clean, {"caps": {"category": most}})
    counts: dict[int, int] = {}
    expected = {}
    for item in change["before"]:
        group = int(item[1:]) % 4
        counts[group] = counts.get(group, 0) + 1
        if counts[group] > most:
            expected[item] = ["caps.category"]
    assert expected
    assert change["removed"] == expected


def test_a_dry_run_tells_a_cap_from_a_place_that_was_lost(clean: httpx.Client) -> None:
    """The last item gives way to a pin, though the cap of its category is full as well."""
    before = previewed(clean, {})["before"]
    groups = [int(item[1:]) % 4 for item in before]
    most = max(groups.count(each) for each in groups)
    k = max(place for place, each in enumerate(groups) if groups[: place + 1].count(each) == most) + 1
    last = before[k - 1]
    pin = next(f"i{row:03d}" for row in range(40) if f"i{row:03d}" not in before and row % 4 != groups[k - 1])
    tight = {"caps": {"category": most - 1}}
    assert previewed(clean, tight, k=k)["removed"][last] == ["caps.category"]
    wide = {"pins": [{"item_id": pin, "position": 1}], "caps": {"category": most}}
    assert previewed(clean, wide, k=k)["removed"] == {last: []}


def test_another_process_sees_a_new_version(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "FOLLOW_SECONDS", 0.0)
    one, other = Rulebook(), Rulebook()
    assert other.current().version == 0
    one.put(RuleBook(all=Rules(in_stock=True)), "somebody")
    assert other.current().book.all.in_stock
    with pytest.raises(RaceLost, match="version 1, not 0"):
        other.put(RuleBook(), "somebody", expected=0)


def test_writers_at_once_lose_nothing(aisle_home: Path) -> None:
    def write(number: int) -> None:
        Rulebook().put(RuleBook(all=Rules(exclude=(f"i{number}",))), f"writer {number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.version for each in history()] == list(range(1, 13))
    assert {each.by for each in history()} == {f"writer {number}" for number in range(12)}


@pytest.mark.parametrize("how", ["changed", "dropped", "no json"])
def test_tampering_is_found_and_the_last_good_version_goes_on(
    aisle_home: Path, monkeypatch, how: str
) -> None:
    monkeypatch.setattr(rulebook, "FOLLOW_SECONDS", 0.0)
    held = Rulebook()
    for item in ("a", "b", "c"):
        held.put(RuleBook(all=Rules(exclude=(item,))), "somebody")
    path = home() / "rules" / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if how == "changed":
        lines[1] = lines[1].replace('"b"', '"z"')
    elif how == "dropped":
        del lines[1]
    else:
        lines[1] = "{\n"
    path.write_text("".join(lines))
    with pytest.raises(TamperedRecord, match="line 2"):
        history()
    assert held.current().book.all.exclude == ("c",)
    assert "line 2" in (held.fault or "")
    with pytest.raises(TamperedRecord):
        held.put(RuleBook(), "somebody")


def test_a_line_is_judged_once(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "FOLLOW_SECONDS", 0.0)
    judged: list[int] = []
    plain, here = rulebook._version, threading.current_thread()

    def counted(number: int, line: str, previous: str) -> rulebook.Version:
        if threading.current_thread() is here:  # the API of other tests looks too
            judged.append(number)
        return plain(number, line, previous)

    monkeypatch.setattr(rulebook, "_version", counted)
    held, other = Rulebook(), Rulebook()
    for number in range(1, 6):
        held.put(RuleBook(all=Rules(exclude=(f"i{number}",))), "somebody")
        assert other.current().version == number
    assert judged == [number for number in range(1, 6) for _ in (held, other)]
    path = home() / "rules" / "history.jsonl"
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\n") + 1])
    assert other.current().version == held.put(RuleBook(), "somebody").version - 1 == 1, (
        "cut short, as restored"
    )
    assert [each.version for each in history()] == [1, 2]


def test_half_a_line_of_a_killed_writer_was_never_in_force(aisle_home: Path) -> None:
    held = Rulebook()
    held.put(RuleBook(all=Rules(exclude=("é",))), "somebody")
    path = home() / "rules" / "history.jsonl"
    with path.open("a") as file:
        file.write(path.read_text()[:40])
    whole = path.read_bytes()
    assert [each.version for each in history()] == [1]
    assert path.read_bytes() == whole, "a reader takes nothing away: the writer may be alive"
    held.put(RuleBook(all=Rules(exclude=("b",))), "somebody")
    assert [json.loads(line)["version"] for line in path.read_text().splitlines()] == [1, 2]


def test_the_most_particular_document_comes_last() -> None:
    book = RuleBook(
        all=Rules(in_stock=True),
        categories={"lamps": Rules(caps=Caps(brand=1))},
        placements={"home": Rules(pins=(Pin(item_id="a", position=1),))},
    )
    scopes = [scope for scope, _ in book.scoped(Ask(category="lamps", placement="home", item_id="x"))]
    assert scopes == ["all", "categories.lamps", "placements.home", "category page", "subject"]
    assert book.scoped(Ask()) == [("all", book.all)]
