"""What is said of a payload when it is sent: its hash, or that something else keeps it whole."""

from __future__ import annotations

from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from salus.objects.s3 import open_store

BODY = b"a block's body"


# 0.0.0.0 leads to the same server, by an address that is not certainly this machine's.
@pytest.mark.parametrize(
    ("host", "signed"),
    [
        ("127.0.0.1", "UNSIGNED-PAYLOAD"),
        ("0.0.0.0", sha256(BODY).hexdigest()),
    ],
)
async def test_a_payload_is_signed_unless_it_stays_on_this_machine(host: str, signed: str) -> None:
    said: list[tuple[str, bytes]] = []

    class Store(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            said.append((self.headers["x-amz-content-sha256"], body))
            self.send_response(200)
            self.send_header("etag", '"1"')
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Store) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        store = open_store(
            endpoint=f"http://{host}:{server.server_port}",
            access_key="key",
            secret_key="secret",  # of this server
            region="us-east-1",
            bucket="bucket",
        )
        try:
            await store.create("key", BODY)
        finally:
            server.shutdown()

    assert said == [(signed, BODY)]
