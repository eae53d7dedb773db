"""How fast objects go in and out of storage, beside the same client and plaintext at MinIO itself.

Large objects one at a time, by turns with MinIO, so that what else the machine does meets both; small ones
by 16 clients, each with its token, its events and its decision; and ranges of an object of some GB.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from salus.cli.bench.bulk_client import Transferred, transfer
from salus.cli.bench.contract_load import HOSPITAL, ORIGIN, nonce_of, patient_of, token_for
from salus.cli.bench.contracts import NO_LIMIT
from salus.cli.bench.http_client import KeptConnection
from salus.cli.bench.outcome import MEGABYTE, Goal, Outcome, machine, percentile
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import open_stage
from salus.cli.bench.watching import Watch, look_at, watch
from salus.cli.exits import CommandError, Exit
from salus.client.auth import RequestLine
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.events.bearer import DECISION_TYPE, audience_of
from salus.events.did import LocalSigner

GOALS = (
    Goal("put_ratio_100mb", least=0.7),
    Goal("get_ratio_100mb", least=0.7),
    Goal("small_puts_per_s", least=400),
    Goal("small_gets_per_s", least=1000),
    Goal("range_p95_ms", most=50),
    Goal("rss_mb_max", most=100),
)
SMALL_BYTES = 4096
RANGE_BYTES = 1_000_000
BLOCK_BYTES = 4 * MEGABYTE
URL_LIFETIME_S = 3600.0
PATIENT = patient_of(0)
QUERY = f"?patient={PATIENT.replace(':', '%3A')}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done: rounds of large objects and their size, small ones, clients, the largest, ranges."""

    rounds: int
    large_bytes: int
    small: int
    clients: int
    largest_bytes: int
    ranges: int


@dataclass
class Bench:
    """Storage and MinIO, and what was measured of them."""

    platform: Platform
    narrator: Narrator
    sizes: Sizes
    figures: dict[str, Any] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)
    block: bytes = field(default_factory=lambda: secrets.token_bytes(BLOCK_BYTES))

    @property
    def url(self) -> str:
        """Where storage is."""
        return self.platform.service_url("storage")

    def headers(self, method: str, target: str, name: str = "") -> dict[str, str]:
        """Return what a request needs: the caller's token and, if it reads, a decision."""
        token = token_for(RequestLine(method, target), "storage")
        made = {"Authorization": f"Bearer {token}"}
        if name:
            made["Salus-Decision"] = decision(self.platform.network.signer("consent"), name)
        return made

    async def transfer(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, body_bytes: int = 0
    ) -> Transferred:
        """Transfer one body, and raise CommandError unless it was."""
        done = await asyncio.to_thread(
            transfer, method, url, headers=headers, body_bytes=body_bytes, block=self.block
        )
        if done.status not in {200, 201, 206}:
            raise CommandError(Exit.NO, f"{method} {url.partition('?')[0]} is answered with {done.status}")
        return done

    async def put(self, name: str, size: int) -> Transferred:
        """Store an object."""
        target = f"/objects/{name}{QUERY}"
        return await self.transfer("PUT", self.url + target, self.headers("PUT", target), body_bytes=size)

    async def get(self, name: str, span: str = "") -> Transferred:
        """Read an object, or these bytes of it."""
        target = f"/objects/{name}{QUERY}"
        headers = self.headers("GET", target, name)
        if span:
            headers["Range"] = f"bytes={span}"
        return await self.transfer("GET", self.url + target, headers)


def decision(consent: LocalSigner, name: str) -> str:
    """Return a decision token as consent makes it, to read that object."""
    now = int(datetime.now(UTC).timestamp())
    header = {"alg": "EdDSA", "typ": DECISION_TYPE, "kid": consent.verification_method}
    claims = {
        "iss": consent.did,
        "sub": HOSPITAL.did,
        "aud": audience_of("storage", ORIGIN),
        "jti": str(uuid4()),
        "obj": name,
        "act": "read",
        "pat": PATIENT,
        "pur": "TREAT",
        "epoch": 0,
        "bg": False,
        "roles": [],
        "iat": now,
        "exp": now + 60,
    }
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    signed = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (signed + b"." + urlsafe_b64encode(consent.sign(signed)).rstrip(b"=")).decode()


async def storage(narrator: Narrator, sizes: Sizes) -> Outcome:
    """Measure all of it on one stage."""
    facts, watches = machine(), dict[str, Watch]()
    async with open_stage(narrator, environment=NO_LIMIT) as platform:
        await platform.start_services(["identity", "storage"])
        watching = asyncio.create_task(watch(platform, watches))
        bench = Bench(platform, narrator, sizes)
        try:
            await _register(bench)
            await _large(bench)
            await _small(bench)
            await _largest(bench)
        finally:
            watching.cancel()
    figures = bench.figures
    figures["rss_mb_max"] = round(watches["storage"].rss_max(), 1)
    figures |= {"large_bytes": sizes.large_bytes, "largest_bytes": sizes.largest_bytes, "small": sizes.small}
    curves = {
        name: [(1000 * percentile(took, share / 200), share / 2) for share in range(1, 200)]
        for name, took in bench.took.items()
    }
    panels = [Panel("ms", "share of answers that take no longer, %", curves)]
    return Outcome("storage", facts, figures, GOALS, panels)


