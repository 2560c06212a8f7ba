"""Tokens that prove to the API for whom a page asks: made by the shop's server, sent by the page along with its public key.

A public key is in every visitor's browser, so it proves nothing of who they are. The shop's server, which has logged them in,
signs their id with a secret that it shares with the API, and puts the token into the page. A token reads
``u1.<user id, base64url>.<until, epoch seconds>.<HMAC-SHA256 of what stands before, base64url>``.

The secret is ``$AISLE_HOME/keys/user.secret`` (mode 0600): 256 random bits in hexadecimal, made at the API's first start.
Another one makes all tokens of before void.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from aisle.api_keys import folder, private
from aisle.errors import NoProof, SettingsError

VERSION = "u1"
MAX_HOURS = 24 * 30


def path() -> Path:
    return folder() / "user.secret"


def ensure() -> bool:
    """Makes the secret where there is none; True where it did. Harmless from several processes at once."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder() / f".user.secret.{secrets.token_hex(4)}"
    if path().exists():
        return False
    private(fresh, secrets.token_hex(32) + "\n")
    try:
        os.link(fresh, path())  # fails where another process was first, whose secret then stands
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


def renew() -> None:
    """Another secret: every token that was made before is void within a second."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    private(path(), secrets.token_hex(32) + "\n")


def secret() -> bytes:
    """Raises SettingsError where there is none, or it is torn."""
    try:
        found = bytes.fromhex(path().read_text().strip())
    except FileNotFoundError:
        raise SettingsError(
            f"there is no {path()} yet: the API makes it at its first start, and `aisle keys user-secret` does"
        ) from None
    except ValueError:
        found = b""
    if len(found) < 32:
        raise SettingsError(
            f"{path()} is no secret of 64 hexadecimal digits: `aisle keys user-secret --new` makes one"
        )
    return found


def make(key: bytes, user_id: str, hours: float = 12.0, now: float | None = None) -> str:
    """The token of a user for so many hours. now: epoch seconds. Raises SettingsError.

    >>> make(bytes(32), "ann", 1, now=0.0)
    'u1.YW5u.3600.6-C03rH0Ure9MMntgGiFiijgtqEN8srU3VUn8LiVeKQ'
    """
    if not 0 < hours <= MAX_HOURS:
        raise SettingsError(f"a token lasts up to {MAX_HOURS} hours, not {hours:g}")
    if not user_id.strip():
        raise SettingsError("a token is for a user: the id is blank")
    until = int((time.time() if now is None else now) + hours * 3600)
    body = f"{VERSION}.{_encoded(user_id.encode())}.{until}"
    return f"{body}.{_signature(key, body)}"


def user_of(key: bytes, token: str, now: float | None = None) -> str:
    """Whom a token is for. Raises NoProof for one that is forged, torn or expired."""
    body, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(key, body).encode()):
        raise NoProof(
            "the user token is not one that this API's secret signed: the shop's server makes them", 401
        )
    try:
        version, user, until = body.split(".")
        found, end = base64.urlsafe_b64decode(user + "=" * (-len(user) % 4)).decode(), int(until)
    except (ValueError, binascii.Error):
        version, found, end = "", "", 0
    if version != VERSION:
        raise NoProof(
            "the user token is of no form that this API knows: the shop's server makes them anew", 401
        )
    if end <= (time.time() if now is None else now):
        raise NoProof("the user token has expired: the shop's server makes a new one", 401)
    return found


def _signature(key: bytes, body: str) -> str:
    return _encoded(hmac.new(key, body.encode(), hashlib.sha256).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
