"""Wrong settings and a wrong AISLE_HOME: one line that names the variable or the file, whatever command was called."""

from __future__ import annotations

from pathlib import Path

import pytest

from aisle import clock, settings
from aisle.errors import SettingsError


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    settings.load.cache_clear()
    with pytest.raises(SettingsError) as fault:
        settings.load()
    assert "\n" not in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("AISLE_PORTS__API", "0", "ports.api"),
        ("AISLE_PORTS__AIRFLOW", "70000", "ports.airflow"),
        ("AISLE_INGEST__MAX_ID_LENGTH", "-1", "ingest.max_id_length"),
        ("AISLE_INGEST__MAX_PRICE", "NaN", "ingest.max_price"),
        ("AISLE_INGEST__MAX_QUANTITY", "Infinity", "ingest.max_quantity"),
        ("AISLE_MAINTAIN__RETENTION_HOURS", "-5", "maintain.retention_hours"),
        ("AISLE_AIRFLOW__TIMEOUT_MINUTES", "0", "airflow.timeout_minutes"),
    ],
)
def test_a_value_out_of_its_range_is_named(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    assert setting in refused(monkeypatch, **{variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (
            "AISLE_TRAINING__EVENT_WEIGHTS",
            '{"purchse": 1.0}',
            "'purchse' is no event type; did you mean 'purchase'?",
        ),
        ("AISLE_TRAINING__EVENT_WEIGHTS__PURCHSE", "1.0", "training.event_weights.purchse"),
        ("AISLE_TRAINING__NEVER_AGAIN", '["hide", "dislikes"]', "training.never_again.1"),
        ("AISLE_TRAINING__NEVER_AGAIN", '["zzz"]', "'zzz' is no event type; there are view, cart, purchase"),
        ("AISLE_TRAINING__RANKER", "off", "training.ranker"),
    ],
)
def test_a_misspelt_event_type_is_named_with_the_known_ones(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    assert told in refused(monkeypatch, **{variable: value})


def test_a_variable_cannot_be_a_setting_and_a_section(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, both = "AISLE_PORTS__API", "AISLE_PORTS__API__X"
    assert one in refused(monkeypatch, **{one: "1", both: "2"})
    monkeypatch.delenv(one)
    assert one in refused(monkeypatch, **{one: "1"}), "in the other order"


def test_a_settings_file_must_be_readable_text(aisle_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = aisle_home / "aisle.toml"
    file.write_bytes(b'profile = "J\xf6rg"')
    assert f"{file} is not valid TOML" in refused(monkeypatch)
    file.unlink()
    file.mkdir()
    assert f"{file} cannot be read" in refused(monkeypatch)


@pytest.mark.parametrize("home", ["file", "file/within", "/proc/aisle"])
def test_a_home_that_can_be_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / home
    assert f"AISLE_HOME={place}" in refused(monkeypatch, AISLE_HOME=str(place))


@pytest.mark.parametrize(
    "text", ["0001-01-01", "1969-12-31", "9999-12-31T23:00:00+00:00", "0001-01-01T00:00+05:00"]
)
def test_a_time_that_no_data_has_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="1970 to 9998"):
        clock.parse(text)
