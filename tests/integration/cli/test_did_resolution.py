"""`salus party resolve` at a real host: what it ends with, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.did_hosts import KEY, Stranger, document, stranger_at

from salus.cli.application import run
from salus.cli.exits import Exit
from salus.cli.proven_keys import prove
from salus.events.did import LocalSigner

# The machine's own resolver knows this name.
HOST = "localhost"
INSIDE = ("--inside", "127.0.0.0/8", "--inside", "::1/128")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Stranger]:
    async with stranger_at(HOST, tmp_path) as found:
        yield found


async def resolved(host: Stranger, tmp_path: Path, *options: str) -> int:
    ca = str(tmp_path / f"{HOST}.pem")
    return await asyncio.to_thread(run, ["party", "resolve", host.did, "--ca", ca, *options])


def entry(folder: Path, did: str, seed: bytes) -> str:
    signer = LocalSigner.from_seed(seed * 32, f"{did}#1")
    proven = prove(signer, network="test", member=None, now=datetime.now(UTC))
    file = folder / f"{seed.decode()}.json"
    file.write_bytes(msgspec.json.encode(proven))
    return str(file)


async def test_who_vouches_for_a_did_sees_whether_it_has_the_key(
    host: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = entry(tmp_path, host.did, b"k"), entry(tmp_path, host.did, b"o")

    assert await resolved(host, tmp_path, *INSIDE, "--entry", own) == Exit.OK
    assert f"{host.did}#1" in capsys.readouterr().out
    assert await resolved(host, tmp_path, *INSIDE, "--entry", own, "--entry", other, "--json") == Exit.NO
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "did": host.did,
        "keys": [{"id": f"{host.did}#1", "multibase": KEY}],
        "lacking": [f"{host.did}#1"],
        "unlike": [],
    }
    assert "has no such key" in said.err


async def test_a_host_inside_is_not_connected_to_unless_somebody_says_so(
    host: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await resolved(host, tmp_path) == Exit.NO
    assert "did-inward" in capsys.readouterr().err
    assert await resolved(host, tmp_path, "--inside", "10.0.0.0/8") == Exit.NO
    assert await resolved(host, tmp_path, "--inside", "10.0.0.1/8") == Exit.USAGE
    assert host.connections == 0


@asynccontextmanager
async def identity_that_says(party: dict[str, Any], host: Stranger) -> AsyncIterator[str]:
    server = Stranger(0, host.tls)
    server.says(party, headers="Content-Type: application/json\r\n")
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()
    await listening.wait_closed()


async def test_a_copy_that_did_not_follow_a_rotation_is_told(
    host: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"id": f"{host.did}#1", "multibase": KEY, "valid_from": "2026-01-01T00:00:00Z"}
    later = {**held, "id": f"{host.did}#3", "valid_from": "2999-01-01T00:00:00Z"}
    over = {**held, "id": f"{host.did}#4", "valid_until": "2026-01-02T00:00:00Z"}
    party = {"did": host.did, "kind": "member", "keys": [held, later, over]}
    options = (*INSIDE, "--registered", "--directory", str(tmp_path), "--identity")
    async with identity_that_says(party, host) as url:
        assert await resolved(host, tmp_path, *options, url) == Exit.OK

        second = {**document(host.did)["verificationMethod"][0], "id": "#2"}
        host.says(document(host.did, authentication=[second]))
        assert await resolved(host, tmp_path, *options, url) == Exit.NO
        assert f"differ in {host.did}#2" in capsys.readouterr().err

    rotated = {**party, "keys": [{**held, "revoked": "rotated"}]}
    host.says(document(host.did))
    async with identity_that_says(rotated, host) as url:
        assert await resolved(host, tmp_path, *options, url) == Exit.NO
        assert f"differ in {host.did}#1" in capsys.readouterr().err
