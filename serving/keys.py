"""Who asks, and whether they may: keys, origins, and what each path wants of them.

The keys are read anew when their file changes, so that `aisle keys` works on a running API within a second.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from aisle import api_keys, user_tokens
from aisle.api_keys import PUBLIC_SCOPES, Key
from aisle.errors import NoKey, NoProof, NotAllowed, SettingsError
from serving.policy import LOCAL, OPEN
from serving.proof import HEADER, Claim

log = logging.getLogger("aisle.keys")
LOOK_SECONDS = 0.25  # between two looks at the keys' file
PAGE_SECONDS = 3600  # so long a visitor of our own pages may ask from them
COOKIE: Final = "aisle_page"
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip", "via"})
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Caller:
    """Who asks. name: of the key; "" for nobody we know. trusted: by a server key, so that its address says nothing.

    public: by a key that every shopper can read, so that it proves nothing of who they are.
    """

    name: str = ""
    key_id: str = ""
    trusted: bool = False
    public: bool = False


NOBODY = Caller()
ANYBODY = Caller("", "open", trusted=True)  # with serving.auth = "open"


class Keyring:
    """The keys in force. auth: serving.auth; with "open" everybody may do everything.

    public_users: serving.public_users; with "open" a public key may ask for any user.
    """

    def __init__(self, auth: str, public_users: str = "token"):
        self.auth, self.public_users = auth, public_users
        self._keys: dict[str, Key] = {}
        self._origins: frozenset[str] = frozenset()
        self._seen: object = None
        self._looked = 0.0
        self._page = page_secret() if auth == "keys" else b""

    def start(self) -> None:
        """Makes the first keys where there are none."""
        if self.auth == "keys" and api_keys.ensure():
            log.info("the first keys are in %s", api_keys.first())
        if self.auth == "keys":
            user_tokens.ensure()
        self.look()

    def look(self) -> None:
        """Reads the file again where it is another one. A torn one is told, and the keys before it stay in force."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            found = os.stat(api_keys.path())
            seen: object = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            keys = api_keys.read()
        except SettingsError as error:
            log.error("the keys before stay in force: %s", error)
            return
        self._keys = {each.key_id: each for each in keys}
        self._origins = frozenset(origin for each in keys if self._active(each) for origin in each.origins)

    def origins(self) -> frozenset[str]:
        """Of all active public keys: from there a browser may send a request, whose key is then judged."""
        self.look()
        return self._origins

    def admit(self, scope: Scope, wanted: str) -> Caller:
        """The caller of a request that wants a scope, OPEN or LOCAL. Raises NoKey, NotAllowed."""
        if self.auth == "open":
            return ANYBODY
        if wanted == OPEN or (wanted == LOCAL and local(scope)):
            return NOBODY
        self.look()
        headers = texts(scope)
        plain = _presented(headers) or _from_query(scope, wanted)
        if plain is None:
            return self._keyless(scope, headers, wanted)
        key = api_keys.matching(self._keys, plain)
        state = key.state(datetime.now(UTC)) if key else "unknown"
        if key is None or state == "revoked":
            raise NoKey("this key is unknown or was revoked; `aisle keys list` shows which there are")
        if state != "active":
            raise NoKey(
                f"the key {key.name!r} expired at {key.expires_at}; `aisle keys create` makes a new one"
            )
        needed = "admin" if wanted == LOCAL else wanted
        if needed not in key.scopes:
            raise NotAllowed(
                f"the key {key.name!r} may {', '.join(key.scopes)}, and this wants the scope {needed!r}"
            )
        if key.kind == "public":
            _require_origin(scope, headers, key.origins)
        return Caller(key.name, key.key_id, key.kind == "server", key.kind == "public")

    def claim(self, scope: Scope, caller: Caller) -> Claim | None:
        """What a request must prove before it asks for a user; None: nothing."""
        if not caller.public or self.public_users == "open":
            return None
        return Claim(texts(scope).get(HEADER), self._user_of)

    def _user_of(self, token: str) -> str:
        """Raises NoProof. The secret is read anew each time, so that another one counts at once, in every process."""
        try:
            return user_tokens.user_of(user_tokens.secret(), token)
        except SettingsError as error:
            log.error("no user token can be checked: %s", error)
            raise NoProof("no user token can be checked now: the API's log says why", 401) from None

    def _active(self, key: Key) -> bool:
        return key.state(datetime.now(UTC)) == "active"

    def _keyless(self, scope: Scope, headers: Mapping[str, str], wanted: str) -> Caller:
        if wanted in PUBLIC_SCOPES and self._page_token_holds(headers):
            _require_origin(scope, headers, ())
            return Caller("our own page", "page")
        if wanted == LOCAL:
            raise NoKey("from another machine this page wants a key with the scope admin, as the password")
        raise NoKey(
            "send a key as X-API-Key or Authorization: Bearer; the first ones are in keys/first.env under AISLE_HOME"
        )

    def page_cookie(self) -> str:
        """Set-Cookie for a visitor of our own pages, who may then track and read from them for an hour."""
        until = str(int(time.time()) + PAGE_SECONDS)
        token = f"{until}.{self._signed(until)}"
        return f"{COOKIE}={token}; Max-Age={PAGE_SECONDS}; Path=/; HttpOnly; SameSite=Strict"

    def _signed(self, until: str) -> str:
        return hmac.new(self._page, until.encode(), hashlib.sha256).hexdigest()

    def _page_token_holds(self, headers: Mapping[str, str]) -> bool:
        for part in headers.get("cookie", "").split(";"):
            name, _, token = part.strip().partition("=")
            until, _, signed = token.partition(".")
            if name == COOKIE and until.isdecimal() and len(until) < 12:
                return int(until) > time.time() and hmac.compare_digest(
                    signed.encode(), self._signed(until).encode()
                )
        return False


