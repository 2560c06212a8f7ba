"""HTTP/1.1 as uvicorn speaks it, with bounds on what a caller may do before its request is one, and after its answer is made.

Uvicorn itself waits for ever for headers, keeps as many of them as are sent, and all requests and answers of a connection.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aisle import settings as settings_module
from serving import unsent
from serving.last_words import last_word
from serving.limits import MADE, WHOLE

PIPELINED = 16  # requests that may wait on a connection for the one before them; each costs some kilobytes
WRONG = 400, "bad-request", "this is no HTTP/1.1 request"
FULL = 503, "overloaded", "too many connections; ask again", 2
TOO_LONG = 431, "too-many-headers", "the headers of the request are too long"
TOO_MANY = (
    429,
    "too-many",
    f"at most {PIPELINED} requests may wait on a connection; read the answers first",
    1,
)
LINE = 8192  # bytes of a first line that is looked through for such as no URL has
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")


class Bounded(HttpToolsProtocol):
    """Closes a connection whose headers are slow or endless, whose answers nobody takes, and one too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.limits = settings_module.load().serving.limits
        self.before_headers = 0  # bytes of a request whose headers are not complete
        self.expects_line = True  # the next byte may be of a request's first line
        self.wrong: tuple[Any, ...] = WRONG
        self.impatience: asyncio.TimerHandle | None = None
        self.running: RequestResponseCycle | None = None
        self.untaken: asyncio.TimerHandle | None = None
        self.put_off: tuple[RequestResponseCycle, Any] | None = None  # until the answer before it is taken
        self.unsent = unsent.of(self.server_state, self.limits.max_unsent_bytes)
        transport.set_write_buffer_limits(HIGH_WATER_LIMIT, 0)  # an answer is taken when its last byte is
        self.access_log = (
            False  # uvicorn's lines hold the query, in which are ids and may be keys; ours hold the route
        )
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._last_word(*FULL)
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        self._takes_again()
        self.put_off = None
        for cycle in (self.running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:  # uvicorn tells the newest request alone that nobody listens any more
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        began = self.before_headers == 0 and self.cycle is not None and self.cycle.response_complete
        self.before_headers += len(data)
        self.in_headers = True
        if self.expects_line and not data.isascii():
            data = percent_encoded(data)
        self._feed(data)
        if self.in_headers and self.expects_line:  # most come whole, and need no timer
            self.expects_line = b"\n" not in data
        if began and self.in_headers:
            self._expect_headers()
        if self.before_headers > self.limits.max_header_bytes and not self.transport.is_closing():
            self._last_word(*TOO_LONG)

    def on_headers_complete(self) -> None:
        """Raises ValueError, which ends the parser's work, for one request too many."""
        self.in_headers = self.expects_line = False
        self._headers_are_there()
        if len(self.pipeline) >= PIPELINED:
            self.wrong = TOO_MANY
            raise ValueError("too many requests wait on this connection")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.before_headers = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.before_headers = 0
        self.expects_line = True
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Nothing is worked out for a caller who has not taken the answer before."""
        if self.flow.write_paused:
            self.put_off = cycle, app
            return
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        """As uvicorn's `data_received`; but what is no HTTP is told as a problem, and not logged: a flood of it would fill the disk."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._last_word(*self.wrong)
        except (
            httptools.HttpParserUpgrade
        ):  # to a protocol that we do not speak: answered as if it had not asked
            pass

    def pause_writing(self) -> None:
        """The caller does not take what it is sent; after a while nothing is kept for it any more."""
        super().pause_writing()
        self._takes_again()
        self.untaken = self.loop.call_later(self.limits.send_seconds, self.unsent.give_up, self.transport)
        made: Any = self.running.scope.get(MADE, 0) if self.running else 0
        self.unsent.waits(self.transport, made)

    def resume_writing(self) -> None:
        self._takes_again()
        super().resume_writing()
        if self.put_off is not None:
            next_one, self.put_off = self.put_off, None
            self._start_asgi_task(*next_one)

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn's, but it does not wait for ever for a caller to take the end of an answer."""
        if self.transport.get_write_buffer_size():
            self.unsent.give_up(self.transport)
        else:
            super().timeout_keep_alive_handler()

    def _takes_again(self) -> None:
        self.unsent.taken(self.transport)
        if self.untaken is not None:
            self.untaken.cancel()
            self.untaken = None

    def _expect_headers(self) -> None:
        self._headers_are_there()
        self.impatience = self.loop.call_later(self.limits.header_seconds, self.transport.close)

    def _headers_are_there(self) -> None:
        if self.impatience is not None:
            self.impatience.cancel()
            self.impatience = None

    def _last_word(self, *problem: Any) -> None:
        """problem: as `last_word` takes it."""
        self.transport.write(last_word(*problem))
        self.transport.close()


def percent_encoded(data: bytes) -> bytes:
    """The first line with the bytes percent-encoded that no URL has, such as those of an é: many clients send them as they are.

    >>> percent_encoded("GET /?q=café HTTP/1.1\\r\\nX: é".encode())
    b'GET /?q=caf%C3%A9 HTTP/1.1\\r\\nX: \\xc3\\xa9'
    """
    line, end, rest = data.partition(b"\n")
    if len(line) > LINE:
        return data
    return _BEYOND_ASCII.sub(lambda found: b"%" + found[0].hex("%").upper().encode(), line) + end + rest
