"""HTTP/1.1 on a connection whose other end may be anybody: the head of a request has a size and a deadline.

uvicorn bounds neither, and a head is kept in memory until it is whole. A refusal is a problem document, after
which the connection is closed.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from salus.runtime.problems import Answer, problem_response
from salus.runtime.response_headers import complete

URL_BYTES_MAX = 8192
# Names and values of all header fields, trailers included: a token, an approval and a decision are 12 KiB.
HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 128
# From the first byte of a connection or of a head to the end of the head.
HEAD_S_MAX = 20.0
# How long, and how much of, what is still sent is thrown away, so that the other end reads the refusal first.
LINGER_S = 1.0
LINGER_BYTES_MAX = 1024 * 1024

_MALFORMED = Answer(400, "malformed-request", "not a request of HTTP/1.1")
_URL = Answer(414, "target-too-long", f"path and query have at most {URL_BYTES_MAX} bytes")
_HEAD = Answer(
    431,
    "head-too-large",
    f"a request has at most {HEADERS_MAX} header fields, of {HEAD_BYTES_MAX} bytes together",
)
_SLOW = Answer(408, "head-too-slow", f"the head of a request takes at most {HEAD_S_MAX:.0f} s")


class _RefusedError(Exception):
    """The request is not read on; it never leaves this module."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what is read before an application is asked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answer = _MALFORMED
        self._refused = self._in_head = False
        self._deadline: TimerHandle | None = None
        self._head_bytes = self._fields = 0
        # Bytes since the last one of a body or the last request's end: an unfinished head, or trailers.
        self._unfinished = 0
        self._went_on = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a head, so long and no longer."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless what is read already is too much."""
        if self._has_refused():
            self._unfinished += len(data)
            if self._unfinished > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        self._went_on = False
        super().data_received(data)
        if self._has_refused():
            return
        self._unfinished = 0 if self._went_on else self._unfinished + len(data)
        if self._unfinished > HEAD_BYTES_MAX:
            self._refuse(_HEAD)
        elif not self._went_on and self._waits():
            # Blank lines before a request are nothing that the parser tells of.
            self._expect_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._fields = 0
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        if len(self.url) + len(url) > URL_BYTES_MAX:
            self._stop(_URL)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field or a trailer."""
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX or self._fields > HEADERS_MAX:
            self._stop(_HEAD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head."""
        self._forget_deadline()
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which the application bounds."""
        self._went_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._went_on = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's sentence names less
        """Answer what the parser, or a bound above, has refused."""
        self._refuse(self._answer)

    def _stop(self, answer: Answer) -> None:
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

    def _refuse(self, answer: Answer) -> None:
        self._refused = True
        self._forget_deadline()
        if self.transport.is_closing():
            return
        if not self._may_answer():
            self.transport.close()
            return
        if self.cycle is not None:
            # Whatever answers it besides is not heard, and hears that.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(_response(answer))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


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
