"""One HTTP/1.1 connection: uvicorn's httptools protocol with deadlines, caps and JSON errors.

Every request pays for a state byte, one reading of the clock and one comparison per segment
received. Everything else happens on the slow paths: a request that arrives in pieces, a segment
larger than a request head may be, and the listener's sweep.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import httptools
from uvicorn.config import Config

from headrace.errors import (
    HeadersTooLarge,
    HeadraceError,
    InvalidInput,
    Overloaded,
    Unimplemented,
)
from headrace.http.body import SOURCE
from headrace.http.cycle import AnswerHeads, Cycle
from headrace.http.ending_connection import BODY, HEAD, IDLE, NEVER, EndingConnection
from headrace.http.flow import Flow
from headrace.http.parsing import KnownHead, cause, read_target
from headrace.http.refusals import Refuse
from headrace.settings import ServerSettings

logger = logging.getLogger("headrace.http")

MAX_FIELDS = 100
MAX_PIPELINED = 32
# Fields that change how a request is read; any of them sends the head through `_check_head`.
_FRAMING = frozenset((b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"))


class Connection(EndingConnection):
    """A client's connection, which each request's scope has as `headrace.connection`."""

    def __init__(
        self,
        config: Config,
        server_state: AnswerHeads,
        settings: ServerSettings,
        refuse: Refuse,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, settings, refuse, loop)
        self._length = self._hosts = 0
        self._max_head = settings.max_header_size
        # What `deadline` was last set for.
        self._timed = IDLE
        self._head_size = 0
        self._suspect = False
        self._upgrading = False
        # Bytes of the body in this segment.
        self._fresh = 0
        self._bytes_beside_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.write = transport.write
        self.is_closing = transport.is_closing
        if not self._limit.add(self):
            self.connections.discard(self)
            error = Overloaded("the server has as many connections as --max-connections allows")
            transport.write(self._render("", error))
            transport.close()
            return
        self._timed = HEAD
        self.deadline = self.loop.time() + self._settings.header_timeout

    def data_received(self, data: bytes) -> None:
        self._suspect = len(data) > self._max_head or self._receiving == HEAD
        try:
            self.parser.feed_data(data)
            if self._receiving:
                self._received_part(len(data))
            return
        except httptools.HttpParserError as error:
            self._refuse(cause(error))
            return
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except HeadraceError as error:
            self._refuse(error)
            return
        # Not in the `except`: there the upgrade would become the context of a callback's error.
        self._ignore_upgrade(rest)

    def on_message_begin(self) -> None:
        self._receiving = HEAD
        self.url = b""
        self._length = self._hosts = self._fresh = 0
        self.expect_100_continue = False
        self.headers = []
        self.scope = {  # type: ignore[typeddict-item, typeddict-unknown-key]
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": "",
            "headers": self.headers,
            "headrace.connection": self,
        }

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"host":
            self._hosts += 1
        elif name in _FRAMING:
            self._suspect = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if self._suspect or len(self.headers) > MAX_FIELDS:
            self._check_head(version)
        scope = cast("dict[str, Any]", self.scope)
        method = scope["method"] = self.parser.get_method().decode("ascii")
        if method == "CONNECT":
            # The parser takes it for an offer too, without a field that says so.
            self._upgrading = True
        if version != "1.1":
            if version != "1.0":
                raise InvalidInput("malformed HTTP request: expected HTTP/1.1 or HTTP/1.0")
            scope["http_version"] = version
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            # RFC 9112 3.2: proxies would choose different ones.
            raise InvalidInput(
                f"malformed HTTP request: expected one Host field, got {self._hosts or 'none'}"
            )
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Overloaded(f"more than {MAX_PIPELINED} requests are waiting on one connection")
        scope["raw_path"], scope["query_string"], scope["path"] = read_target(self.url)
        self._receiving = BODY
        # Trailers come through on_header too, and must not reach the scope.
        self.headers = []
        self._start_cycle(version)

    def on_body(self, body: bytes) -> None:
        self._fresh += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        if cycle.take(body):  # type: ignore[attr-defined]
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._receiving = self._timed = IDLE
        cycle = self.cycle
        if self._upload is not None:
            self._upload.arrived()
        if cycle.response_complete:
            self.deadline = self.loop.time() + self._settings.keep_alive_timeout
            return
        self.deadline = NEVER
        self._has_arrived(cycle)

    def _has_arrived(self, cycle: Any) -> None:
        """The whole body of a request is here."""
        cycle.more_body = False
        cycle.message_event.set()
        # While reading is paused, a client that leaves would go unnoticed.
        if self.flow.read_paused and not self.pipeline:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._upload is not None:
            self._release()
        if self._lingering:
            return
        if self.transport.is_closing():
            self.deadline = self.loop.time() + self._settings.body_timeout
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal:
            self._close_with(self._refusal)
        elif self._watched is not None:
            self.transport.close()
            self.deadline = self.loop.time() + self._settings.body_timeout
        elif not self._receiving and not self.flow.write_paused:
            self.deadline = self.loop.time() + self._settings.keep_alive_timeout

    def _start_cycle(self, version: str) -> None:
        before = self.cycle
        self.cycle = self._new_cycle(self._keeps_alive(version))
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._no_longer_awaited()

    def _keeps_alive(self, version: str) -> bool:
        """Whether the client lets the connection stay open after the answer."""
        # What follows a CONNECT is a body to some and the content of a tunnel to others.
        if version != "1.1" or cast("dict[str, Any]", self.scope)["method"] == "CONNECT":
            return False
        return bool(self.parser.should_keep_alive())

    def _new_cycle(self, keep_alive: bool) -> Cycle:
        cycle = Cycle(
            scope=self.scope,
            # Writes go straight to the transport; closing goes through `close`.
            transport=cast("asyncio.Transport", self),
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cast("dict[str, Any]", self.scope)[SOURCE] = cycle
        return cycle

    @property
    def unsent(self) -> int:
        """Bytes of answers still waiting to be sent."""
        size: int = self.transport.get_write_buffer_size()
        return size

    def _check_head(self, version: str) -> None:
        """Check a head that is large, arrived in pieces, or has a framing field.

        The parser itself refuses Content-Length together with Transfer-Encoding, more than one
        Content-Length, folded lines and bare line feeds.
        """
        self._require_small_head(self._measure_head())
        for name, value in self.headers:
            if name == b"transfer-encoding":
                if version != "1.1":
                    raise InvalidInput("malformed HTTP request: Transfer-Encoding needs HTTP/1.1")
                if value.lower() != b"chunked":
                    raise Unimplemented("the only supported Transfer-Encoding is 'chunked'")
            elif name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            elif name == b"upgrade":
                self._upgrading = self.parser.should_upgrade()

    def _measure_head(self) -> int:
        fields = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.url) + fields

    def _require_small_head(self, size: int) -> None:
        if len(self.headers) > MAX_FIELDS:
            raise HeadersTooLarge(f"the request head has more than {MAX_FIELDS} fields")
        if size > self._max_head:
            raise HeadersTooLarge(
                f"the request head exceeds {self._max_head} bytes; --max-header-size raises the cap"
            )

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        super()._start_asgi_task(cycle, app)
        self._running = [each for each in self._running if not each.response_complete]
        self._running.append(cycle)

    def _received_part(self, size: int) -> None:
        """Account for a segment that leaves a request incomplete."""
        if self._receiving == HEAD:
            self._await_arrival()
            if self._timed != HEAD:
                self._timed = HEAD
                self.deadline = self.loop.time() + self._settings.header_timeout
                self._head_size = self._measure_head()
            else:
                self._head_size += size
            self._require_small_head(self._head_size)
            return
        fresh, self._fresh = self._fresh, 0
        if fresh and not self.cycle.response_complete:
            self.hold(fresh)
        if self._timed != BODY:
            self._timed = BODY
            self.deadline = self.loop.time() + self._settings.body_timeout
            self._bytes_beside_body = 0
            return
        # Trailers and chunk extensions add nothing to the body, so only this count bounds them.
        self._bytes_beside_body = 0 if fresh else self._bytes_beside_body + size
        if self._bytes_beside_body > self._max_head:
            raise HeadersTooLarge(
                f"chunk extensions or trailers exceed {self._max_head} bytes; "
                "--max-header-size raises the cap"
            )

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Continue as if no upgrade had been offered.

        The parser takes what follows an upgrade for another protocol, but RFC 9110 7.8 lets
        a server ignore the offer, and then a body follows as usual. Java's HttpClient offers
        h2c on every first request.
        """
        self._upgrading = False
        framing = [
            b"%b: %b\r\n" % field
            for field in self.scope["headers"]
            if field[0] in (b"content-length", b"transfer-encoding")
        ]
        self.parser = httptools.HttpRequestParser(KnownHead(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n" + rest)
