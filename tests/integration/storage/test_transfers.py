"""Transfers against real Kafka and MinIO: swaps, races, rights that end, headers, and our own key revoked."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from tests.asking import UNASKED, truly_asked

from salus.client.pseudonyms import new_nonce
from salus.crypto.keys import ensure_ed25519
from salus.crypto.sealed_object import new_object
from salus.crypto.sealing import SUITE, seal
from salus.events.contexts.identity import KeyRevoked, MemberSuspended
from salus.events.contexts.lab import ResultReleased
from salus.events.contexts.storage import (
    ObjectRead,
    ObjectStored,
    ReadBrokenOff,
    ReadRefused,
    SealedOpened,
    SubjectErased,
)
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.fields import Sealed
from salus.events.sealing_context import sealing_context
from salus.ledger.merkle import leaf_hash
from salus.objects import S3Objects, refuse_stray
from salus.storage.handlers.outgoing import BrokenOffError
from salus.storage.handlers.sealed_upload import SealedUpload

from .conftest import World

MIB = 1024 * 1024


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def revoke_key(world: World, signer: LocalSigner, *, version: int = 1) -> None:
    """Let the operator revoke the key of a party."""
    revoked = KeyRevoked(
        did=signer.did, key_id=signer.verification_method, reason="compromised", request=UNASKED
    )
    asked = truly_asked(revoked, world.folder.signer("operator"), at=datetime.now(UTC))
    await world.identity.publish(asked, subject=signer.did, expected_version=version)


async def suspend(world: World, signer: LocalSigner, *, version: int = 1) -> None:
    """Let the operator suspend a member, of which nothing but its registration was said before."""
    suspended = MemberSuspended(did=signer.did, reason="inquiry", request=UNASKED)
    asked = truly_asked(suspended, world.folder.signer("operator"), at=datetime.now(UTC))
    await world.identity.publish(asked, subject=signer.did, expected_version=version)


@pytest.mark.parametrize("request_number", [0, 1, 2])
async def test_an_object_swapped_during_a_read_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, request_number: int
) -> None:
    """Case SEC5: who can write to the bucket put one there that he had sealed to the patient's public key."""
    patient = await world.patient()
    name = await world.store(patient, b"true " * MIB)
    key = (await world.client.get(f"/subjects/{patient}/key")).json()
    header, cipher = new_object(
        object=name, patient=patient, public_key=b64decode(key["public_key"]), key=key["key"]
    )
    upload = SealedUpload(header, cipher)
    forged = b"".join([part async for part in upload.parts(_once(b"false" * MIB))]) + upload.index()
    original, requests = S3Objects.stream, iter(range(1000))

    async def swapped_meanwhile(
        store: S3Objects, location: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        if next(requests) == request_number:
            await world.bucket(world.settings.objects_bucket).put(location, forged)
        async for piece in original(store, location, start=start, end=end):
            yield piece

    monkeypatch.setattr(S3Objects, "stream", swapped_meanwhile)
    answer = await world.read(name, patient)

    assert code(answer) == (502, "object-corrupt")
    last = (await world.told(patient))[-1]
    assert isinstance(last, ReadRefused)
    assert last.reason == "object-corrupt"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.parametrize("headers", [{}, {"Range": f"bytes=5-{7 * MIB}"}], ids=["all", "range"])
@pytest.mark.parametrize("ending", ["revocation", "erasure", "key", "suspension"])
async def test_a_read_is_broken_off_when_its_right_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, ending: str, headers: dict[str, str]
) -> None:
    """Case SEC7: a slow download went on to its end after revocation, key revocation and erasure."""
    await world.stop()
    await world.start(recheck_s=0)
    patient = await world.patient()
    name = await world.store(patient, bytes(8 * MIB))
    doctor, hospital = world.people["doctor"], world.people["hospital"]
    ends = {
        "revocation": "decision-outdated",
        "erasure": "subject-erased",
        "key": "key-revoked",
        "suspension": "member-suspended",
    }
    original, requests = S3Objects.stream, iter(range(3))

    async def ended_meanwhile(
        store: S3Objects, location: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        sending = next(requests) == 2
        async for number, piece in _numbered(original(store, location, start=start, end=end)):
            if sending and number == 4:
                match ending:
                    case "revocation":
                        await world.revoke(patient, epoch=1)
                    case "erasure":
                        url, body = f"/subjects/{patient}/key", {"basis": "gdpr-art-17"}
                        await world.client.request("DELETE", url, json=body, auth=hospital.signing())
                    case "suspension":
                        await suspend(world, hospital.signer)
                    case _:
                        await revoke_key(world, doctor.signer)
            yield piece

    monkeypatch.setattr(S3Objects, "stream", ended_meanwhile)
    with pytest.raises(BrokenOffError, match=ends[ending]):
        await world.read(name, patient, headers=headers)

    told = await world.told(patient)
    assert isinstance(told[-1], ReadBrokenOff)
    assert told[-1].reason == ends[ending]
    assert 0 < told[-1].sent_bytes < 8 * MIB
    assert told[-1].decision == next(event.decision for event in told if isinstance(event, ObjectRead))


async def _numbered(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    async for piece in pieces:
        yield number, piece
        number += 1


@pytest.mark.parametrize("end", ["revocation", "erasure", "key", "suspension"])
async def test_an_upload_begun_before_its_right_ended_is_not_stored(world: World, end: str) -> None:
    patient = await world.patient()
    laboratory, hospital = world.people["laboratory"], world.people["hospital"]
    name = str(uuid4())

    async def body() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        match end:
            case "revocation":
                await world.revoke(patient, epoch=1)
            case "erasure":
                url, body = f"/subjects/{patient}/key", {"basis": "gdpr-art-17"}
                await world.client.request("DELETE", url, json=body, auth=hospital.signing())
            case "suspension":
                await suspend(world, laboratory.signer)
            case _:
                await revoke_key(world, laboratory.signer)
        yield bytes(MIB)

    answer = await world.client.put(
        f"/objects/{name}",
        params={"patient": patient},
        content=body(),
        headers={"Salus-Decision": world.token(sub=laboratory.did, obj=name, pat=patient, act="write")},
        auth=laboratory.signing(stream=True),
    )

    expected = {
        "revocation": (403, "decision-outdated"),
        "erasure": (410, "subject-erased"),
        "suspension": (403, "member-suspended"),
    }
    assert code(answer) == expected.get(end, (403, "key-revoked"))
    assert not any(isinstance(event, ObjectStored) for event in await world.told(patient))
    objects = world.bucket(world.settings.objects_bucket)
    assert [entry async for entry in objects.list(name, on_stray=refuse_stray)] == []


async def test_the_same_upload_eight_times_at_once_is_one_object_and_no_conflict(world: World) -> None:
    """Case S3: one 201, seven 409."""
    patient = await world.patient()
    hospital = world.people["hospital"]

    async def put(content: bytes, kind: str = "text/plain") -> httpx.Response:
        return await world.client.put(
            "/objects/twin-1",
            params={"patient": patient},
            content=content,
            headers={"Content-Type": kind},
            auth=hospital.signing(),
        )

    answers = await asyncio.gather(*(put(b"same") for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["commitment"] for answer in answers}) == 1
    objects = world.bucket(world.settings.objects_bucket)
    assert len([entry async for entry in objects.list("twin-1", on_stray=refuse_stray)]) == 1
    assert code(await put(b"same", "text/html")) == (409, "object-exists")
    assert code(await put(b"other")) == (409, "object-exists")


async def test_a_token_that_stands_on_the_topic_answers_nobody_after_a_restart(world: World) -> None:
    """The red team: with an upload's token from the topic another replica compared guesses."""
    patient = await world.patient()
    query = {"patient": patient}
    signed = world.client.build_request("PUT", "/objects/o-1", params=query, content=b"content")
    next(world.people["hospital"].signing(stream=True).auth_flow(signed))
    token = {"Authorization": signed.headers["Authorization"]}

    async def put(content: bytes) -> httpx.Response:
        return await world.client.put("/objects/o-1", params=query, content=content, headers=token)

    first = await put(b"content")
    told = await world.told(patient)
    await world.stop()
    await world.start()

    assert first.status_code == 201, first.text
    for guess in (b"content", b"a guess"):
        assert code(await put(guess)) == (401, "token-used")
    assert await world.told(patient) == told


async def test_a_body_under_another_digest_is_refused(world: World) -> None:
    patient = await world.patient()
    hospital = world.people["hospital"]
    request = world.client.build_request(
        "PUT", "/objects/o-1", params={"patient": patient}, content=b"signed"
    )
    next(hospital.signing().auth_flow(request))
    altered = httpx.Request(
        "PUT", request.url, content=b"edited", headers={"Authorization": request.headers["Authorization"]}
    )

    assert code(await world.client.send(altered)) == (422, "digest-mismatch")


async def test_a_text_document_comes_back_with_its_own_type(world: World) -> None:
    """Case S1."""
    patient = await world.patient()
    await world.client.put(
        "/objects/cda",
        params={"patient": patient},
        content='<?xml version="1.0" encoding="ISO-8859-1"?><x>Müßiggänger</x>'.encode("latin-1"),
        headers={"Content-Type": "text/xml"},
        auth=world.people["hospital"].signing(),
    )

    assert (await world.read("cda", patient)).headers["content-type"] == "text/xml"


async def require_nothing_is_done(world: World, patient: str, name: str, reason: str) -> None:
    before = await world.told(patient)
    hospital, url = world.people["hospital"], f"/subjects/{patient}/key"
    read = await world.read(name, patient)
    erased = await world.client.request("DELETE", url, json={"basis": "gdpr-art-17"}, auth=hospital.signing())
    put = await world.client.put(
        "/objects/new", params={"patient": patient}, content=b"new", auth=hospital.signing()
    )
    registered = await world.client.post("/subjects", json={"nonce": new_nonce()}, auth=hospital.signing())
    ready = await world.client.get("/readyz")
    objects = world.bucket(world.settings.objects_bucket)
    keys = world.bucket(world.settings.keys_bucket)

    for answer in (read, erased, put, registered):
        assert code(answer) == (503, "service-key-invalid")
        assert reason in answer.json()["detail"]
    assert b"content" not in read.content
    assert await world.told(patient) == before
    assert not any(isinstance(event, SubjectErased) for event in before)
    assert len([entry async for entry in keys.list("subjects", on_stray=refuse_stray)]) == 1
    assert len([entry async for entry in objects.list(on_stray=refuse_stray)]) == 1
    assert ready.status_code == 503
    assert "service-key-invalid" in ready.json()["checks"]["signing-key"]


async def test_a_service_whose_key_is_revoked_shows_nothing_and_does_nothing(world: World) -> None:
    """Cases SEC1, F4: every read still gave the content, an erasure destroyed the key, /readyz was green."""
    patient = await world.patient()
    name = await world.store(patient, b"content")
    assert (await world.read(name, patient)).content == b"content"

    await revoke_key(world, world.folder.signer("storage"))

    await require_nothing_is_done(world, patient, name, "key-revoked")


async def test_a_service_whose_key_nobody_knows_shows_nothing_and_does_nothing(world: World) -> None:
    """Cases SEC1, F4: the same after a lost identity topic, by unknown-key."""
    patient = await world.patient()
    name = await world.store(patient, b"content")
    await world.stop()
    stranger = world.settings.signing_key_file.with_name("stranger.pem")
    ensure_ed25519(stranger)
    await world.start(signing_key_file=stranger, kms=str(world.folder.folder / "keys" / "kms"))

    await require_nothing_is_done(world, patient, name, "unknown-key")


async def test_a_sealed_field_is_opened_for_the_holder_of_a_decision_and_that_is_on_the_topic(
    world: World,
) -> None:
    """Case SEC9: what is properly sealed could be opened by no API."""
    patient = await world.patient()
    doctor, laboratory = world.people["doctor"], world.people["laboratory"]
    key = (await world.client.get(f"/subjects/{patient}/key")).json()
    sealed = seal(
        b"a finding",
        public_key=b64decode(key["public_key"]),
        key=key["key"],
        context=sealing_context(ResultReleased, source=laboratory.did, id="result-1"),
    )
    content = Sealed(SUITE, sealed.key, sealed.ciphertext)
    value = encode_event(
        ResultReleased(patient=patient, report="r", content=content),
        id="result-1",
        source=laboratory.did,
        subject=patient,
        time=datetime.now(UTC),
    )

    async def opened(**claims: object) -> httpx.Response:
        token = world.token(**{"sub": doctor.did, "obj": "result-1", "pat": patient, **claims})
        return await world.client.post(
            "/sealed/open",
            params={"patient": patient, "source": laboratory.did, "id": "result-1", "field": "content"},
            content=value,
            headers={"Salus-Decision": token, "Content-Type": "application/cloudevents+json"},
            auth=doctor.signing(),
        )

    answer = await opened()
    refused = await opened(obj="result-2")

    assert (answer.status_code, answer.content) == (200, b"a finding"), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert code(refused) == (403, "wrong-object")
    *_, told, told_refused = await world.told(patient)
    assert isinstance(told, SealedOpened)
    assert (told.event, told.reader, told.digest) == ("result-1", doctor.did, leaf_hash(value).hex())
    assert isinstance(told_refused, ReadRefused)
    assert (told_refused.object, told_refused.reason) == ("result-1", "wrong-object")


async def test_refused_reads_are_limited(world: World) -> None:
    await world.stop()
    await world.start(refused_reads_burst_max=2, refused_reads_per_minute_max=1)
    patient = await world.patient()
    name = await world.store(patient, b"content")
    answers = [await world.read(name, patient, act="write") for _ in range(3)]

    assert [code(answer)[0] for answer in answers] == [403, 403, 429]
    assert sum(isinstance(event, ReadRefused) for event in await world.told(patient)) == 2
