"""How a connection ends: a client leaves, time is up, a request is refused, the server stops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.errors import HeadraceError, RequestTimeout
from headrace.http.cycle import AnswerHeads, Cycle
from headrace.http.flow import Flow
from headrace.http.half_closed import PROBE
from headrace.http.parsing import Discard
from headrace.http.refusals import Refuse
from headrace.receive_budget import Upload
from headrace.settings import ServerSettings

# A refused client may still be sending. Reading on for a moment lets it see the answer; closing
# at once would reset the connection and lose it.
LINGER_SECONDS = 3.0
# A client that sends nothing more may have left. If an answer to it has begun, only the next bytes
# of that can tell; when it takes none for so long, it has.
SILENT_SECONDS = 2.0

NEVER = math.inf
IDLE, HEAD, BODY = range(3)


class EndingConnection(HttpToolsProtocol):
    """What ends a connection, for `Connection`, which has the rest.

    `on_disconnect` is called once when the client leaves; the application sets it while it
    awaits a model and clears it afterwards. `deadline` is the loop time after which the
    listener's sweep calls `expire`.
    """

    def __init__(
        self,
        config: Config,
        server_state: AnswerHeads,
        settings: ServerSettings,
        refuse: Refuse,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self.on_disconnect: Callable[[], object] | None = None
        self.deadline = NEVER
        self._settings = settings
        self._refusal_of = refuse
        # What is being received.
        self._receiving = IDLE
        self._unsent = 0
        self._refusal = b""
        self._lingering = False
        self._limit = server_state.limit
        self._budget = server_state.budget
        # What is counted of the requests that are being received or answered.
        self._upload: Upload | None = None
        self._half_closed = server_state.half_closed
        # What that watches, once the client sends nothing more.
        self._watched: int | None = None
        # What the client had taken then of the answer that had begun.
        self._taken: int | None = -1
        self._running: list[Cycle] = []
        # In the tasks of a server that stops, for a request that has begun to arrive and that no
        # task awaits yet.
        self._arriving: asyncio.Future[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_longer_awaited()
        self._release()
        self._limit.remove(self)
        if self._half_closed is not None:
            self._half_closed.forget(self._watched, self.transport)
        super().connection_lost(exc)
        self.pipeline.clear()
        self._mark_disconnected()
        notify, self.on_disconnect = self.on_disconnect, None
        if notify is not None:
            notify()
        if self.cycle is None or self.cycle.response_complete:
            self._let_go()

    def _let_go(self) -> None:
        """Refer to nothing that refers to this connection, which nobody uses any more.

        So it is freed at once. What it has is alive for long, and the collector of cycles looks
        for that rarely: then it finds that of thousands, and takes a second.
        """
        self.cycle = None  # type: ignore[assignment]
        self.scope = None  # type: ignore[assignment]
        self._running.clear()

    def hold(self, size: int, *, unpacked: bool = False) -> None:
        """Count bytes of a request until it is answered.

        Raises:
            Overloaded: all requests together have too many.
        """
        if self._upload is None:
            flow = cast(Flow, self.flow)
            self._upload = Upload(self._budget, flow.hold_back, flow.let_go, self._refuse)
        if unpacked:
            if not self._receiving:
                self._upload.arrived()
            self._upload.unpack(size)
        else:
            self._upload.hold(size)

    def _release(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.release()

    def has_left(self) -> bool:
        """Whether the client is gone, so that nothing can be sent any more."""
        if self.transport.is_closing():
            self._mark_disconnected()
            return True
        return False

    def _mark_disconnected(self) -> None:
        # uvicorn marks the newest request only; others may run before it.
        for cycle in self._running:
            cycle.disconnected = True
            cycle.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection if the client may still wait for answers that it is owed."""
        if self._receiving == BODY and self.pipeline:
            self.pipeline.popleft()
        elif self._receiving == BODY or self.cycle is None or self.cycle.response_complete:
            return False
        # Encryption ends in both directions at once, and clients of HTTP/1.0 know no probes.
        if (
            self._half_closed is None
            or self._lingering
            or not self.transport.can_write_eof()
            or self.scope["http_version"] != "1.1"
        ):
            return False
        self._no_longer_awaited()
        self._receiving = IDLE
        if not any(each.response_started for each in self._running if not each.response_complete):
            self.transport.write(PROBE)
        else:
            self._taken = self._half_closed.acknowledged(self.transport)
            self.deadline = self.loop.time() + SILENT_SECONDS
        self._watched = self._half_closed.watch(self.transport)
        return True

    def _has_fallen_silent(self) -> bool:
        """Whether a client that sends nothing more has taken nothing since either."""
        return (
            self._half_closed is not None
            and self._watched is not None
            and self._half_closed.acknowledged(self.transport) == self._taken
        )

    def pause_writing(self) -> None:
        super().pause_writing()
        self.deadline = self.loop.time() + self._settings.body_timeout

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._receiving == IDLE and self.cycle is not None and self.cycle.response_complete:
            self.deadline = self.loop.time() + self._settings.keep_alive_timeout

    def close(self) -> None:
        """Close after an answer; a client that is still sending its body gets time to read it."""
        if self._receiving and not self.transport.is_closing():
            self._close_with(b"")
        else:
            self.transport.close()

    @property
    def idle_since(self) -> float | None:
        """The loop time since when nothing is being received or answered; None if something is."""
        if self._receiving or self.flow.write_paused or self.transport.is_closing():
            return None
        if self.cycle is None:
            return self.deadline - self._settings.header_timeout
        if not self.cycle.response_complete:
            return None
        return self.deadline - self._settings.keep_alive_timeout

    def make_way(self) -> None:
        """Close, since it is idle, to make room for another connection."""
        self.transport.close()

    @property
    def is_new(self) -> bool:
        """Whether no request has arrived yet."""
        return self.cycle is None

    def shutdown(self, spare_new: bool = True) -> None:
        """Close if idle; otherwise close once the current request is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._receiving == IDLE and not (spare_new and self.is_new):
            self.transport.close()

    def expire(self, now: float) -> None:
        """Handle a passed deadline: refuse, close, or give an answer on its way more time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self.deadline = now + self._settings.body_timeout
        elif unsent or self._lingering or self.transport.is_closing():
            self.transport.abort()
        elif self._receiving == HEAD:
            seconds = self._settings.header_timeout
            self._refuse(RequestTimeout(f"the request head did not arrive within {seconds:g} s"))
        elif self._receiving == BODY and self._upload is not None and self._upload.has_waited:
            self._refuse(self._budget.error())
        elif self._receiving == BODY:
            seconds = self._settings.body_timeout
            self._refuse(RequestTimeout(f"the request body did not arrive within {seconds:g} s"))
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        elif self._has_fallen_silent():
            self.transport.abort()
        else:
            self.deadline = NEVER

    def _await_arrival(self) -> None:
        """Have a server that stops wait for the rest of a request."""
        if self._arriving is None:
            self._arriving = self.loop.create_future()
            self.tasks.add(self._arriving)  # type: ignore[arg-type]

    def _no_longer_awaited(self) -> None:
        """A request is complete, or a task awaits the rest of it, or it never will be complete."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            self.tasks.discard(arriving)
            # Whoever waits for it looks for what is in flight then.
            arriving.set_result(None)

    def _refuse(self, error: HeadraceError) -> None:
        """Answer the request being received with `error`, after the answers owed before it."""
        self._no_longer_awaited()
        self._release()
        if self.transport.is_closing():
            return
        owed = self.cycle is not None and not self.cycle.response_complete
        answered = False
        if self._receiving == BODY:
            owed = bool(self.pipeline)
            # An answer that did not wait for the body is the only one.
            answered = not owed and self.cycle.response_started
        path = self.url.partition(b"?")[0].decode("latin-1") if self._receiving else ""
        refusal = b"" if answered else self._render(path, error)
        if self._receiving == BODY:
            if owed:
                self.pipeline.popleft()
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        if owed:
            self._receiving = IDLE
            self.parser = cast("httptools.HttpRequestParser", Discard(self.transport))
            self._refusal = refusal
            self.deadline = NEVER
        else:
            self._close_with(refusal)

    def _render(self, path: str, error: HeadraceError) -> bytes:
        scope = cast("dict[str, Any]", self.scope) if self._receiving else self._no_request()
        reply, id = self._refusal_of(path, scope, error)
        common = (*self.server_state.default_headers, *reply.headers)
        lines = [b"%b: %b\r\n" % field for field in common if field[0] != b"connection"]
        framing = b"x-request-id: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        lines.append(framing % (id.encode(), len(reply.body)))
        return b"".join([STATUS_LINE[reply.status], *lines, reply.body])

    def _no_request(self) -> dict[str, Any]:
        return {"client": self.client, "headers": []}

    def _close_with(self, answer: bytes) -> None:
        """Send a last answer, then read on for a moment before the connection closes."""
        self.parser = cast("httptools.HttpRequestParser", Discard(self.transport))
        self._receiving = IDLE
        self._lingering = True
        # A task that starts reading only now must not send "100 Continue": that would fail.
        self.is_closing = lambda: True
        self.deadline = self.loop.time() + LINGER_SECONDS
        self.transport.write(answer)
        if self.transport.can_write_eof() and self._watched is None:
            self.transport.write_eof()
        else:
            self.transport.close()
        # What is read from now on is dropped, so there is no need to hold it back.
        cast(Flow, self.flow).let_go()
