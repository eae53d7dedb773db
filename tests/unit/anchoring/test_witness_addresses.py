"""Anchoring knows where the witnesses of the policy are, or says at its start whom it cannot reach."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Event

import pytest
from pydantic import SecretStr
from tests.unit.anchoring.test_cosigning import SIGNERS
from tests.unit.anchoring.world import LOG_SIGNER

from salus.anchoring.__main__ import open_cosigning
from salus.anchoring.adapters.witnesses import HttpWitness
from salus.anchoring.cosigning import Cosigning
from salus.anchoring.ports import WitnessError
from salus.anchoring.settings import Settings
from salus.archive.log import LogReader
from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.quorum import Quorum
from salus.ledger.tlog_policy import TlogPolicy
from salus.objects.memory import MemoryObjects

URLS = [f"https://witness-{n}.example" for n in range(3)]
NAMES = [signer.name for signer in SIGNERS]

Open = Callable[..., Cosigning | None]


@pytest.fixture
def cosigning(tmp_path: Path) -> Open:
    """Open the cosigning of a network with a quorum, with what the operator says of addresses."""

    def opened(quorum: Quorum, told: dict[str, str] | None = None) -> Cosigning | None:
        file = tmp_path / "network.json"
        network = {
            "log": {"origin": LOG_SIGNER.name, "verifier_key": LOG_SIGNER.vkey},
            "shards": [],
            "policy": TlogPolicy((), quorum).lines(),
        }
        file.write_text(json.dumps(network))
        settings = Settings(
            http_port=8080,
            kafka_bootstrap="kafka:9092",
            network_file=file,
            signing_key_file=file,
            s3_endpoint="http://s3",
            s3_access_key="",
            s3_secret_key=SecretStr(""),
            witnesses=told or {},
            SALUS_NOTE_KEY=str(file),
        )
        return open_cosigning(settings, LogReader(MemoryObjects()), AsyncExitStack())

    return opened


def _verifiers(count: int = 3) -> list[CosignatureVerifier]:
    return [signer.verifier for signer in SIGNERS[:count]]


def test_the_policy_says_where_the_witnesses_are(cosigning: Open) -> None:
    opened = cosigning(Quorum.of(2, _verifiers(), urls=URLS))

    assert opened is not None
    assert set(opened.answers) == set(NAMES)


def test_the_operator_may_know_another_way_to_a_witness(cosigning: Open) -> None:
    opened = cosigning(Quorum.of(2, _verifiers(2)), dict(zip(NAMES[:2], URLS[:2], strict=True)))

    assert opened is not None
    assert set(opened.answers) == set(NAMES[:2])


def test_witnesses_without_an_address_that_leave_no_quorum_stop_the_start(cosigning: Open) -> None:
    with pytest.raises(ValueError, match=r"can never be met.*witnesses has 1 of 2, without .*/1, .*/2"):
        cosigning(Quorum.of(2, _verifiers()), {NAMES[0]: URLS[0]})


def test_an_address_of_somebody_without_a_key_stops_the_start(cosigning: Open) -> None:
    with pytest.raises(ValueError, match=r"of which network\.json has no key"):
        cosigning(Quorum.of(1, _verifiers(1)), dict(zip(NAMES[:2], URLS[:2], strict=True)))


def test_nobody_is_asked_where_nobody_has_to_cosign_and_nobody_is_known(cosigning: Open) -> None:
    assert cosigning(Quorum()) is None


async def test_a_name_server_that_does_not_answer_takes_no_thread_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever runs a witness runs its name server, and all threads of anchoring waited for its answers."""
    asked, answering = [], Event()

    def silent(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        answering.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    witness = HttpWitness("https://w.example/")
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(witness.add_checkpoint(0, [], b"note\n"), timeout=0.01)

        assert await asyncio.wait_for(asyncio.to_thread(lambda: "signed"), timeout=10) == "signed"
        assert asked == ["w.example"]
    finally:
        answering.set()
    with pytest.raises(WitnessError, match="does not answer"):
        await witness.add_checkpoint(0, [], b"note\n")
