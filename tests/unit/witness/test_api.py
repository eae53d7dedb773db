"""Every answer that the specification names, over HTTP; and its own example, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs
from tests.unit.witness.world import LOG, NOW, ORIGIN, WITNESS, FailingMemory, History, key, witness

from salus.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner, time_of_cosignature
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import NoteSigner, sign_note
from salus.objects.memory import Fault
from salus.runtime import bodies, problems
from salus.runtime.bodies import guard_bodies
from salus.witness.api import Answers, CheckpointLane, install_witness, witness_routes
from salus.witness.domain import (
    REQUEST_BYTES_MAX,
    Request,
    UnknownLogError,
    authenticate,
    encode_request,
    parse_request,
)

TRUE, OTHER = History(), History("other")
MLDSA = CosignatureSigner(WITNESS.name, MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
# c2sp.org/tlog-witness, "Example request body".
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZ\
niMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62\
DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()


@dataclass
class Service:
    memory: FailingMemory
    http: httpx.AsyncClient

    async def ask(self, body: bytes) -> httpx.Response:
        return await self.http.post("/add-checkpoint", content=body)


def answers_of(memory: FailingMemory) -> Answers:
    return Answers(witness(memory, MLDSA), CollectorRegistry())


def app_of(memory: FailingMemory, *, lane: bool = True) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    guard_bodies(app, streams=())
    if lane:
        install_witness(app, answers_of(memory))
    else:
        app.include_router(witness_routes(answers_of(memory)))
    return app


@pytest.fixture(params=[False, True], ids=["app", "lane"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    memory = FailingMemory()
    transport = httpx.ASGITransport(app_of(memory, lane=request.param), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://witness") as http:
        yield Service(memory, http)


def test_the_example_of_the_specification_is_read_and_written_byte_for_byte() -> None:
    request = parse_request(EXAMPLE)

    assert (request.old_size, len(request.proof)) == (20852014, 4)
    assert encode_request(request) == EXAMPLE
    with pytest.raises(UnknownLogError):
        authenticate(request.note, {ORIGIN: [LOG.verifier]})


async def test_a_checkpoint_that_extends_the_last_is_cosigned_with_both_keys(service: Service) -> None:
    await service.ask(TRUE.request(0, 3))

    answer = await service.ask(TRUE.request(3, 7))

    assert answer.status_code == 200
    note = TRUE.note(7) + answer.content
    _, opened = open_checkpoint(note, LOG.verifier, [WITNESS.verifier, MLDSA.verifier])
    assert opened.verified == (ORIGIN, WITNESS.name, WITNESS.name)
    assert [time_of_cosignature(s.signature) for s in opened.signatures[1:]] == [NOW, NOW]
    assert opened.unverified == ()


async def test_the_same_checkpoint_is_cosigned_again(service: Service) -> None:
    await service.ask(TRUE.request(0, 3))

    assert (await service.ask(TRUE.request(3, 3))).status_code == 200


async def test_an_empty_log_may_be_cosigned_first(service: Service) -> None:
    assert (await service.ask(TRUE.request(0, 0))).status_code == 200
    assert (await service.ask(TRUE.request(0, 5))).status_code == 200


@pytest.mark.parametrize("old", [0, 2, 6])
async def test_another_old_size_is_a_409_with_the_size_and_nothing_else(service: Service, old: int) -> None:
    await service.ask(TRUE.request(0, 4))

    answer = await service.ask(TRUE.request(old, 7))

    assert (answer.status_code, answer.content) == (409, b"4\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"


async def test_a_log_never_seen_is_a_409_with_zero(service: Service) -> None:
    assert (await service.ask(TRUE.request(2, 7))).content == b"0\n"


GOOD = TRUE.request(3, 7)
MALFORMED = [
    b"",
    b"old 3",
    GOOD.replace(b"old 3", b"old 03"),
    GOOD.replace(b"old 3", b"old -1"),
    GOOD.replace(b"old 3", b"new 3"),
    GOOD.replace(b"old 3", b"old  3"),
    GOOD.replace(b"old 3\n", b"old 3\r\n"),
    GOOD.replace(b"old 3\n", b"old 3\nAAAA\n"),
    GOOD.replace(b"old 3\n", b"old 3\n" + (b"A" * 43 + b"=\n") * 64),
    GOOD.replace(b"\n7\n", b"\n07\n"),
    GOOD[:-1],
    GOOD.partition(b"\n\n")[0] + b"\n\n",
    encode_request(Request(0, (), sign_note(f"{ORIGIN}\n7\n", (LOG,)))),
    encode_request(Request(0, (), sign_note(f"{ORIGIN}\n0\nAAAA\n", (LOG,)))),
    # The old size is beyond the checkpoint's.
    encode_request(Request(8, (), TRUE.note(7))),
    b"old 0\n\n" + b"x" * REQUEST_BYTES_MAX,
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_what_is_not_in_the_one_form_is_a_400(service: Service, body: bytes) -> None:
    await service.ask(TRUE.request(0, 3))

    answer = await service.ask(body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def test_an_unknown_origin_is_a_404(service: Service) -> None:
    stranger = NoteSigner("elsewhere.test/log", key(9))
    note = sign_checkpoint(Checkpoint(stranger.name, 1, bytes(32)), (stranger,))

    answer = await service.ask(encode_request(Request(0, (), note)))

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-log")


IMPOSTOR = NoteSigner(ORIGIN, key(9))
WRONG = TRUE.note(8).rpartition(b"\n\n")[2]
UNTRUSTED = [
    sign_checkpoint(TRUE.checkpoint(7), (IMPOSTOR,)),
    sign_checkpoint(TRUE.checkpoint(7), (NoteSigner("witness.test/w1", key(2)),)),
    # A wrong signature by the trusted key: alone, and after a right one.
    sign_checkpoint(TRUE.checkpoint(7), (IMPOSTOR,)) + WRONG,
    TRUE.note(7) + WRONG,
]


@pytest.mark.parametrize("note", UNTRUSTED)
async def test_a_checkpoint_that_no_trusted_key_signed_rightly_is_a_403(
    service: Service, note: bytes
) -> None:
    answer = await service.ask(encode_request(Request(0, (), note)))

    assert (answer.status_code, answer.json()["code"]) == (403, "untrusted")


async def test_signatures_by_unknown_keys_are_ignored_and_not_shown_on(service: Service) -> None:
    note = sign_checkpoint(TRUE.checkpoint(7), (IMPOSTOR, LOG))

    assert (await service.ask(encode_request(Request(0, (), note)))).status_code == 200
    assert b"\n7\n" in service.memory.content[ORIGIN].note
    assert service.memory.content[ORIGIN].note.startswith(TRUE.note(7))


TWO_HISTORIES = [OTHER.request(3, 7), OTHER.request(3, 3)]
UNPROVEN = [
    encode_request(Request(3, (), TRUE.note(7))),
    encode_request(Request(3, TRUE.proof(2, 7), TRUE.note(7))),
    encode_request(Request(3, (*TRUE.proof(3, 7), bytes(32)), TRUE.note(7))),
    encode_request(Request(3, TRUE.proof(3, 7), OTHER.note(7))),
]


@pytest.mark.parametrize("body", TWO_HISTORIES)
async def test_a_tree_that_is_proven_not_to_extend_the_last_is_a_422_and_evidence(
    service: Service, body: bytes
) -> None:
    await service.ask(TRUE.request(0, 3))
    before = service.memory.content[ORIGIN]

    answer = await service.ask(body)

    assert (answer.status_code, answer.json()["code"]) == (422, "two-histories")
    assert service.memory.content[ORIGIN] == before
    assert service.memory.unproven == []
    ((cosigned, refused),) = service.memory.evidence
    assert cosigned == before.note
    assert (
        open_checkpoint(refused, LOG.verifier)[0]
        == open_checkpoint(parse_request(body).note, LOG.verifier)[0]
    )


# case F2
@pytest.mark.parametrize("body", UNPROVEN)
async def test_a_tree_that_is_not_proven_to_extend_the_last_is_a_422_and_no_evidence(
    service: Service, body: bytes
) -> None:
    await service.ask(TRUE.request(0, 3))
    before = service.memory.content[ORIGIN]

    with capture_logs() as logs:
        answer = await service.ask(body)

    assert (answer.status_code, answer.json()["code"]) == (422, "inconsistent")
    assert service.memory.content[ORIGIN] == before
    assert service.memory.evidence == []
    assert len(service.memory.unproven) == 1
    assert [line["log_level"] for line in logs if "without a proof" in line["event"]] == ["info"]


# case F2
async def test_the_last_checkpoint_with_an_invented_hash_is_a_422_and_is_not_kept(service: Service) -> None:
    await service.ask(TRUE.request(0, 3))

    answer = await service.ask(encode_request(Request(3, (bytes(32),), TRUE.note(3))))

    assert (answer.status_code, answer.json()["code"]) == (422, "inconsistent")
    assert (service.memory.evidence, service.memory.unproven) == ([], [])


async def test_a_proof_from_the_empty_tree_is_a_422(service: Service) -> None:
    answer = await service.ask(encode_request(Request(0, (bytes(32),), TRUE.note(7))))

    assert answer.status_code == 422


async def test_an_empty_tree_with_another_root_is_a_422(service: Service) -> None:
    right = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), (LOG,)).decode().partition("\n\n")[0] + "\n"
    wrong = "\n".join([*right.split("\n")[:2], "A" * 43 + "=", ""])

    answer = await service.ask(encode_request(Request(0, (), sign_note(wrong, (LOG,)))))

    assert answer.status_code == 422
    assert service.memory.content == {}


async def test_a_cosignature_whose_remembering_failed_is_not_let_out(service: Service) -> None:
    for fault in (Fault.LOST, Fault.LATE):
        service.memory._faults = iter([fault])

        answer = await service.ask(TRUE.request(0, 3))

        assert (answer.status_code, answer.json()["code"]) == (503, "memory-away")
        assert WITNESS.name not in answer.text
    # It was remembered after all, so the log is told and goes on from there.
    assert (await service.ask(TRUE.request(0, 3))).content == b"3\n"
    assert (await service.ask(TRUE.request(3, 3))).status_code == 200


async def test_monitors_get_the_last_checkpoint_with_the_log_s_and_our_signatures(service: Service) -> None:
    path = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    assert (await service.http.get(path)).status_code == 404
    await service.ask(TRUE.request(0, 3))

    answer = await service.http.get(path)

    checkpoint, opened = open_checkpoint(answer.content, LOG.verifier, [WITNESS.verifier, MLDSA.verifier])
    assert (checkpoint.size, len(opened.signatures)) == (3, 3)
    assert (await service.http.get(f"/{'0' * 64}/checkpoint")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "by_the_app"),
    [
        ("POST", "/add-checkpoint", False),
        ("GET", "/add-checkpoint", True),
        ("POST", "/add-checkpoint/", True),
        ("GET", "/healthz", True),
    ],
)
async def test_the_lane_answers_add_checkpoint_and_leaves_the_rest_to_the_app(
    method: str,
    path: str,
    by_the_app: bool,  # noqa: FBT001  # parametrised
) -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # an ASGI application
        asked.append(scope["path"])

    lane = CheckpointLane(app, answers=answers_of(FailingMemory()))
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    await lane(scope, once({"type": "http.request", "body": TRUE.request(0, 3)}), ignore)

    assert asked == [path] * by_the_app


# redA6: 900 bodies that nobody ended were held, 790 MB of them, by whoever reached a witness.
async def test_a_body_that_does_not_end_is_ended(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S_MAX", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield TRUE.request(0, 3)
        await asyncio.Event().wait()

    answer = await service.http.post("/add-checkpoint", content=endless())

    assert (answer.status_code, answer.json()["code"]) == (408, "too-slow")
    assert service.memory.content == {}


async def test_a_request_that_breaks_off_is_not_answered_and_nothing_is_cosigned() -> None:
    memory = FailingMemory()
    lane = app_of(memory)
    scope = {"type": "http", "method": "POST", "path": "/add-checkpoint", "headers": []}
    half = {"type": "http.request", "body": TRUE.request(0, 3), "more_body": True}

    async def refuse(message: Message) -> None:
        pytest.fail(f"answered {message}")

    await lane(scope, once(half, {"type": "http.disconnect"}), refuse)

    assert memory.content == {}


def once(*messages: Message) -> Receive:
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


async def ignore(message: Message) -> None:
    pass
