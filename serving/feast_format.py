"""How Feast writes its registry and its online values, as far as an online read needs them, without importing Feast.

Importing Feast takes seconds and hundreds of MB, which a server that only reads does without. Both are protocol buffers
(feast/protos/feast/core/*.proto and types/Value.proto of Feast 0.67); the fields that are not named here are skipped, as protocol
buffers want it. They live in a pool of their own, beside Feast's where that is imported too.
tests/serving/test_online.py holds every value against Feast's own answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

KINDS = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
STRING = 2  # of feast.types.ValueType
NULL_TIMESTAMP = -(2**63)

# By message: field, number, type; * repeated.
MESSAGES = {
    "Registry": (
        ("entities", 1, "*Entity"),
        ("feature_views", 6, "*FeatureView"),
        ("feature_services", 7, "*FeatureService"),
    ),
    "Entity": (("spec", 1, "EntitySpec"),),
    "EntitySpec": (("name", 1, "string"), ("value_type", 2, "int32"), ("join_key", 4, "string")),
    "FeatureView": (("spec", 1, "FeatureViewSpec"),),
    "FeatureViewSpec": (("name", 1, "string"), ("entities", 3, "*string"), ("disabled", 20, "bool")),
    "FeatureService": (("spec", 1, "FeatureServiceSpec"),),
    "FeatureServiceSpec": (("name", 1, "string"), ("features", 3, "*Projection")),
    "Projection": (
        ("feature_view_name", 1, "string"),
        ("feature_columns", 2, "*Feature"),
        ("feature_view_name_alias", 3, "string"),
        ("join_key_map", 4, "*bytes"),
        ("version_tag", 10, "int32"),
    ),
    "Feature": (("name", 1, "string"),),
    "Value": (
        ("bytes_val", 1, "bytes"),
        ("string_val", 2, "string"),
        ("int32_val", 3, "int32"),
        ("int64_val", 4, "int64"),
        ("double_val", 5, "double"),
        ("float_val", 6, "float"),
        ("bool_val", 7, "bool"),
        ("unix_timestamp_val", 8, "int64"),
        ("bytes_list_val", 11, "BytesList"),
        ("string_list_val", 12, "StringList"),
        ("int32_list_val", 13, "Int32List"),
        ("int64_list_val", 14, "Int64List"),
        ("double_list_val", 15, "DoubleList"),
        ("float_list_val", 16, "FloatList"),
        ("bool_list_val", 17, "BoolList"),
        ("null_val", 19, "int32"),
    ),
    **{f"{kind.title()}List": (("val", 1, f"*{kind}"),) for kind in KINDS},
}


@lru_cache(maxsize=1)
def messages() -> dict[str, Any]:
    """Message classes by the names above."""
    file = descriptor_pb2.FileDescriptorProto(name="aisle/feast.proto", package="aisle", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "Value":
            message.oneof_decl.add(name="val")
        for field, number, kind in fields:
            plain = kind.removeprefix("*")
            made = message.field.add(name=field, number=number, label=3 if kind[0] == "*" else 1)
            if plain in KINDS:
                made.type = KINDS[plain]
            else:
                made.type, made.type_name = 11, f".aisle.{plain}"
            if name == "Value":
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"aisle.{name}"))
        for name in MESSAGES
    }


def _listed(name: str) -> Callable[[Any], list[Any]]:
    list_of = attrgetter(f"{name}.val")
    if name == "double_list_val":  # of these alone a list is made faster than a slice is cut
        return lambda value: list(list_of(value))
    return lambda value: list_of(value)[:]


def _moment(value: Any) -> datetime | None:
    seconds = value.unix_timestamp_val
    return None if seconds == NULL_TIMESTAMP else datetime.fromtimestamp(seconds, UTC)


READ: dict[str | None, Callable[[Any], Any]] = {
    **{f"{kind}_val": attrgetter(f"{kind}_val") for kind in KINDS},
    **{f"{kind}_list_val": _listed(f"{kind}_list_val") for kind in KINDS},
    "unix_timestamp_val": _moment,
    "null_val": lambda _: None,
}


def decoder() -> Callable[[bytes], Any]:
    """What tells a stored value as Feast's `to_dict` does: None, a number, text, bytes, a moment (UTC) or a list.

    Raises KeyError for a kind that is not read here, such as a map: Feast itself has to.
    """
    parse, read = messages()["Value"].FromString, READ

    def value_of(blob: bytes) -> Any:
        if not blob:
            return None
        value = parse(blob)
        return read[value.WhichOneof("val")](value)

    return value_of


def entity_key(join_key: str, value: str) -> bytes:
    """The key under which the rows of one entity of one text id are stored (entity_key_serialization_version 3).

    >>> entity_key("user_id", "7")
    b'\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x07\\x00\\x00\\x00user_id\\x02\\x00\\x00\\x00\\x01\\x00\\x00\\x007'
    """
    name, text = join_key.encode(), value.encode()
    return b"".join(
        (
            struct.pack("<III", 1, STRING, len(name)),
            name,
            struct.pack("<II", STRING, len(text)),
            text,
        )
    )
