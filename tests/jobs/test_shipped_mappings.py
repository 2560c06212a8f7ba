"""The shipped mappings over the shop's own file: what they make known, and when. DuckDB alone."""

from __future__ import annotations

import duckdb
import pytest

from aisle import lake
from aisle.settings import Settings
from jobs.landing import import_file
from tests.shop import DATA


@pytest.fixture
def users(settings: Settings) -> str:
    """The landed users of the shop, as a name for DuckDB to read."""
    mapping = lake.project_root() / "conf" / "mappings" / "online_retail_users.toml"
    import_file(settings, "users", DATA, mapping=mapping)
    return str(next(lake.landing("users").glob("*/rows.parquet")))


def test_a_country_is_known_to_nearly_every_example_with_a_past(users: str) -> None:
    """An example is a customer's purchase day; it has a past where they bought on a day before."""
    ((known, examples),) = duckdb.execute(
        f"""
        WITH days AS (
            SELECT customer_id AS user_id, date_trunc('day', invoice_ts) AS day FROM '{DATA}'
            WHERE customer_id IS NOT NULL AND invoice_no NOT LIKE 'C%' GROUP BY ALL),
        past AS (SELECT * FROM days QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY day) > 1),
        told AS (SELECT user_id, country, CAST(updated_at AS TIMESTAMP) AS since FROM '{users}')
        SELECT count(*) FILTER (EXISTS (SELECT 1 FROM told WHERE told.user_id = past.user_id
            AND told.country IS NOT NULL AND told.since < past.day)), count(*) FROM past"""
    ).fetchall()
    assert examples > 10_000
    assert known / examples > 0.95


def test_each_stay_in_a_country_is_known_from_its_first_invoice(users: str) -> None:
    stays = f"SELECT count(*) AS n FROM '{users}' WHERE user_id IS NOT NULL GROUP BY user_id"
    counts = duckdb.execute(f"SELECT n, count(*) FROM ({stays}) GROUP BY n").fetchall()
    assert dict(counts) == {1: 4364, 2: 2, 3: 5, 5: 1}, "eight customers buy from two countries"
    unlike_the_invoice = f"""
        WITH invoices AS (SELECT DISTINCT customer_id, invoice_ts, nullif(country, 'Unspecified') AS country FROM '{DATA}')
        SELECT count(*) FROM '{users}' AS told LEFT JOIN invoices
            ON user_id = customer_id AND CAST(updated_at AS TIMESTAMP) = invoice_ts
        WHERE user_id IS NOT NULL AND (customer_id IS NULL OR told.country IS DISTINCT FROM invoices.country)"""
    assert duckdb.execute(unlike_the_invoice).fetchall() == [(0,)]
