"""Keys of the API: what is stored of them, and how they are made, revoked and rotated.

``$AISLE_HOME/keys/keys.json`` (mode 0600) holds salted hashes only. The keys of the first start stand once in plain text in
``$AISLE_HOME/keys/first.env`` (mode 0600), for `source`, for the demo and for our own commands; no log ever has one.

A key reads ``aisle_<kind>_<key_id>_<secret>``. Its secret is 256 random bits, so one salted SHA-256 is enough: there is no
dictionary to try, as there is against passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from aisle.errors import NotThere, SettingsError
from aisle.lake import home

Kind = Literal["server", "public"]
SCOPES = {
    "track": "send events",
    "read": "ask for recommendations and search",
    "write": "change items, stock, users and rules",
    "people": "read, export and erase what is known of a person",
    "admin": "pages and figures from other machines",
}
PUBLIC_SCOPES = ("track", "read")  # all that a key which every shopper can read may do
FIRST: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "server": ("server", ("track", "read", "write", "people")),
    "public": ("public", PUBLIC_SCOPES),
    "admin": ("server", ("admin",)),
}


@dataclass(frozen=True)
class Key:
    """What is stored of a key. Times are ISO 8601 UTC.

    origins: from which a browser may use a public key, such as https://shop.example; the API's own always may.
    """

    key_id: str
    name: str
    kind: Kind
    scopes: tuple[str, ...]
    origins: tuple[str, ...]
    salt: str
    hash: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None

    def state(self, now: datetime) -> str:
        """active, expired or revoked."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and datetime.fromisoformat(self.expires_at) <= now else "active"


def folder() -> Path:
    return home() / "keys"


def path() -> Path:
    return folder() / "keys.json"


def first() -> Path:
    """Where the plain keys of the first start are, as lines AISLE_<NAME>_KEY=…"""
    return folder() / "first.env"


def hashed(plain: str, salt: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + plain.encode()).hexdigest()


NOBODY = Key("", "", "server", (), (), secrets.token_hex(16), "0" * 64, "")


def matching(keys: dict[str, Key], plain: str) -> Key | None:
    """The key that a text is, whatever its state; None for none of ours.

    An unknown id costs the same hash and the same comparison, so that its time tells nothing.
    """
    parts = plain.split("_", 3)
    known = keys.get(parts[2], NOBODY) if len(parts) == 4 else NOBODY
    same = hmac.compare_digest(hashed(plain, known.salt), known.hash)
    return known if same and known is not NOBODY else None


def read() -> list[Key]:
    """All keys; none before the first start. Raises SettingsError where the file is torn."""
    try:
        found = json.loads(path().read_text())["keys"]
        return [
            Key(**{**each, "scopes": tuple(each["scopes"]), "origins": tuple(each["origins"])})
            for each in found
        ]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path()} is no list of keys ({type(error).__name__}: {error}): put a copy of it back, or remove it, and the API "
            "makes new keys at its next start"
        ) from None


def ensure() -> bool:
    """Makes the first keys where there are none; True where it did. Harmless from several processes at once."""
    if path().exists():
        return False
    with _changing() as keys:
        if keys or path().exists():
            return False
        made = {name: _made(name, kind, scopes) for name, (kind, scopes) in FIRST.items()}
        keys += [key for key, _ in made.values()]
        _write_plain({name: plain for name, (_, plain) in made.items()})
    return True


def create(
    name: str,
    kind: Kind = "server",
    scopes: Sequence[str] = (),
    origins: Sequence[str] = (),
    days: float | None = None,
) -> tuple[Key, str]:
    """A new key and its plain text, which is stored nowhere. days: until it expires; None: never.

    Raises SettingsError that lists every fault.
    """
    scopes = tuple(dict.fromkeys(scopes)) or (PUBLIC_SCOPES if kind == "public" else FIRST["server"][1])
    faults = [*_faults(name, kind, scopes), *_origin_faults(kind, origins)]
    if days is not None and not 0 < days <= 3650:
        faults.append(f"it may last up to 3650 days, not {days:g}")
    with _changing() as keys:
        if any(each.name == name and each.state(_now()) == "active" for each in keys):
            faults.append(f"there is an active key named {name!r} already: rotate it, or choose another name")
        if faults:
            raise SettingsError("; ".join(faults))
        until = None if days is None else (_now() + timedelta(days=days)).isoformat(timespec="seconds")
        key, plain = _made(name, kind, scopes, tuple(origins), until)
        keys.append(key)
    return key, plain


def revoke(which: str) -> list[Key]:
    """From now on the key opens nothing; by name, neither does an old one of that name that was rotated and goes on.

    Raises NotThere.
    """
    with _changing() as keys:
        _newest(keys, which)
        ended = []
        for place, each in enumerate(keys):
            if which in (each.key_id, each.name) and each.state(_now()) == "active":
                keys[place] = replace(each, revoked_at=_now().isoformat(timespec="seconds"))
                ended.append(keys[place])
        return ended


