"""Row rules: what makes a received row faulty. One table of Spark expressions per kind; a row keeps all its reasons.

Received rows are text (aisle.tables, bronze). Rows that a mapping set aside are not judged, and of a line that could
not be read nothing else is said.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from aisle.columns import EVENT_MONTH, EVENT_TIME, EVENT_TYPES, REASONS, SET_ASIDE
from aisle.settings import Ingest
from aisle.tables import CONTRACTS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MALFORMED = "malformed line"
READ = "_read"
EARLIEST = "1990-01-01"  # a time before this is a clock that was never set; the as_of grid would begin there
KEPT_IN = {"events": "properties", "items": "attributes", "users": "attributes"}
MOMENT = r"^\\s*[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"  # Spark would read '12:50' as today and '2011' as New Year
JSON_TYPES = {"array<string>": "list", "map<string,string>": "object"}


def rules(kind: str, limits: Ingest, clock: datetime) -> dict[str, Column]:
    """Reason -> expression that is true where a row is faulty. `clock`: UTC; later events are from the future.

    The expressions read the columns of `parsed`: a received row and, as ``<name>_read``, what its text says.
    """
    table = {
        **_ids(kind, limits),
        **_unreadable(kind),
        **{"events": _events, "items": _items, "users": _users}[kind](limits, clock),
    }
    return {reason: F.expr(condition) for reason, condition in table.items()}


def parsed(received: DataFrame, kind: str) -> DataFrame:
    """The rows with ``<name>_read`` beside every column that is not text, so that each text is read once."""
    return received.select(
        "*",
        *(F.expr(f"{cast(name, spark_type)} AS {name}{READ}") for name, spark_type in _typed(kind).items()),
    )


def with_reasons(received: DataFrame, kind: str, limits: Ingest, clock: datetime) -> DataFrame:
    """The rows with `reasons` array<string>: empty where nothing is wrong."""
    table = rules(kind, limits, clock)
    # Joined text, not an array and a filter: lambdas are not compiled, which made this 20 times slower.
    found = F.concat_ws("\n", *(F.when(faulty, F.lit(reason)) for reason, faulty in table.items()))
    judged = (
        F.when(F.col(SET_ASIDE).isNotNull(), F.lit(""))
        .when(F.col(KEPT_IN[kind]).startswith('{"malformed_line":'), F.lit(MALFORMED))
        .otherwise(found)
    )
    reasons = F.when(F.col(REASONS) == "", F.array().cast("array<string>")).otherwise(F.split(REASONS, "\n"))
    return (
        parsed(received, kind).withColumn(REASONS, judged).select(*received.columns, reasons.alias(REASONS))
    )


def typed(received: DataFrame, kind: str) -> DataFrame:
    """Clean received rows in the contract's types, with event_month (events) and their origin columns unchanged."""
    columns = [F.expr(f"{cast(name, spark_type)} AS {name}") for name, spark_type in CONTRACTS[kind].items()]
    origin = [name for name in received.columns if name not in CONTRACTS[kind]]
    found = received.select(*columns, *origin)
    return found.withColumn(EVENT_MONTH, F.date_format(EVENT_TIME, "yyyy-MM")) if kind == "events" else found


def cast(name: str, spark_type: str) -> str:
    """SQL that reads a text column as a type; null where it cannot be read."""
    if spark_type == "string":
        return name
    if spark_type in JSON_TYPES:
        return f"from_json({name}, '{spark_type}')"
    if spark_type == "timestamp":
        return f"CASE WHEN {name} RLIKE '{MOMENT}' THEN try_cast({name} AS timestamp) END"
    if spark_type == "int":  # '12.0' is what a spreadsheet makes of 12
        return f"CASE WHEN try_cast({name} AS double) = floor(try_cast({name} AS double)) THEN try_cast(try_cast({name} AS double) AS int) END"
    return f"try_cast({name} AS {spark_type})"


def _ids(kind: str, limits: Ingest) -> dict[str, str]:
    names = [name for name in CONTRACTS[kind] if name.endswith("_id")]
    long = {
        f"{name} longer than {limits.max_id_length} characters": f"length({name}) > {limits.max_id_length}"
        for name in names
    }
    every = ", ".join(CONTRACTS[kind])
    return long | {"NUL character": f"contains(concat_ws('', {every}), char(0))"}


def _typed(kind: str) -> dict[str, str]:
    return {name: spark_type for name, spark_type in CONTRACTS[kind].items() if spark_type != "string"}


def _unreadable(kind: str) -> dict[str, str]:
    """Given, but not readable as the column's type."""
    words = {
        "timestamp": "time",
        "boolean": "boolean",
        "int": "whole number",
        **{name: f"JSON {word}" for name, word in JSON_TYPES.items()},
    }
    return {
        f"{name} is no {words.get(spark_type, 'number')}": f"{name} IS NOT NULL AND {name}{READ} IS NULL"
        for name, spark_type in _typed(kind).items()
    }


def _missing(*names: str) -> dict[str, str]:
    return {f"no {name}": f"{name} IS NULL OR trim({name}) = ''" for name in names}


def _endless(name: str) -> str:
    """Text such as 'NaN' or '-inf' is a double, but no number. (A decimal is never one: price needs no such rule.)"""
    return f"isnan({name}_read) OR abs({name}_read) = double('inf')"


def _moment(name: str, clock: datetime, limits: Ingest) -> dict[str, str]:
    latest = (
        f"timestamp '{clock.isoformat()}' + make_dt_interval(0, 0, 0, {limits.future_tolerance_hours * 3600})"
    )
    return {
        f"{name} in the future": f"{name}{READ} > {latest}",
        f"{name} before {EARLIEST}": f"{name}{READ} < timestamp '{EARLIEST}'",
    }


def _events(limits: Ingest, clock: datetime) -> dict[str, str]:
    known = ", ".join(f"'{name}'" for name in EVENT_TYPES)
    return {
        **_missing("event_id", "event_type", "event_time"),
        "neither user_id nor session_id": "coalesce(trim(user_id), '') = '' AND coalesce(trim(session_id), '') = ''",
        "no item_id": "event_type <> 'search' AND coalesce(trim(item_id), '') = ''",
        "unknown event_type": f"event_type NOT IN ({known})",
        **_moment("event_time", clock, limits),
        "quantity is zero": "quantity_read = 0",
        "quantity is negative": "quantity_read < 0",
        "quantity is not finite": _endless("quantity"),
        "quantity too large": f"quantity_read > {limits.max_quantity} AND NOT ({_endless('quantity')})",
        "price is negative": "price_read < 0",
        "price of a purchase is zero": "price_read = 0 AND event_type IN ('purchase', 'return')",
        "price too large": f"price_read > {limits.max_price}",
        "rating without value": "event_type = 'rating' AND value IS NULL",
        "rating outside ingest.min_rating to max_rating": "event_type = 'rating' AND "
        f"(value_read < {limits.min_rating} OR value_read > {limits.max_rating}) AND NOT ({_endless('value')})",
        "value is not finite": _endless("value"),
    }


def _items(limits: Ingest, clock: datetime) -> dict[str, str]:
    return {
        **_missing("item_id", "title", "updated_at"),
        **_moment("updated_at", clock, limits),
        "price is negative": "price_read < 0",
        "price is zero": "price_read = 0",
        "price too large": f"price_read > {limits.max_price}",
        "stock is negative": "stock_read < 0",
    }


def _users(limits: Ingest, clock: datetime) -> dict[str, str]:
    return {**_missing("user_id", "updated_at"), **_moment("updated_at", clock, limits)}
