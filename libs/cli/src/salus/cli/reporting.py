"""What `salus status` says, as one JSON document."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec

from salus.cli.callers import ANSWER_BYTES_MAX
from salus.cli.exits import CommandError
from salus.cli.network_access import NetworkAccess
from salus.cli.service_admission import admission_of
from salus.cli.service_answers import read_answer
from salus.client.bounded_http import bounded_client
from salus.devkit.minio_server import is_ready
from salus.devkit.platform import Platform
from salus.messaging import Bootstrap, MessagingError, ping
from salus.runtime.halt import halt_in

ANSWER_S_MAX = 8.0


class _Anchored(msgspec.Struct, frozen=True):
    damaged: int


async def describe(platform: Platform, *, show_secrets: bool = False) -> dict[str, Any]:
    """Return where everything is and whether it is ready; secrets only for who asks for them."""
    kafka_ready, s3_ready, ready, damaged, stopped = await asyncio.gather(
        _kafka_answers(platform.kafka_bootstrap),
        is_ready(platform.s3.endpoint),
        platform.ready(),
        _damaged(platform),
        joined_and_stopped(platform),
    )
    network = platform.network.read()
    s3 = platform.s3
    services = {
        name: {
            "url": service.url,
            "ready": ready[name][0],
            "why": ready[name][1],
            "halted": halt_in(ready[name][1]),
            "pid": service.process.pid,
            "log": service.process.log,
        }
        for name, service in sorted(platform.services.items())
    }
    anchoring = services.get("anchoring")
    return {
        "running": True,
        "ready": kafka_ready and s3_ready and not stopped and all(one["ready"] for one in services.values()),
        "state": str(platform.state.folder),
        "network": str(platform.network.file),
        "parts": platform.kind,
        "kafka": {"bootstrap": str(platform.kafka_bootstrap), "ready": kafka_ready},
        "s3": {
            "endpoint": s3.endpoint,
            "access_key": s3.access_key,
            **({"secret_key": s3.secret_key} if show_secrets else {}),
            "region": s3.region,
            "ready": s3_ready,
        },
        "services": services,
        "stopped": stopped,
        "damaged": damaged,
        "log": {"url": f"{anchoring['url']}/log" if anchoring else None, **network["log"]},
    }


async def joined_and_stopped(platform: Platform) -> list[str]:
    """Return the installed services that joined the network and do not run.

    None while identity does not answer, which is then not ready itself.
    """
    if "identity" not in platform.services:
        return []
    network = NetworkAccess(platform.network, platform.service_url("identity"))
    absent = [one for one in platform.network.new_services() if one.name not in platform.services]
    try:
        admissions = [await admission_of(manifest, network) for manifest in absent]
    except CommandError:
        return []
    return [one.name for one in admissions if one.is_complete]


async def _kafka_answers(bootstrap: Bootstrap) -> bool:
    try:
        await ping(bootstrap)
    except MessagingError:
        return False
    return True


async def _damaged(platform: Platform) -> int | None:
    """Return how many objects of the archive anchoring found damaged; None while it does not say."""
    if "anchoring" not in platform.services:
        return None
    try:
        async with bounded_client(ANSWER_BYTES_MAX, trust_env=False, timeout=ANSWER_S_MAX) as client:
            answer = await client.get(f"{platform.service_url('anchoring')}/status")
    except httpx.TransportError:
        return None
    return read_answer("anchoring", answer.content, _Anchored).damaged if answer.is_success else None
