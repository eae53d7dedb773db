"""HTTP/1.1 on a connection whose other end may be anybody: what it keeps in memory has a size and a deadline.

uvicorn bounds neither a head, which is kept in memory until it is whole, nor the requests behind one that is
being answered, nor what is sent after an answer, nor how long an answer may remain unread. A refusal is a
problem document, after which the connection is closed.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from functools import partial
from http import HTTPStatus
from typing import Any
from weakref import ref

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from salus.runtime.bodies import ARRIVED
from salus.runtime.problems import Answer, problem_response
from salus.runtime.response_headers import complete

URL_BYTES_MAX = 8192
# Names and values of all header fields, trailers included: a token, an approval and a decision are 12 KiB.
HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 128
# From the first byte of a connection or of a head to the end of the head.
HEAD_S_MAX = 20.0
# How long, and how much of, what is still sent is thrown away, so that the other end reads the answer first.
LINGER_S = 1.0
LINGER_BYTES_MAX = 1024 * 1024
# The same of a body after its answer, as of an upload that is refused: many clients read no answer before
# they have sent all, and see none if the connection ends first.
REST_S_MAX = 10.0
REST_BYTES_MAX = 64 * 1024 * 1024
# Requests that wait until the one before is answered. A client that has all bytes of an answer may send the
# next request a moment before we know that the answer is complete, so one waits, with what came of its body
# in the same read. Nothing after it is read, and the connection closes after its answer, as RFC 9112, 9.3.2,
# lets a server do: who pipelines repeats what was not answered.
WAITING_MAX = 1
# In so many seconds the other end takes so many bytes of an answer, or all that is left.
UNREAD_S_MAX = 30.0
TAKEN_BYTES_MIN = 16 * 1024
# Fields of which we, and whoever judges the event of the request, read one: of two each could read another.
SINGLE_FIELDS = frozenset(
    {
        b"authorization",
        b"content-type",
        b"host",
        b"if-none-exist",
        b"last-event-id",
        b"salus-approval",
        b"salus-decision",
    }
)

_MALFORMED = Answer(400, "malformed-request", "not a request of HTTP/1.1")
_URL = Answer(414, "target-too-long", f"path and query have at most {URL_BYTES_MAX} bytes")
_HEAD = Answer(
    431,
    "head-too-large",
    f"a request has at most {HEADERS_MAX} header fields, of {HEAD_BYTES_MAX} bytes together",
)
_TWICE = Answer(400, "repeated-field", "a header field that has one value is sent twice")
_SLOW = Answer(408, "head-too-slow", f"the head of a request takes at most {HEAD_S_MAX:.0f} s")


class _RefusedError(Exception):
    """The request is not read on; it never leaves this module."""


class _Flow(FlowControl):
    """Reads on only when the connection may: applications ask for more while they wait for its end."""

    def __init__(self, connection: BoundedHttpProtocol, transport: Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Read on, unless requests wait or nothing more is read."""
        if self._connection.may_read:
            super().resume_reading()


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what it keeps, and for how long."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # What the parser's next error means; None: too many requests wait.
        self._answer: Answer | None = _MALFORMED
        self._refused = self._in_head = False
        self._deadline: TimerHandle | None = None
        self._head_bytes = self._fields = 0
        self._singles: set[bytes] = set()
        # Bytes since the last one of a body or the last request's end: an unfinished head, or trailers.
        self._unfinished = 0
        self._went_on = False
        # Of what is thrown away.
        self._thrown_bytes = 0
        self._linger: TimerHandle | None = None
        self._unread: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a head, so long and no longer."""
        super().connection_made(transport)
        self.flow = _Flow(self, transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_deadline()
        self._forget_linger()
        self._forget_unread()
        super().connection_lost(exc)

    @property
    def may_read(self) -> bool:
        """Whether there is room for what would be read."""
        most = LINGER_BYTES_MAX if self._has_refused() else REST_BYTES_MAX
        return not self.pipeline and self._thrown_bytes <= most

    def data_received(self, data: bytes) -> None:
        """Read on, unless what is read already is too much."""
        if self._has_refused():
            self._throw_away(len(data))
            return
        self._went_on = False
        super().data_received(data)
        if self._has_refused():
            return
        self._unfinished = 0 if self._went_on else self._unfinished + len(data)
        if self._unfinished > HEAD_BYTES_MAX:
            self._refuse(_HEAD)
        elif self._in_head or (not self._went_on and self._waits()):
            # A head that did not come whole; blank lines before one are nothing that the parser tells of.
            self._expect_head()

    def on_message_begin(self) -> None:
        """Begin a head, unless as many requests wait as may."""
        if len(self.pipeline) >= WAITING_MAX:
            self._stop(None)
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._fields = 0
        self._singles.clear()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        if len(self.url) + len(url) > URL_BYTES_MAX:
            self._stop(_URL)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; a trailer is counted and forgotten, for it is no header (RFC 9110, 6.5.1)."""
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX or self._fields > HEADERS_MAX:
            self._stop(_HEAD)
        if not self._in_head:
            return
        if (lower := name.lower()) in SINGLE_FIELDS:
            if lower in self._singles:
                self._stop(_TWICE)
            self._singles.add(lower)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head."""
        self._forget_deadline()
        self._in_head = False
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            # A weak one: what refers to itself stays until reference cycles are looked for.
            arrived: Any = partial(_has_arrived, ref(self.cycle))
            self.scope["extensions"] = {ARRIVED: arrived}
        if not self.flow.write_paused:
            self._forget_unread()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which the application bounds; what comes after the answer is thrown away."""
        self._went_on = True
        if self.cycle.response_complete:
            self._throw_away(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._went_on = True
        self._forget_linger()
        super().on_message_complete()
        if self._thrown_bytes:
            self._thrown_bytes = 0
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """End the answer: of the request's body, if it is still being sent, little more is read."""
        super().on_response_complete()
        self._expect_taken()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._linger = self.loop.call_later(REST_S_MAX, self._close)

    def pause_writing(self) -> None:
        """Wait until the other end takes what is written, so long and no longer."""
        super().pause_writing()
        self._expect_taken()

    def resume_writing(self) -> None:
        """Write on."""
        self._forget_unread()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's sentence names less
        """Answer what the parser, or a bound above, has refused."""
        if self._answer is None:
            self._refused = True
            self.cycle.keep_alive = False
        else:
            self._refuse(self._answer)

    def _stop(self, answer: Answer | None) -> None:
        # The parser turns it into its own error, and uvicorn that one into a call of `send_400_response`.
        self._answer = answer
        raise _RefusedError

    def _has_refused(self) -> bool:
        return self._refused

    def _waits(self) -> bool:
        """Tell whether nothing is being answered, so that only a head can come."""
        return self.cycle is None or self.cycle.response_complete

    def _may_answer(self) -> bool:
        """Tell whether what is written now is taken for the answer to the request that is being read."""
        return self._waits() or not (self._in_head or self.pipeline or self.cycle.response_started)

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S_MAX, self._refuse, _SLOW)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _throw_away(self, size: int) -> None:
        self._thrown_bytes += size
        if not self.may_read:
            self.flow.pause_reading()

    def _forget_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _close(self) -> None:
        """Close the connection once what is written is taken, or is not."""
        self._expect_taken()
        self.transport.close()

    def _expect_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S_MAX, self._require_taken, left)

    def _require_taken(self, before: int) -> None:
        self._unread = None
        left = self.transport.get_write_buffer_size()
        if left > before - TAKEN_BYTES_MIN and left:
            self.transport.abort()
        else:
            self._expect_taken()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _refuse(self, answer: Answer) -> None:
        self._refused = True
        self._forget_deadline()
        self._forget_linger()
        if self.transport.is_closing():
            return
        if not self._may_answer():
            self._close()
            return
        if self.cycle is not None:
            # Whatever answers it besides is not heard, and hears that.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(_response(answer))
        self.transport.write_eof()
        self._linger = self.loop.call_later(LINGER_S, self._close)


def _has_arrived(cycle: ref[RequestResponseCycle]) -> bool:
    """Tell whether the whole body of a request is here, so that whoever asks for it waits for nothing."""
    request = cycle()
    return request is not None and not request.more_body


def _response(answer: Answer) -> bytes:
    body = bytes(problem_response(answer.status, answer.code, answer.detail).body)
    headers = complete(
        (
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        )
    )
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", body])
