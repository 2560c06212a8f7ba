"""What one caller may take: requests per second, headers, and bodies that are small, shallow and quick to come."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import re
import time
from collections import OrderedDict

from aisle.errors import BodyTooLarge, Overloaded, TooDeep, TooMany, TooSlow
from aisle.settings import Limits
from serving.keys import Caller, Receive

KEPT = 20_000  # buckets; who has not asked for longest is forgotten, and so has a full one again
WHOLE = "aisle.whole"  # in a request's scope: all of its body has come, see serving.protocol
LARGE = 65_536  # bytes from which on an answer may have to wait until its caller takes it
MADE = "aisle.made"  # in a request's scope: bytes of what is sent of its answer, where that is large, see serving.unsent
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


class Buckets:
    """Token buckets by name: `rate` tokens a second come in, at most `size` lie there, a request takes one."""

    def __init__(self, rate: float, size: float):
        self.rate, self.size = rate, max(1.0, size)
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float | None = None) -> float:
        """Seconds until there is a token; 0.0 where there was one, which is then taken.

        >>> bucket = Buckets(rate=2.0, size=1.0)
        >>> bucket.take("a", now=10.0), bucket.take("a", now=10.1), bucket.take("a", now=10.6)
        (0.0, 0.4, 0.0)
        """
        now = time.monotonic() if now is None else now
        tokens, then = self._held.pop(name, (self.size, now))
        tokens = min(self.size, tokens + (now - then) * self.rate)
        enough = tokens >= 1.0
        self._held[name] = (tokens - 1.0 if enough else tokens, now)
        while len(self._held) > KEPT:
            self._held.popitem(last=False)
        return 0.0 if enough else round((1.0 - tokens) / self.rate, 6)


class Rates:
    """The buckets of keys and of addresses. A server key is bounded as a key; all others by their address as well.

    workers: processes that share a caller's rate between them.
    """

    def __init__(self, limits: Limits, workers: int = 1):
        key, address = limits.key_rate / workers, limits.address_rate / workers
        self.keys = Buckets(key, key * limits.burst_seconds)
        self.addresses = Buckets(address, address * limits.burst_seconds)

    def take(self, caller: Caller, client: tuple[str, int] | None) -> None:
        """Raises TooMany with the seconds to wait."""
        if caller.key_id:
            self._judge(self.keys.take(caller.key_id), f"the key {caller.name!r}")
        if not caller.trusted:
            self._judge(self.addresses.take(network(client)), "this address")

    def _judge(self, seconds: float, who: str) -> None:
        if seconds:
            raise TooMany(f"{who} asks more often than its rate allows", retry_after=math.ceil(seconds))


def network(client: tuple[str, int] | None) -> str:
    """Whose bucket a client's requests count in: its IPv4 address, or the /64 that an IPv6 subscriber has whole.

    >>> network(("2001:db8::1", 4711)), network(("::ffff:192.0.2.7", 1)), network(None)
    ('2001:db8::/64', '192.0.2.7', 'unknown')
    """
    if client is None:
        return "unknown"
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0][:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Bodies:
    """Reads bodies whole before their request takes a place at work, so that a slow sender holds nobody up."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.held = 0  # bytes of all bodies that are being read or answered

    async def read(self, headers: dict[bytes, bytes], receive: Receive, whole: bool = False) -> bytes:
        """The body. whole: it is here already, so that no clock need run. The caller gives its bytes back with `done`. Raises BodyTooLarge, TooSlow, TooDeep, Overloaded."""
        told = headers.get(b"content-length", b"0")
        if told.isdigit() and int(told[:20]) > self.limits.max_body_bytes:
            raise self._too_large(int(told[:20]))
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(None if whole else self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise TooSlow("the caller went away before its body was whole")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    self._take(len(part), size)
                    parts.append(part)
        except TimeoutError:
            self.done(size)
            raise TooSlow(
                f"the body was not whole after {self.limits.body_seconds:g} s; {size} bytes came"
            ) from None
        except BaseException:
            self.done(size)
            raise
        body = b"".join(parts)
        most = self.limits.max_json_depth
        if body.count(b"[") + body.count(b"{") > most and depth(body, most) > most:
            self.done(size)
            raise TooDeep(f"the body nests deeper than {most} levels")
        return body

    def done(self, size: int) -> None:
        self.held -= size

    def _take(self, more: int, size: int) -> None:
        self.held += more
        if size > self.limits.max_body_bytes:
            raise self._too_large(size)
        if self.held > self.limits.max_bodies_bytes:
            raise Overloaded("too many bodies are being read at once; send it again", retry_after=1)

    def _too_large(self, size: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"a body of {size} bytes or more is too large; at most {self.limits.max_body_bytes}: send it in parts"
        )


def depth(body: bytes, enough: int) -> int:
    """How deep brackets nest outside of strings; no further than to the first level above `enough`.

    >>> depth(b'[{"a": "[[[["}]', 9), depth(b'"[\\\\"[[[', 9), depth(b"[" * 100, 9)
    (2, 0, 10)
    """
    level = deepest = 0
    for found in _BRACKETS.finditer(body):
        char = found[0]
        if char in (b"[", b"{"):
            level += 1
            if level > deepest:
                deepest = level
                if deepest > enough:
                    break
        elif char in (b"]", b"}"):
            level -= 1
    return deepest
