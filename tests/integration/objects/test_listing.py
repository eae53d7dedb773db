"""What is listed of a store that has every key S3 allows, and what its error answers mean; cases L2, S4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from salus.objects import RefusedError, S3Objects, StoreAwayError, open_store, refuse_stray
from salus.objects.listing import PAGE_BYTES_MAX
from salus.objects.store import Stray

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><EncodingType>url</EncodingType>
<IsTruncated>{more}</IsTruncated>{token}{contents}</ListBucketResult>"""
CONTENTS = "<Contents><Key>{key}</Key><ETag>&quot;1&quot;</ETag><Size>3</Size></Contents>"
KEYS = ["/lead", "a//b", "a/", "a/../b", "a/./b", "a/b", "a/b\n", "a/b\u2028", "a\x00b", "\u00e9", "z" * 1024]


def page(query: dict[str, list[str]]) -> str:
    """One key a page; the token is the index of the next."""
    assert query["encoding-type"] == ["url"]
    at = int(query.get("continuation-token", ["0"])[0])
    more = at + 1 < len(KEYS)
    return PAGE.format(
        more=str(more).lower(),
        token=f"<NextContinuationToken>{at + 1}</NextContinuationToken>" if more else "",
        contents=CONTENTS.format(key=quote_plus(KEYS[at], safe="/")),
    )


@contextmanager
def served(*answers: tuple[int, str]) -> Iterator[S3Objects]:
    """A store that gives these answers, status and error code, and then its listing."""
    given = list(answers)

    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            status, code = given.pop(0) if given else (200, "")
            body = (
                f"<Error><Code>{code}</Code></Error>" if code else page(parse_qs(urlsplit(self.path).query))
            )
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_PUT = do_HEAD = do_DELETE = do_POST = do_GET  # noqa: N815  # the base class calls them so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield open_store(
                endpoint=f"http://127.0.0.1:{server.server_port}",
                access_key="key",
                secret_key="secret",  # of this server
                region="us-east-1",
                bucket="bucket",
                deadline_s=2,
            )
        finally:
            server.shutdown()


async def test_every_key_that_s3_allows_is_listed_as_it_is() -> None:
    strays: list[Stray] = []
    with served() as store:
        entries = [entry.key async for entry in store.list(on_stray=strays.append)]

    assert entries == ["a/b", "z" * 1024]
    assert [stray.key for stray in strays] == [key for key in KEYS if key not in entries]


async def test_a_busy_store_is_asked_again() -> None:
    strays: list[Stray] = []
    with served((503, "SlowDown"), (500, "InternalError")) as store:
        entries = [entry.key async for entry in store.list(on_stray=strays.append)]

    assert entries == ["a/b", "z" * 1024]


PERMANENT = [
    (400, "XMinioInvalidObjectName"),
    (403, "AccessDenied"),
    (403, "InvalidAccessKeyId"),
    (404, "NoSuchBucket"),
    (405, "MethodNotAllowed"),
    (301, "PermanentRedirect"),
    (501, "NotImplemented"),
]


@pytest.mark.parametrize(("status", "code"), PERMANENT)
async def test_what_no_waiting_mends_is_refused_and_never_away(status: int, code: str) -> None:
    with served(*[(status, code)] * 1000) as store:
        for ask in (
            lambda: store.get("k", bytes_max=1 << 30),
            lambda: store.put("k", b""),
            lambda: store.create("k", b""),
            lambda: store.replace("k", b"", '"1"'),
            lambda: anext(aiter(store.stream("k"))),
            lambda: anext(aiter(store.list("k", on_stray=refuse_stray))),
            lambda: store.delete("k"),
            lambda: store.destroy("k"),
        ):
            with pytest.raises(RefusedError, match="waiting does not mend"):
                await ask()


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (507, "XMinioStorageFull"), (429, "SlowDown")]
)
async def test_what_passes_is_away(status: int, code: str) -> None:
    with served(*[(status, code)] * 1000) as store:
        for ask in (
            lambda: store.create("k", b""),
            lambda: anext(aiter(store.list("k", on_stray=refuse_stray))),
        ):
            with pytest.raises(StoreAwayError):
                await ask()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "<ListBucketResult/>",
        "<a><IsTruncated>true</IsTruncated></a>",
        "x" * (PAGE_BYTES_MAX + 1),
    ],
    ids=["empty", "no XML", "no end", "no token", "too large"],
)
async def test_what_is_no_listing_is_no_empty_bucket(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.page", lambda _: body)
    with served() as store, pytest.raises(StoreAwayError, match=r"cannot be read|more than"):
        await anext(aiter(store.list(on_stray=refuse_stray)))
