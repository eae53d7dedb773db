"""Where a browser brings a login's code: one answer to one request on this machine (RFC 8252, 7.3)."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit

PATH = "/callback"
REQUEST_S_MAX = 5
_PAGE = "<!doctype html><meta charset=utf-8><title>Salus</title><p>{}</p>"


@dataclass
class LoopbackRedirect:
    """Waits on 127.0.0.1 for the redirect that has `state`; other requests are answered and passed over."""

    state: str
    issuer: str
    port: int = 0
    code: str | None = None
    error: str | None = None
    _server: HTTPServer | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Listen; raises CommandError if the port is taken."""
        redirect = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_S_MAX

            def do_GET(self) -> None:
                is_it = redirect.take(self.path)
                said = "You can close this window." if is_it else "This is not the login that is waited for."
                page = _PAGE.format(said).encode()
                self.send_response(HTTPStatus.OK if is_it else HTTPStatus.BAD_REQUEST)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Say nothing: the code is in the request."""

        try:
            self._server = HTTPServer(("127.0.0.1", self.port), Handler)
        except OSError as error:
            raise CommandError(Exit.USAGE, f"--port: {error.strerror}") from None
        self.port = self._server.server_port
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.server_close()

    @property
    def url(self) -> str:
        """The redirect URI."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    def take(self, target: str) -> bool:
        """Take the answer of the provider, if it is that; tell whether it is."""
        parts = urlsplit(target)
        told = dict(parse_qsl(parts.query, max_num_fields=16))
        is_ours = hmac.compare_digest(told.get("state", "").encode(), self.state.encode())
        if parts.path != PATH or not is_ours or told.get("iss", self.issuer) != self.issuer:
            return False
        self.code, self.error = told.get("code"), told.get("error")
        return True

    def wait(self, *, seconds: float) -> str:
        """Return the code.

        Raises:
            CommandError: it does not come in time, or the provider says why it gives none.
        """
        deadline = time.monotonic() + seconds
        assert self._server is not None  # noqa: S101  # between enter and exit
        while self.code is None and self.error is None:
            self._server.timeout = deadline - time.monotonic()
            if self._server.timeout <= 0:
                raise CommandError(Exit.NO, "nobody logged in in time")
            self._server.handle_request()
        if self.code is None:
            raise CommandError(Exit.NO, f"the provider gave no code: {shown(self.error)}")
        return self.code
