"""A web server of a stranger, over real TLS, that has a DID document, or something else."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from salus.client.did_resolver import DidResolver
from salus.events.did import LocalSigner, multibase_of

HOST = "h.example"
KEY = multibase_of(LocalSigner.from_seed(b"k" * 32).public_key)
LOOPBACK = (IPv4Network("127.0.0.0/8"),)


def certificate(folder: Path, host: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{host}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@dataclass
class Stranger:
    """A web server; answers each request with `answer`, slowly if it is to."""

    port: int
    tls: ssl.SSLContext
    host: str = HOST
    answer: bytes = b""
    pause_s: float = 0.0
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def did(self) -> str:
        return f"did:web:{self.host}%3A{self.port}"

    @property
    def resolver(self) -> DidResolver:
        return DidResolver(inside=LOOPBACK, tls=self.tls, look_up=at("127.0.0.1"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            pieces = (
                [self.answer[i : i + 1] for i in range(len(self.answer))] if self.pause_s else [self.answer]
            )
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause_s)
        writer.transport.abort()

    def says(self, body: Any, *, status: str = "200 OK", headers: str = "") -> None:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(sent)}\r\n{headers}\r\n"
        self.answer = head.encode() + sent


def at(*addresses: str) -> Any:
    async def look_up(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return look_up


@asynccontextmanager
async def stranger_at(host: str, folder: Path) -> AsyncIterator[Stranger]:
    """Run a stranger's server on this machine, whose certificate is for a host."""
    chain = certificate(folder, host)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(chain)
    found = Stranger(0, ssl.create_default_context(cafile=chain), host)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=serving)
    found.port = server.sockets[0].getsockname()[1]
    found.says(document(found.did))
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()


def document(did: str, **more: Any) -> dict[str, Any]:
    method = {"id": f"{did}#1", "type": "Multikey", "controller": did, "publicKeyMultibase": KEY}
    return {"id": did, "verificationMethod": [method], "assertionMethod": ["#1"], **more}
