"""Settings: ``conf/aisle.toml``, then ``conf/<profile>.toml``, then ``$AISLE_HOME/aisle.toml``, then AISLE_ variables.

A variable names its setting with a double underscore: ``AISLE_GATE__MARGIN=0.02`` sets ``gate.margin``. Unknown keys are
errors, each named with its file.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from aisle.columns import HISTORY_TYPES
from aisle.errors import SettingsError
from aisle.lake import home, project_root
from aisle.segment import PATTERN as SEGMENT

RETENTION_HOURS = 168  # Delta's own least, under which a reader may lose the files that it reads


def _is_network(text: str) -> str:
    """Of an address or a network such as 10.0.0.0/8, whose hosts' word is taken for who asks."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address, and no network such as '10.1.0.0/16'") from None
    if not found.prefixlen:
        raise ValueError(
            f"{text!r} is everybody, and then any caller may say who they are: name your proxies"
        )
    return text


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spark(_Section):
    remote: str
    master: str
    driver_memory: str
    shuffle_partitions: int = Field(gt=0)
    java_options: str


Port = Annotated[int, Field(ge=1, le=65535)]


class Ports(_Section):
    airflow: Port
    mlflow: Port
    feast: Port
    api: Port
    spark: Port


class Airflow(_Section):
    parallelism: int = Field(gt=0)
    retries: int = Field(ge=0)
    retry_delay_seconds: int = Field(ge=0)
    timeout_minutes: int = Field(gt=0)
    alert_command: str


class Ingest(_Section):
    max_fault_rate: float = Field(ge=0, le=1)
    future_tolerance_hours: float = Field(ge=0)
    max_id_length: int = Field(gt=0)
    max_price: float = Field(gt=0)
    max_quantity: float = Field(gt=0)
    min_rating: float
    max_rating: float
    low_rating: float = Field(ge=0, lt=1)
    good_rating: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _is_a_scale(self) -> Ingest:
        if self.min_rating >= self.max_rating:
            raise ValueError(
                f"min_rating = {self.min_rating:g} must be below max_rating = {self.max_rating:g}"
            )
        if self.low_rating >= self.good_rating:
            raise ValueError(
                f"low_rating = {self.low_rating:g} must be below good_rating = {self.good_rating:g}"
            )
        return self


class Features(_Section):
    online: Annotated[str, Field(pattern=r"^$|^rediss?://[^\s,/]+(/\d{1,3})?$")]
    history_length: int = Field(gt=0)
    history_impressions: float = Field(ge=0, le=1)
    history_lasting: int = Field(ge=0)
    segment: Annotated[str, Field(pattern=SEGMENT)]
    daily_days: int = Field(ge=0)
    popularity_days: int = Field(gt=0)
    co_visit_days: int = Field(gt=0)
    co_visit_neighbours: int = Field(gt=0)
    stitch_days: float = Field(ge=0)


class Boost(_Section):
    """Moves the score of the items whose `column` is, or as a list holds, `value`: first times `times`, then plus `add`.

    `times` multiplies the distance from the list's lowest score, because scores may be below zero: 2 always lifts.
    """

    value: str
    column: str = "item_id"
    add: float = 0.0
    times: float = Field(default=1.0, ge=0)


class Final(_Section):
    """What the last stage does. Frozen and JSON-able; as it stands here, nothing.

    strength: 0 keeps the ranker's order, 1 asks for difference alone. similar_by: the source whose item similarities say
    what is alike. caps: by item column, how many items of one value the list may hold; a list, such as a path of
    categories, counts as its last value, and what is unknown is not counted. depth: best items that places are given to.
    discovery_slots: of the first 20 places of a user's list the last so many, for items that hardly any list shows otherwise.
    """

    strength: float = Field(default=0.0, ge=0, le=1)
    similar_by: Literal["content", "item_item"] = "content"
    caps: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    boosts: list[Boost] = Field(default_factory=list)
    depth: int = Field(default=200, gt=0)
    discovery_slots: int = Field(default=0, ge=0, le=10)

    @property
    def reorders(self) -> bool:
        return bool(self.strength or self.caps)


