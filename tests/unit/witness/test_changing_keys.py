"""Keys change over beneath a witness: the log's, which it trusts, and its own."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from tests.unit.witness.world import LOG, NOW, ORIGIN, WITNESS, FailingMemory, History, key

from salus.crypto.errors import KmsAwayError, KmsUnusableError
from salus.ledger.checkpoint import sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import KeyTextError
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.note import NoteSigner, encode_vkey, split_note
from salus.runtime import problems
from salus.witness.adapters.following import FollowedFiles
from salus.witness.api import Answers, witness_routes
from salus.witness.domain import Request, UntrustedError, authenticate, encode_request
from salus.witness.handlers import Witness
from salus.witness.settings import read_logs

TRUE = History()
NEW_LOG = NoteSigner(ORIGIN, key(11))
NEW_WITNESS = CosignatureSigner(WITNESS.name, key(12))
CHANGED = KeyHistory(ORIGIN, (KeyPeriod(LOG.verifier, 0, 4), KeyPeriod(NEW_LOG.verifier, 3)))


@pytest.fixture
def witness() -> Witness:
    return Witness({ORIGIN: [LOG.verifier]}, [WITNESS], FailingMemory(), seconds=lambda: NOW)


def request(old: int, size: int, *signers: NoteSigner) -> bytes:
    return encode_request(
        Request(old, TRUE.proof(old, size), sign_checkpoint(TRUE.checkpoint(size), signers))
    )


@pytest.mark.parametrize(
    ("size", "signer", "trusted"),
    [
        (2, LOG, True),
        (3, LOG, True),
        (4, LOG, False),
        (2, NEW_LOG, False),
        (3, NEW_LOG, True),
        (9, NEW_LOG, True),
    ],
)
def test_a_logs_key_is_trusted_in_its_period(size: int, signer: NoteSigner, trusted: bool) -> None:  # noqa: FBT001
    note = sign_checkpoint(TRUE.checkpoint(size), [signer])

    if trusted:
        assert authenticate(note, {ORIGIN: [CHANGED]}).checkpoint.size == size
    else:
        with pytest.raises(UntrustedError):
            authenticate(note, {ORIGIN: [CHANGED]})


async def test_a_witness_goes_on_with_new_keys_from_what_it_remembers(witness: Witness) -> None:
    await witness.add_checkpoint(request(0, 3, LOG))
    with pytest.raises(UntrustedError):
        await witness.add_checkpoint(request(3, 5, NEW_LOG))
    witness.go_by({ORIGIN: [CHANGED]}, [WITNESS, NEW_WITNESS])
    lines = await witness.add_checkpoint(request(3, 5, NEW_LOG))

    _, signatures = split_note(sign_checkpoint(TRUE.checkpoint(5), [NEW_LOG]) + lines)
    assert {s.key_id for s in signatures[1:]} == {WITNESS.verifier.key_id, NEW_WITNESS.verifier.key_id}


async def test_files_that_cannot_be_read_change_nothing() -> None:
    gone_by: list[str] = []
    troubled = False

    def read_signers() -> list[CosignatureSigner]:
        if troubled:
            raise KmsAwayError("the token does not serve")
        return [WITNESS]

    files = FollowedFiles(dict, read_signers, lambda _, signers: gone_by.extend(s.name for s in signers))
    await files.look()
    troubled = True
    await files.look()

    assert gone_by == [WITNESS.name]


def test_the_logs_of_a_network_file_bring_their_periods(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    keys = [{"verifier_key": LOG.vkey, "until": 4}, {"verifier_key": NEW_LOG.vkey, "from": 3}]
    file.write_text(json.dumps({"log": {"origin": ORIGIN, "verifier_key": NEW_LOG.vkey, "keys": keys}}))
    trusted = read_logs(file)

    assert authenticate(sign_checkpoint(TRUE.checkpoint(3), [LOG]), trusted)
    with pytest.raises(UntrustedError):
        authenticate(sign_checkpoint(TRUE.checkpoint(4), [LOG]), trusted)
    file.write_text(json.dumps([{"origin": ORIGIN, "verifier_key": LOG.vkey, "keys": keys[1:]}]))
    with pytest.raises(ValueError, match="not among its keys"):
        read_logs(file)


@pytest.mark.parametrize("algorithm", [0x01, 0x04])
def test_a_witness_watches_no_log_whose_key_anybody_has(tmp_path: Path, algorithm: int) -> None:
    """Case SEC11."""
    file = tmp_path / "logs.json"
    weak = encode_vkey(ORIGIN, algorithm, bytes([1, *bytes(31)]))
    file.write_text(json.dumps([{"origin": ORIGIN, "verifier_key": weak}]))

    with pytest.raises((ValueError, KeyTextError), match="holds its owner"):
        read_logs(file)


@pytest.mark.parametrize(
    "failure", [KmsAwayError("does not serve"), KmsUnusableError("PinIncorrect")], ids=repr
)
async def test_a_key_that_does_not_answer_is_a_503(failure: Exception) -> None:
    class Away:
        def public_key(self) -> object:
            return key(2).public_key()

        def sign(self, _: bytes) -> bytes:
            raise failure

    memory = FailingMemory()
    signer = CosignatureSigner(WITNESS.name, Away())  # type: ignore[arg-type]  # enough of a key to fail
    witness = Witness({ORIGIN: [LOG.verifier]}, [signer], memory, seconds=lambda: NOW)
    app = FastAPI()
    problems.install(app)
    app.include_router(witness_routes(Answers(witness, CollectorRegistry())))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://witness") as http:
        answer = await http.post("/add-checkpoint", content=request(0, 3, LOG))

    assert (answer.status_code, answer.json()["code"]) == (503, "key-away")
    assert await memory.last(ORIGIN) is None
