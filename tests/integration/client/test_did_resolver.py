"""A did:web at a stranger's host, over real TLS: what it may say, and where it may not lead us."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from tests.integration.did_hosts import HOST, KEY, Stranger, at, certificate, document, stranger_at

from salus.client.did_resolver import ADDRESSES_MAX, DOCUMENT_BYTES_MAX, DidResolver
from salus.client.errors import DidError
from salus.events.did import key_of


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[Stranger]:
    async with stranger_at(HOST, tmp_path) as found:
        yield found


async def code_of(resolver: DidResolver, did: str) -> str:
    with pytest.raises(DidError) as refused:
        await resolver.resolve(did)
    return refused.value.code


async def test_a_did_web_is_read_at_its_own_host(stranger: Stranger) -> None:
    found = await stranger.resolver.resolve(stranger.did)

    assert found.keys == {f"{stranger.did}#1": key_of(KEY)}
    assert found.names(f"{stranger.did}#1", KEY)
    head = stranger.asked[0].decode()
    assert head.startswith("GET /.well-known/did.json HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}:{stranger.port}\r\n" in head
    assert "application/did+json" in head


async def test_a_path_is_read_as_the_method_says(stranger: Stranger) -> None:
    did = f"{stranger.did}:people:Anna_1.b-c"
    stranger.says(document(did))
    await stranger.resolver.resolve(did)

    assert stranger.asked[0].startswith(b"GET /people/Anna_1.b-c/did.json ")


async def test_a_host_that_lies_is_not_believed(stranger: Stranger) -> None:
    resolver = stranger.resolver
    stranger.says(document("did:web:other.example"))
    assert await code_of(resolver, stranger.did) == "did-mismatch"

    twice = json.dumps(document(stranger.did))[:-1] + ', "id": "did:web:other.example"}'
    stranger.says(twice.encode())
    assert await code_of(resolver, stranger.did) == "did-document-invalid"

    stranger.says(b"<html>")
    assert await code_of(resolver, stranger.did) == "did-document-invalid"


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        ("404 Not Found", "", "did-not-found"),
        ("410 Gone", "", "did-deactivated"),
        ("500 Oh", "", "did-unreachable"),
        ("302 Found", "Location: https://127.0.0.1:1/latest/meta-data\r\n", "did-redirected"),
        ("308 Moved", "Location: /elsewhere\r\n", "did-redirected"),
        ("304 Not Modified", "", "did-redirected"),
        ("200 OK", "Content-Encoding: gzip\r\n", "did-document-invalid"),
    ],
)
async def test_what_is_no_document_is_named(stranger: Stranger, status: str, headers: str, code: str) -> None:
    stranger.says(b"" if status.startswith("304") else b"{}", status=status, headers=headers)

    assert await code_of(stranger.resolver, stranger.did) == code
    assert stranger.connections == 1


async def test_a_document_without_an_end_is_not_read_to_its_end(stranger: Stranger) -> None:
    stranger.says(b"[" + b" " * DOCUMENT_BYTES_MAX)
    assert await code_of(stranger.resolver, stranger.did) == "did-document-invalid"

    stranger.says(document(stranger.did, x="y" * (DOCUMENT_BYTES_MAX - 500)))
    await stranger.resolver.resolve(stranger.did)


async def test_a_host_that_drips_is_left_at_the_deadline(stranger: Stranger) -> None:
    stranger.pause_s = 0.2
    begun = monotonic()
    code = await code_of(replace(stranger.resolver, seconds_max=2.0), stranger.did)

    assert code == "did-unreachable"
    assert monotonic() - begun < 30


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["192.0.0.192"],
        ["10.1.2.3"],
        ["192.168.0.1"],
        ["172.16.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["0.0.0.0"],
        ["224.0.0.251"],
        ["255.255.255.255"],
        ["::1"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["::127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["fec0::1"],
        ["ff02::1"],
        ["8.8.8.8", "127.0.0.1"],
    ],
)
async def test_a_name_that_leads_inward_is_not_connected_to(stranger: Stranger, addresses: list[str]) -> None:
    resolver = DidResolver(tls=stranger.tls, look_up=at(*addresses))

    assert await code_of(resolver, stranger.did) == "did-inward"
    assert stranger.connections == 0


async def test_who_names_a_network_opens_that_one_alone(stranger: Stranger) -> None:
    for address in ("169.254.169.254", "10.0.0.1", "::1"):
        resolver = replace(stranger.resolver, look_up=at(address))

        assert await code_of(resolver, stranger.did) == "did-inward"


async def test_the_connection_goes_to_the_address_that_was_looked_at(stranger: Stranger) -> None:
    """A name that changes between two look-ups would lead elsewhere at the second."""
    looked_up = []

    async def once(host: str, port: int) -> Sequence[str]:
        looked_up.append((host, port))
        return ["127.0.0.1"]

    await replace(stranger.resolver, look_up=once).resolve(stranger.did)

    assert looked_up == [(HOST, stranger.port)]


@pytest.mark.parametrize(
    "did", ["did:web:127.0.0.1", "did:web:2130706433", "did:web:127.1%3A8443", "did:web:0x7f"]
)
async def test_a_host_that_is_an_address_is_none(stranger: Stranger, did: str) -> None:
    assert await code_of(stranger.resolver, did) == "invalid-did"


async def test_a_certificate_of_another_name_or_of_nobody_we_know_is_refused(
    stranger: Stranger, tmp_path: Path
) -> None:
    other = stranger.did.replace(HOST, "g.example")
    unknown = replace(
        stranger.resolver, tls=ssl.create_default_context(cafile=certificate(tmp_path, "x.example"))
    )
    for resolver, did in ((stranger.resolver, other), (unknown, stranger.did)):
        with pytest.raises(DidError, match="certificate is not good") as refused:
            await resolver.resolve(did)

        assert refused.value.code == "did-unreachable"
    assert stranger.asked == []


async def test_the_next_address_is_tried_and_not_the_hundredth(stranger: Stranger) -> None:
    closed = [f"127.0.0.{number}" for number in range(2, 2 + ADDRESSES_MAX)]
    found = await replace(stranger.resolver, look_up=at(closed[0], "127.0.0.1")).resolve(stranger.did)

    assert found.did == stranger.did
    late = replace(stranger.resolver, look_up=at(*closed, "127.0.0.1"))
    assert await code_of(late, stranger.did) == "did-unreachable"


async def test_no_proxy_of_the_environment_is_used(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    found = await stranger.resolver.resolve(stranger.did)

    assert found.did == stranger.did


async def test_a_name_without_an_address_is_nowhere(stranger: Stranger) -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    for look_up in (nowhere, at()):
        assert await code_of(replace(stranger.resolver, look_up=look_up), stranger.did) == "did-unreachable"
    assert await code_of(DidResolver(), "did:web:salus.invalid") == "did-unreachable"