def _event_type(name: str) -> str:
    if name not in HISTORY_TYPES:
        near = get_close_matches(name, HISTORY_TYPES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{name!r} is no event type; {hint}there are {', '.join(HISTORY_TYPES)}")
    return name


EventType = Annotated[str, AfterValidator(_event_type)]
SourceName = Literal[
    "popularity",
    "personal",
    "item_item",
    "linear",
    "next_bought",
    "content",
    "graph",
    "factors",
    "people",
    "trending",
    "two_tower",
    "sequence",
]


class Training(_Section):
    seed: int
    goal: list[EventType]
    test_days: int = Field(gt=0)
    validation_days: int = Field(gt=0)
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    dimension: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    tower_start: Literal["svd", "nothing"]
    sequence_epochs: int = Field(gt=0)
    warm_start: bool
    history_items: int = Field(gt=0)
    history_half_life_days: float = Field(gt=0)
    blend_users: int = Field(gt=0)
    ranker_users: int = Field(gt=0)
    unclicked_impressions: int = Field(gt=0)
    unclicked_weight: float = Field(le=0)
    never_again: list[EventType]
    sources: list[SourceName]
    source_settings: dict[SourceName, dict[str, float]]
    ranker: Literal["learn", "never"]
    repeat: Literal["learn", "always", "never"]
    event_weights: dict[EventType, float]
    final: Final


class Gate(_Section):
    primary_metric: str
    k: int = Field(gt=0)
    recall_k: int = Field(gt=0)
    margin: float = Field(ge=0)
    slice_margin: float = Field(ge=0)
    slice_min_users: int = Field(gt=0)
    min_users: int = Field(gt=0)
    min_coverage: float = Field(ge=0, le=1)
    bootstrap_samples: int = Field(gt=0)
    confidence: float = Field(gt=0, lt=1)
    parity_overlap: float = Field(ge=0, le=1)
    approval: bool


class Monitor(_Section):
    retrain_after_days: int = Field(ge=0)
    max_drifted_share: float = Field(ge=0, le=1)
    psi_threshold: float = Field(ge=0)
    ks_threshold: float = Field(ge=0)
    quarantine_rise: float = Field(ge=0, le=1)
    min_rows: int = Field(ge=0)
    sample_rows: int = Field(gt=0)


class Limits(_Section):
    """What one caller may take of the API, and all of them together."""

    key_rate: float = Field(gt=0)
    address_rate: float = Field(gt=0)
    burst_seconds: float = Field(gt=0)
    max_headers: int = Field(gt=0)
    max_header_bytes: int = Field(ge=1024)
    max_body_bytes: int = Field(gt=0)
    max_bodies_bytes: int = Field(gt=0)
    max_json_depth: int = Field(gt=0)
    header_seconds: float = Field(gt=0)
    body_seconds: float = Field(gt=0)
    send_seconds: float = Field(gt=0)
    max_unsent_bytes: int = Field(ge=2**20)
    max_connections: int = Field(gt=0)
    at_work: int = Field(gt=0)
    others_at_work: int = Field(gt=0)
    queue_turns: int = Field(gt=0)
    burst_turns: int = Field(gt=0)
    max_queue_seconds: float = Field(gt=0)
    graph_depth: int = Field(gt=0)
    graph_items: int = Field(gt=0)
    graph_values: int = Field(gt=0)


class Serving(_Section):
    host: str
    k: int = Field(gt=0)
    max_k: int = Field(gt=0)
    pointer_seconds: float = Field(gt=0)
    swap_seconds: float = Field(gt=0)
    feature_deadline_seconds: float = Field(gt=0)
    feature_cache_seconds: float = Field(ge=0)
    auth: Literal["keys", "open"]
    public_users: Literal["token", "open"]
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:\d{1,5})?$")]]
    trusted_proxies: list[Annotated[str, AfterValidator(_is_network)]]
    workers: int = Field(gt=0)
    cache: Annotated[str, Field(pattern=r"^(process|(rediss?|unix)://\S+)$")]
    cache_timeout_seconds: float = Field(gt=0)
    grace_seconds: int = Field(gt=0)
    limits: Limits