def page_secret() -> bytes:
    """What signs the tokens of our own pages; the same in all workers, which get it with their environment."""
    return bytes.fromhex(os.environ.setdefault("AISLE_PAGE_SECRET", secrets.token_hex(32)))


def _presented(headers: Mapping[str, str]) -> str | None:
    """The key of X-API-Key or Authorization: Bearer, or the password of Basic, which browsers can send."""
    if "x-api-key" in headers:
        return headers["x-api-key"].strip()
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # of base64 or of its text
            return ""
    return None


def _from_query(scope: Scope, wanted: str) -> str | None:
    """The public key of ?key=, for a browser's beacon, which can send no header; taken out, and allowed to track only."""
    if wanted != "track" or b"key=" not in scope["query_string"]:
        return None
    asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    found = [value for name, value in asked if name == "key"]
    if not found or not found[0].startswith("aisle_public_"):
        return None
    scope["query_string"] = urlencode([each for each in asked if each[0] != "key"]).encode()
    return found[0]


def _require_origin(scope: Scope, headers: Mapping[str, str], origins: tuple[str, ...]) -> None:
    """Raises NotAllowed for a page that is neither ours nor on the list. Who is no browser sends no Origin."""
    origin = headers.get("origin")
    if origin is None or origin in origins:
        return
    if origin != f"{scope['scheme']}://{headers.get('host', '')}":
        raise NotAllowed(f"pages of {origin[:100]!r} may not use this key; its origins are a list of its own")


def texts(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in small letters."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def local(scope: Scope) -> bool:
    """Whether a request comes from this machine itself: no proxy before it, and no foreign name for this address.

    The name is looked at because a page elsewhere can give its own name our address (DNS rebinding).
    """
    client, headers = scope.get("client"), texts(scope)
    if not client or not FORWARDED.isdisjoint(headers):
        return False
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return _loopback(client[0]) and (name == "localhost" or _loopback(name))


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
