"""What is read by hand is what protocol buffers read, of values in any form and of bytes that are none."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.feast_format import decoder, messages
from serving.feast_values import columns

PLAIN = {
    "string_val": st.text(max_size=200),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "double_val": st.floats(allow_nan=False),
    "int32_val": st.integers(-(2**31), 2**31 - 1),
    "bool_val": st.booleans(),
    "null_val": st.just(0),
}
LISTS = {
    "double_list_val": st.lists(st.floats(allow_nan=False), max_size=20) | st.just([0.5] * 2100),
    "string_list_val": st.lists(st.text(max_size=12), max_size=20),
    "int64_list_val": st.lists(PLAIN["int64_val"], max_size=20),
}


def blob(name: str, value: Any) -> bytes:
    found = messages()["Value"]()
    if name in LISTS:
        getattr(found, name).val.extend(value)
        getattr(found, name).SetInParent()
    else:
        setattr(found, name, value)
    return found.SerializeToString()


def told(read, column: list[bytes | None]) -> Any:
    """What is read, or the type of the error."""
    try:
        return read(column)
    except Exception as error:
        return type(error)


def one_by_one(column: list[bytes | None]) -> list[Any]:
    value_of = decoder()
    return [value_of(each) if each else None for each in column]


some = st.one_of(
    *(values.map(lambda value, name=name: blob(name, value)) for name, values in (PLAIN | LISTS).items())
)


@given(st.lists(st.none() | st.just(b"") | some, max_size=6))
def test_any_values(column: list[bytes | None]) -> None:
    assert columns()(column) == one_by_one(column)


@given(some, st.data())
def test_bytes_that_are_cut_changed_or_doubled(value: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(value)))
    byte = data.draw(st.integers(0, 255))
    for spoilt in (
        value[:at],
        value[:at] + bytes([byte]) + value[at + 1 :],
        value + value[:at],
        value + value,
    ):
        assert repr(told(columns(), [spoilt])) == repr(told(one_by_one, [spoilt]))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 2046, 2047, 2048, 3000])
def test_numbers_at_the_lengths_where_a_length_grows(size: int) -> None:
    """And with the numbers one field each, as a writer may have them that does not pack."""
    numbers = [number / 3 for number in range(size)]
    assert columns()([blob("double_list_val", numbers)]) == [numbers]
    entries = b"".join(b"\x09" + struct.pack("<d", each) for each in numbers)
    length = bytes([len(entries) % 128 + 128, len(entries) // 128 % 128 + 128, len(entries) // 128**2])
    assert columns()([b"\x7a" + length + entries]) == [numbers]