class Answers(_Section):
    """How answers are made in time, paged and kept."""

    deadline_seconds: float = Field(gt=0)
    workers: int = Field(gt=0)
    loop_seconds: float = Field(ge=0, le=0.1)
    batch_users: int = Field(gt=0)
    max_pages: int = Field(gt=1)
    page_items: int = Field(gt=0)
    kept_pages: int = Field(gt=0)
    page_seconds: float = Field(gt=0)
    cached: int = Field(ge=0)
    cache_seconds: float = Field(ge=0)
    prepared_users: int = Field(ge=0)
    prepared_seconds: float = Field(gt=0)
    exposure_queue: int = Field(gt=0)


class Search(_Section):
    """How a text finds items, and what of their order is text and what is preference."""

    preference: float = Field(ge=0, le=1)
    language: str
    one_edit_from: int = Field(ge=3)
    two_edits_from: int = Field(ge=3)
    optional_words: list[str]
    max_query: int = Field(gt=0)
    facet_values: int = Field(gt=0)
    price_ranges: int = Field(gt=0)


class Writes(_Section):
    """What the API takes in, and how long it keeps it at hand."""

    max_body_bytes: int = Field(gt=0)
    max_batch: int = Field(gt=0)
    queue_rows: int = Field(gt=0)
    queue_seconds: float = Field(gt=0)
    rotate_rows: int = Field(gt=0)
    rotate_seconds: float = Field(gt=0)
    follow_seconds: float = Field(gt=0)
    remember_hours: float = Field(gt=0)
    remember_rows: int = Field(gt=0)


class Maintain(_Section):
    retention_hours: int = Field(ge=RETENTION_HOURS)
    exposure_days: float = Field(ge=8)
    outcome_days: float = Field(ge=8)
    keep_reports: int = Field(ge=0)


class Registry(_Section):
    tracking_uri: str
    model_name: str
    experiment: str


class Settings(_Section):
    """Every setting. The unit and meaning of each stands beside its default in ``conf/aisle.toml``."""

    profile: str
    spark: Spark
    ports: Ports
    airflow: Airflow
    ingest: Ingest
    features: Features
    training: Training
    gate: Gate
    monitor: Monitor
    serving: Serving
    answers: Answers
    search: Search
    writes: Writes
    maintain: Maintain
    registry: Registry

    @property
    def tracking_uri(self) -> str:
        """MLflow's store: the setting, or a SQLite file under AISLE_HOME."""
        if self.registry.tracking_uri:
            return self.registry.tracking_uri
        folder = home() / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = (
            _merge(merged[key], value)
            if isinstance(merged.get(key), dict) and isinstance(value, dict)
            else value
        )
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): it must be a TOML file, or absent"
        ) from None


def _require_home() -> None:
    """Raises SettingsError where AISLE_HOME can be no folder; every command asks for the settings first."""
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"AISLE_HOME={home()} can be no folder ({error.strerror}): name one that can be made and written"
        ) from None


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in os.environ.items():
        if not name.startswith("AISLE_") or "__" not in name:
            continue
        *sections, key = name.removeprefix("AISLE_").lower().split("__")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise SettingsError(
                    f"{name}={text}: another variable gives {section!r} a value; unset one of the two"
                )
        if isinstance(place.get(key), dict):
            raise SettingsError(
                f"{name}={text}: {key!r} has settings of its own in other variables; unset one of the two"
            )
        place[key] = value
    return found


@lru_cache(maxsize=1)
def load() -> Settings:
    """The settings in force. Raises SettingsError that lists every wrong key and value at once."""
    _require_home()
    conf = project_root() / "conf"
    profile = os.environ.get("AISLE_PROFILE", "local")
    if profile != "local" and not (conf / f"{profile}.toml").exists():
        raise SettingsError(f"AISLE_PROFILE={profile!r}: there is no {conf / f'{profile}.toml'}")
    values: dict[str, Any] = {"profile": profile}
    for layer in (
        _read(conf / "aisle.toml"),
        _read(conf / f"{profile}.toml"),
        _read(home() / "aisle.toml"),
        _from_environment(),
    ):
        values = _merge(values, layer)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SettingsError(
            f"wrong settings ({conf / 'aisle.toml'}, {home() / 'aisle.toml'} or AISLE_ variables): {faults}"
        ) from None
