"""Compact rows hold Feast's own values and never an older one; without them Feast's rows are read."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from aisle.compact import layout, packed, unpacked
from feature_repo import compact
from serving.compact import NotLooked
from serving.online import Reader
from tests.serving.compact_store import (
    NOTHING,
    ROW,
    batches_are_small,  # noqa: F401 - a fixture
    compact_users,
    store_of,
    told_by_feast,
)
from tests.serving.test_online import (
    USERS,
    VALUES,
    feast,  # noqa: F401 - a fixture
    reader_of,
    write,
)


@given(
    st.one_of(
        st.tuples(st.just("double_list"), st.lists(st.floats(allow_nan=False), max_size=9)),
        st.tuples(st.just("double_list"), st.lists(st.floats(width=32, allow_nan=False), max_size=9)),
        st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)),
        st.tuples(st.just("int64_list"), st.lists(st.integers(0, 2**32 - 1), max_size=9)),
        st.tuples(st.just("string_list"), st.lists(st.integers(0, 2**32 - 1), max_size=9)),
    )
)
def test_a_list_comes_back_as_it_was(each: tuple[str, list]) -> None:
    kind, values = each
    blob = packed(kind, values)
    for blobs in ([blob], [None, blob, packed(kind, [1]), blob]):
        found = unpacked(kind, blobs)
        own = found[blobs.index(blob)]
        assert own == values
        assert [type(value) for value in own] == [type(value) for value in values]
    assert np.isnan(unpacked("double_list", [packed("double_list", [float("nan")])])[0]).all()


@pytest.mark.parametrize(
    "text", [None, "x", "3", "[]", "[2, []]", "[1, []]", "[1, [], 2]", '[1, [["a"]]]', "[1, 2]"]
)
def test_another_format_is_no_layout(text: str | None) -> None:
    assert layout("whole", text) is None


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.dictionaries(st.sampled_from(USERS), st.fixed_dictionaries(VALUES), min_size=1, max_size=6),
    second=st.dictionaries(st.sampled_from(USERS), st.fixed_dictionaries(VALUES), min_size=1, max_size=6),
    asked=st.lists(st.sampled_from([*USERS, "nobody", ""]), min_size=1, max_size=12),
)
def test_values_are_those_of_feast(feast, first: dict, second: dict, asked: list[str]) -> None:  # noqa: F811
    """Right after the rows are written, after Feast wrote again, and after the rows were written again."""
    reader = reader_of(feast)
    write(feast, first)
    for rows in ({}, second):
        if rows:
            write(feast, rows)
            assert reader.read("whole", asked) == told_by_feast(feast, "whole", asked)
        compact.fill(feast, store_of(feast))
        for service in ("whole", "part"):
            theirs = told_by_feast(feast, service, asked)
            assert reader.read(service, asked) == theirs
            some = {name: theirs[name] for name in ("user_id", "share", "times")}
            assert reader.read(service, asked, ("times", "share")) == some
    assert compact_users(feast) >= len(first | second)
    reader.close()


def test_feast_s_rows_are_not_even_read_where_there_are_compact_ones(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW, "b": NOTHING | {"flag": False}})
    compact.fill(feast, store_of(feast))
    reader, read = reader_of(feast), []
    reader._stored = lambda _, __, keys: read.extend(keys) or [[] for _ in VALUES]
    assert reader.read("whole", ["b", "a", "b"])["words"] == [[], ["é", "", "b"], []]
    assert not read


def test_what_sqlite_would_not_give_back_is_read_from_feast_s_rows(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW | {"share": 0.5}})
    nan = b"\x29\x00\x00\x00\x00\x00\x00\xf8\x7f"
    with closing(sqlite3.connect(store_of(feast), isolation_level=None)) as other:
        other.execute("UPDATE shop_plain SET value = ? WHERE feature_name = 'share'", (nan,))
    compact.fill(feast, store_of(feast))
    assert np.isnan(reader_of(feast).read("part", ["a"])["share"][0])


def test_texts_that_came_after_a_reader_looked_are_known(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    reader = reader_of(feast)
    assert reader.read("whole", ["a"])["words"] == [["é", "", "b"]]
    write(feast, {"b": ROW | {"words": ["quite new", "b"]}})
    compact.fill(feast, store_of(feast))
    assert reader.read("whole", ["b", "a"])["words"] == [["quite new", "b"], ["é", "", "b"]]


def test_a_prompt_reader_leaves_the_look_to_the_other(feast) -> None:  # noqa: F811
    write(feast, {"a": ROW})
    compact.fill(feast, store_of(feast))
    thread, prompt = reader_of(feast), reader_of(feast)

    def both(user: str) -> list:
        with pytest.raises(NotLooked):
            prompt.read("whole", [user], looked=thread)
        theirs = thread.read("whole", [user])
        assert prompt.read("whole", [user], looked=thread) == theirs
        return theirs["words"]

    assert prompt.read("whole", ["a"], looked=thread) == told_by_feast(feast, "whole", ["a"])
    thread._open()
    stored = []
    prompt._stored = lambda *how: stored.append(how) or Reader._stored(prompt, *how)
    assert both("a") == [ROW["words"]]
    write(feast, {"a": ROW | {"words": ["never seen"]}})
    compact.fill(feast, store_of(feast))
    assert both("a") == [["never seen"]]
    assert not stored
    compact.drop(store_of(feast))
    assert both("a") == [["never seen"]]
    assert stored
    compact.fill(feast, store_of(feast))
    assert both("a") == [["never seen"]]
    assert prompt._compact.looked.schema is None