async def _register(bench: Bench) -> None:
    body = json.dumps({"nonce": nonce_of(0), "steward": HOSPITAL.did}).encode()
    token = token_for(RequestLine("POST", "/subjects", body), "storage")
    async with KeptConnection(bench.url) as connection:
        status, answer = await connection.send(
            connection.request("POST", "/subjects", body=body, token=token)
        )
    if status != 201:
        raise CommandError(Exit.NO, f"a patient is answered with {status}: {answer[:300].decode()}")


async def _large(bench: Bench) -> None:
    """Let objects of 100 MB in and out, by turns here and at MinIO; the median of each counts."""
    size, bucket = bench.sizes.large_bytes, bench.platform.bucket("salus-objects")
    rates: dict[str, list[float]] = {}
    worked: dict[str, list[float]] = {}

    async def timed(what: str, work: Awaitable[Transferred]) -> Transferred:
        bench.narrator.update(what)
        before = _cpu_s(bench)
        done = await work
        worked.setdefault(what, []).append(1000 * (_cpu_s(bench) - before) / (size / MEGABYTE))
        rates.setdefault(what, []).append(size / MEGABYTE / done.seconds)
        return done

    first_ms: list[float] = []
    for number in range(bench.sizes.rounds):
        bench.narrator.step(
            f"objects of {size / MEGABYTE:.0f} MB, round {number + 1} of {bench.sizes.rounds}"
        )
        name, key = f"large-{number}", f"bench/{number}"
        to = await bucket.presigned(key, "PUT", lifetime_s=URL_LIFETIME_S)
        back = await bucket.presigned(key, "GET", lifetime_s=URL_LIFETIME_S)
        await timed("minio_put_mb_per_s", bench.transfer("PUT", to, body_bytes=size))
        await timed("put_mb_per_s", bench.put(name, size))
        await timed("minio_get_mb_per_s", bench.transfer("GET", back))
        done = await timed("get_mb_per_s", bench.get(name))
        first_ms.append(1000 * done.first_s)
        await bucket.destroy(key)
    middle = {name: _median(found) for name, found in rates.items()}
    bench.figures |= {
        "put_ratio_100mb": round(middle["put_mb_per_s"] / middle["minio_put_mb_per_s"], 3),
        "get_ratio_100mb": round(middle["get_mb_per_s"] / middle["minio_get_mb_per_s"], 3),
        **{name: round(rate, 1) for name, rate in middle.items()},
        "first_byte_ms": round(_median(first_ms), 1),
        "put_cpu_ms_per_mb": round(_median(worked["put_mb_per_s"]), 2),
        "get_cpu_ms_per_mb": round(_median(worked["get_mb_per_s"]), 2),
    }


def _median(found: list[float]) -> float:
    return sorted(found)[len(found) // 2]


def _cpu_s(bench: Bench) -> float:
    """Return the processor time that storage has used."""
    watches: dict[str, Watch] = {}
    look_at({"storage": bench.platform.services["storage"].process.pid}, watches)
    return watches["storage"].looks[0].cpu_s


async def _small(bench: Bench) -> None:
    """Let 16 clients store and read objects of 4 KB; tokens are signed beforehand, by a client each."""
    body, names = bench.block[:SMALL_BYTES], [f"small-{number}" for number in range(bench.sizes.small)]
    for method in ("PUT", "GET"):
        bench.narrator.step(f"{len(names):,} objects of 4 KB, {method}")
        first, requests = KeptConnection(bench.url), []
        for name in names:
            target = f"/objects/{name}{QUERY}"
            headers = bench.headers(method, target, name if method == "GET" else "")
            sent = body if method == "PUT" else b""
            requests.append(first.request(method, target, body=sent, headers=headers))
        took: list[float] = []
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(KeptConnection(bench.url)) for _ in range(bench.sizes.clients)
            ]
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(_send_on(connection, requests, took))
            seconds = time.perf_counter() - began
        took.sort()
        bench.took[f"small {method}"] = took
        bench.figures |= {
            f"small_{method.lower()}s_per_s": round(len(took) / seconds),
            f"small_{method.lower()}_p95_ms": round(1000 * percentile(took, 0.95), 1),
        }


async def _send_on(connection: KeptConnection, requests: list[bytes], took: list[float]) -> None:
    while requests:
        request, began = requests.pop(), time.perf_counter()
        status, answer = await connection.send(request)
        if status not in {200, 201}:
            raise CommandError(Exit.NO, f"a small object is answered with {status}: {answer[:300]!r}")
        took.append(time.perf_counter() - began)


async def _largest(bench: Bench) -> None:
    """Store an object of some GB, read it, and read ranges of it at random places."""
    size = bench.sizes.largest_bytes
    bench.narrator.step(f"an object of {size / MEGABYTE:,.0f} MB")
    stored = await bench.put("largest", size)
    bench.narrator.step("reading it")
    read = await bench.get("largest")
    bench.narrator.step(f"{bench.sizes.ranges} ranges of 1 MB in it")
    took: list[float] = []
    for _ in range(bench.sizes.ranges):
        start = secrets.randbelow(max(1, size - RANGE_BYTES))
        done = await bench.get("largest", f"{start}-{start + RANGE_BYTES - 1}")
        took.append(done.seconds)
    took.sort()
    bench.took["range"] = took
    bench.figures |= {
        "range_p50_ms": round(1000 * percentile(took, 0.50), 1),
        "range_p95_ms": round(1000 * percentile(took, 0.95), 1),
        "largest_put_mb_per_s": round(size / MEGABYTE / stored.seconds, 1),
        "largest_get_mb_per_s": round(size / MEGABYTE / read.seconds, 1),
        "largest_first_byte_ms": round(1000 * read.first_s, 1),
    }
