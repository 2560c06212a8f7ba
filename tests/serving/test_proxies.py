"""Who asks: the address of the connection, or what a proxy that is trusted says in X-Forwarded-For, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from aisle import settings as settings_module
from aisle.errors import SettingsError
from tests.serving.conftest import Kept, running


@contextmanager
def behind(monkeypatch: pytest.MonkeyPatch, proxies: str | None) -> Iterator[str]:
    """The API that takes two requests an address, and trusts these proxies; None: the default."""
    monkeypatch.setenv("AISLE_SERVING__LIMITS__ADDRESS_RATE", "0.01")
    monkeypatch.setenv("AISLE_SERVING__LIMITS__BURST_SECONDS", "200")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own, which the setting comes before
    if proxies is not None:
        monkeypatch.setenv("AISLE_SERVING__TRUSTED_PROXIES", proxies)
    settings_module.load.cache_clear()
    with running(settings_module.load(), Kept()) as url:
        yield url
    settings_module.load.cache_clear()


def statuses(url: str, *callers: str) -> list[int]:
    """Of one request each, that a proxy says comes from this caller; an address may say so of several."""
    return [
        httpx.get(f"{url}/healthz", headers={"X-Forwarded-For": caller}).status_code for caller in callers
    ]


def test_a_trusted_proxys_callers_have_a_rate_each(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind(monkeypatch, None) as url:
        assert statuses(url, *["192.0.2.1"] * 3) == [200, 200, 429]
        assert statuses(url, "192.0.2.2", "192.0.2.3") == [200, 200]
        forged = "198.51.100.7, 192.0.2.1"  # a caller wrote the first, the proxy the last
        assert statuses(url, forged) == [429]


def test_what_an_untrusted_caller_says_of_itself_is_not_believed(
    aisle_home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind(monkeypatch, '["203.0.113.0/24"]') as url:
        assert statuses(url, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [200, 200, 429]


def test_a_network_of_proxies_is_trusted(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind(monkeypatch, '["127.0.0.0/8"]') as url:
        assert statuses(url, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [200, 200, 200]


@pytest.mark.parametrize(
    "proxies", ['["*"]', '["0.0.0.0/0"]', '["::/0"]', '["proxy.example"]', '["10.0.0.1/8"]']
)
def test_who_is_trusted_is_an_address_or_a_network_and_never_everybody(
    aisle_home, monkeypatch: pytest.MonkeyPatch, proxies: str
) -> None:
    monkeypatch.setenv("AISLE_SERVING__TRUSTED_PROXIES", proxies)
    settings_module.load.cache_clear()
    with pytest.raises(SettingsError, match="trusted_proxies"):
        settings_module.load()
    settings_module.load.cache_clear()