def rotate(which: str, grace_hours: float = 24.0) -> tuple[Key, str]:
    """A key with the same name and rights, and its plain text; the old one goes on for `grace_hours`.

    Where the old one stands in `first()`, the new one takes its place there. Raises NotThere, SettingsError.
    """
    if not 0 <= grace_hours <= 24 * 365:
        raise SettingsError(f"the old key may go on for 0 to 8760 hours, not {grace_hours:g}")
    with _changing() as keys:
        place = _newest(keys, which)
        old = keys[place]
        end = _now() + timedelta(hours=grace_hours)
        until = min(filter(None, [old.expires_at, end.isoformat(timespec="seconds")]))
        key, plain = _made(old.name, old.kind, old.scopes, old.origins, old.expires_at)
        keys[place] = replace(old, expires_at=until)
        keys.append(key)
        held = plain_keys()
        if matching({old.key_id: old}, held.get(old.name, "")):
            _write_plain({**held, old.name: plain})
    return key, plain


def plain_keys() -> dict[str, str]:
    """The keys of the first start by name; none where their file was taken away, as it may be."""
    try:
        lines = first().read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return {}
    found = re.findall(r"(?m)^AISLE_([A-Z]+)_KEY=(\S+)$", "\n".join(lines))
    return {name.lower(): plain for name, plain in found}


def headers(name: str = "server") -> dict[str, str]:
    """What our own commands send: the key in AISLE_API_KEY, else the one of the first start, else none."""
    plain = os.environ.get("AISLE_API_KEY") or plain_keys().get(name)
    return {"X-API-Key": plain} if plain else {}


def _faults(name: str, kind: str, scopes: Sequence[str]) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9 ._-]{1,64}", name):
        yield f"a name has 1 to 64 letters, digits, blanks, '.', '_' or '-', not {name!r}"
    if kind not in ("server", "public"):
        yield f"a key is of kind server or public, not {kind!r}"
    for scope in scopes:
        if scope not in SCOPES:
            yield f"no scope {scope!r}; they are {', '.join(SCOPES)}"
        elif kind == "public" and scope not in PUBLIC_SCOPES:
            yield f"a public key may {' and '.join(PUBLIC_SCOPES)} only, not {scope}: make it a server key"


def _origin_faults(kind: str, origins: Sequence[str]) -> Iterator[str]:
    if origins and kind != "public":
        yield "only a public key has origins: a server key has no place in a browser"
    for origin in origins:
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin):
            yield f"an origin reads https://shop.example, in small letters, without a path; not {origin!r}"


def _newest(keys: Sequence[Key], which: str) -> int:
    """Where the newest active key of this id or name is."""
    for place in reversed(range(len(keys))):
        if which in (keys[place].key_id, keys[place].name) and keys[place].state(_now()) == "active":
            return place
    raise NotThere(f"no active key has the id or name {which!r}; `aisle keys list` shows them")


def _made(
    name: str, kind: Kind, scopes: tuple[str, ...], origins: tuple[str, ...] = (), until: str | None = None
) -> tuple[Key, str]:
    key_id, salt = secrets.token_hex(6), secrets.token_hex(16)
    plain = f"aisle_{kind}_{key_id}_{secrets.token_urlsafe(32)}"
    now = _now().isoformat(timespec="seconds")
    return Key(key_id, name, kind, scopes, origins, salt, hashed(plain, salt), now, until), plain


@contextmanager
def _changing() -> Iterator[list[Key]]:
    """The keys, under a lock; what the list holds at the end is written. Nothing is, after an error."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(folder() / ".lock", timeout=30):
        keys = read()
        yield keys
        private(path(), json.dumps({"keys": [asdict(each) for each in keys]}, indent=1))


def _write_plain(keys: dict[str, str]) -> None:
    lines = [
        "# Keys of this installation's API, made at its first start. Keep them secret; `aisle keys` rotates and revokes.",
        *(f"AISLE_{name.upper()}_KEY={plain}" for name, plain in keys.items()),
    ]
    private(first(), "\n".join(lines) + "\n")


def private(file: Path, text: str) -> None:
    """Replaced in one move, and readable by its owner alone from its first byte."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as beside:
        beside.write(text)
        beside.flush()
        os.fsync(beside.fileno())
    os.replace(fresh, file)


def _now() -> datetime:
    return datetime.now(UTC)


def summary() -> dict[str, Any] | None:
    """For `aisle status`: where the plain keys are, and how many keys are active; None before the first start."""
    if not path().exists():
        return None
    active = sum(each.state(_now()) == "active" for each in read())
    return {"active": active, "plain": str(first()) if first().exists() else None}
