"""An engine that never ends its answer keeps nobody: each attempt has a deadline, and so has the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from salus.crypto.errors import KmsAwayError
from salus.crypto.secret_source import Secret
from salus.storage.adapters.transit_kms import TransitKms
from salus.storage.kms_places import TokenLogin, TransitPlace

HEADS = {
    "a-body-without-an-end": b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
    "a-head-without-an-end": b"HTTP/1.1 200 OK\r\nX-Long: ",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_an_answer_that_comes_byte_by_byte_is_given_up(tmp_path: Path, head: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        # A byte each 20 ms: no single read waits for long. Whoever gives up closes the connection.
        while not reader.at_eof():
            writer.write(b"x")
            try:
                async with asyncio.timeout(0.02):
                    await reader.read(1)
            except TimeoutError:
                continue
        writer.close()

    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("s.token")
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        place = TransitPlace(address, "transit", "k", TokenLogin(Secret(f"file:{token}")))
        kms = TransitKms(place, deadline_s=2.0)
        async with asyncio.timeout(60):
            with pytest.raises(KmsAwayError):
                await kms.check()
            await kms.close()
