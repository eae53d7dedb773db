"""Root keys in the transit engine of a real OpenBao (issue 15, section 2)."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry import trace
from prometheus_client import REGISTRY
from tests.integration.openbao import DEADLINE_S, ROTATION_MAY, STORAGE_MAY, OpenBao
from tests.kms_promises import KEY, require_binding, require_rotation

from salus.client.pseudonyms import new_nonce
from salus.crypto.errors import KmsAwayError, KmsUnusableError, UnwrapError
from salus.crypto.key_cache import KeyCache
from salus.crypto.sealed_object import FORMAT, header_in, parse_header
from salus.crypto.sealing import unseal
from salus.devkit.waiting import until
from salus.events.contexts.storage import ObjectStored, SubjectErased, SubjectKeyDestroyed, SubjectRegistered
from salus.messaging import Reader, Record
from salus.objects import S3Objects, refuse_stray
from salus.storage.adapters.metered_kms import MeteredKms
from salus.storage.adapters.transit_kms import TransitKms
from salus.storage.adapters.vault import FOLDER
from salus.storage.kms_places import TransitPlace, kms_place
from salus.storage.rotate import rotate

from .conftest import World
from .test_storage import code


@asynccontextmanager
async def opened(uri: str) -> AsyncIterator[TransitKms]:
    place = kms_place(uri)
    assert isinstance(place, TransitPlace)
    kms = TransitKms(place)
    try:
        yield kms
    finally:
        await kms.close()


async def test_openbao_keeps_what_every_kms_promises(openbao: OpenBao, tmp_path: Path) -> None:
    uri = await openbao.role(await openbao.new_key(), tmp_path, may=ROTATION_MAY)

    async with opened(uri) as kms:
        await require_binding(kms)
        await require_rotation(kms)


async def test_what_another_engine_wrapped_under_the_same_name_is_not_taken_for_its_own(
    openbao: OpenBao, tmp_path: Path
) -> None:
    """A KMS that takes over from another learns so which keys to wrap anew."""
    keys = [await openbao.new_key() for _ in range(2)]
    uris = [await openbao.role(key, tmp_path) for key in keys]
    async with opened(uris[0]) as other, opened(uris[1]) as kms:
        wrapped = await other.wrap(KEY, context="c")
        of_that_name = wrapped.replace(keys[0].encode(), keys[1].encode())
        with pytest.raises(UnwrapError):
            await kms.rewrap(of_that_name, context="c")


async def test_a_key_that_would_not_bind_or_could_be_taken_out_is_refused(
    openbao: OpenBao, tmp_path: Path
) -> None:
    for wrong in ({"derived": False}, {"exportable": True}, {"convergent_encryption": True}):
        async with opened(await openbao.role(await openbao.new_key(**wrong), tmp_path)) as kms:
            with pytest.raises(KmsUnusableError, match="has to be derived"):
                await kms.wrap(KEY, context="c")
    async with opened(await openbao.role("nobody-made-it", tmp_path)) as kms:
        with pytest.raises(KmsUnusableError, match="has no key nobody-made-it"):
            await kms.wrap(KEY, context="c")


async def test_what_storage_may_not_do_there_is_said(openbao: OpenBao, tmp_path: Path) -> None:
    key = await openbao.new_key()
    async with opened(await openbao.role(key, tmp_path)) as kms:
        await kms.wrap(KEY, context="c")
        with pytest.raises(KmsUnusableError, match="denies POST transit/keys/"):
            await kms.rotate()
    async with opened(await openbao.role(key, tmp_path)) as kms:
        for secret in files_in(tmp_path, suffix=".secret"):
            secret.write_text("of-nobody\n")
        with pytest.raises(KmsUnusableError, match="refuses our login"):
            await kms.wrap(KEY, context="c")


async def test_a_token_that_an_agent_renews_is_read_again_when_it_is_refused(
    openbao: OpenBao, tmp_path: Path
) -> None:
    key = await openbao.new_key()
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(await openbao.token(key))
    async with opened(
        f"transit:{openbao.address}/transit/{key}?token-source=file:{file}&ca={openbao.ca}"
    ) as kms:
        wrapped = await kms.wrap(KEY, context="c")
        old = file.read_text()
        file.write_text(await openbao.token(key))
        await openbao.asked("POST", "auth/token/revoke", token=old)

        assert await kms.unwrap(wrapped, context="c") == KEY


async def test_a_server_that_another_authority_signed_is_not_asked(openbao: OpenBao, tmp_path: Path) -> None:
    uri = await openbao.role(await openbao.new_key(), tmp_path)
    async with opened(uri.replace(f"&ca={openbao.ca}", "")) as kms:
        with pytest.raises(KmsAwayError, match="ConnectError"):
            await kms.wrap(KEY, context="c")


async def test_the_audit_log_of_openbao_names_the_request_that_used_a_key(
    openbao: OpenBao, tmp_path: Path
) -> None:
    context = trace.SpanContext(0xABCDEF0123456789 << 64 | 7, 9, is_remote=False)
    async with opened(await openbao.role(await openbao.new_key(), tmp_path)) as kms:
        wrapped = await kms.wrap(KEY, context="c")
        with trace.use_span(trace.NonRecordingSpan(context)):
            await kms.unwrap(wrapped, context="c")

    used = [json.loads(line) for line in openbao.audit_log.read_text().splitlines()]
    paths = {
        one["request"]["path"].rpartition("/")[0]
        for one in used
        if f"{context.trace_id:032x}" in str(one["request"].get("headers"))
    }
    assert paths == {"transit/decrypt"}


@pytest.fixture
async def serving(openbao: OpenBao) -> AsyncIterator[None]:
    """Whatever comes of a test, the server answers the next one."""
    yield
    openbao.go_on()
    await openbao.unseal()


@pytest.mark.usefixtures("serving")
async def test_a_use_that_is_cut_off_leaves_no_connection_behind(openbao: OpenBao, tmp_path: Path) -> None:
    async with opened(await openbao.role(await openbao.new_key(), tmp_path)) as kms:
        metered = MeteredKms(kms, KeyCache(0, clock=time.monotonic), deadline_s=0.05)
        openbao.pause()
        for _ in range(3):
            with pytest.raises(KmsAwayError, match="has not answered within"):
                await metered.wrap(KEY, context="c")
        openbao.go_on()
        # The fixture `nothing_left_open` fails the test if a socket is.


@pytest.mark.usefixtures("serving")
async def test_a_kms_that_is_away_or_slow_leaves_nothing_half_done(
    world: World, openbao: OpenBao, tmp_path: Path
) -> None:
    """No read is recorded, no patient registered; storing and erasing go on: they need no root key."""
    await world.stop()
    uri = await openbao.role(await openbao.new_key(), tmp_path)
    await world.start(kms=uri, kms_cache_s=0)
    patient = await world.patient()
    name = await world.store(patient, b"content")

    async def require_kms_unavailable() -> None:
        assert code(await world.read(name, patient)) == (503, "kms-unavailable")
        registering = await world.client.post(
            "/subjects", json={"nonce": new_nonce()}, auth=world.people["hospital"].signing()
        )
        assert code(registering) == (503, "kms-unavailable")
        ready = await world.client.get("/readyz")
        assert ready.status_code == 503
        assert [part for part, says in ready.json()["checks"].items() if not says.startswith("ok")] == ["kms"]

    await openbao.seal()
    await require_kms_unavailable()
    other = await world.store(patient, b"stored while the KMS is sealed")
    await openbao.unseal()
    openbao.pause()
    await require_kms_unavailable()
    told = [type(event) for event in await world.told(patient)]
    openbao.go_on()
    read = await world.read(other, patient)

    assert told == [SubjectRegistered, ObjectStored, ObjectStored]
    assert read.content == b"stored while the KMS is sealed"
    openbao.pause()
    officer = world.people["officer"]
    erased = await world.client.request(
        "DELETE", f"/subjects/{patient}/key", json={"basis": "patient-request"}, auth=officer.signing()
    )
    assert erased.status_code == 200, erased.text
    assert [type(event) for event in await world.told(patient)][-2:] == [SubjectErased, SubjectKeyDestroyed]


async def test_the_root_key_is_rotated_while_storage_serves_by_somebody_else_than_storage(
    world: World, openbao: OpenBao, tmp_path: Path
) -> None:
    await world.stop()
    key = await openbao.new_key()
    uri, operators = [await openbao.role(key, tmp_path, may=may) for may in (STORAGE_MAY, ROTATION_MAY)]
    await world.start(kms=uri, kms_cache_s=0)
    patients = [await world.patient() for _ in range(20)]
    names = [await world.store(patient, b"content") for patient in patients]
    bucket = world.bucket(world.settings.keys_bucket)
    before = await wrapped_keys(bucket)

    operator = world.settings.model_copy(update={"kms": operators})
    await openbao.asked("POST", f"transit/keys/{key}/rotate")
    half = sorted(before)[9]
    assert await rotate(operator, step="rewrap", after=half) == 10
    assert (await world.read(names[0], patients[0])).content == b"content"
    assert await rotate(operator, step="rewrap") == 10
    assert await rotate(operator, step="retire") == 0

    for patient, name in zip(patients, names, strict=True):
        assert (await world.read(name, patient)).content == b"content"
    after = await wrapped_keys(bucket)
    assert {value.partition(b"\n")[0][-3:] for value in after.values()} == {b"-v2"}
    async with opened(uri) as kms:
        with pytest.raises(UnwrapError):
            await kms.unwrap(before[half], context=context_of(half))


async def test_storage_moves_from_a_file_to_openbao_without_a_stop_of_reads(
    world: World, openbao: OpenBao, tmp_path: Path
) -> None:
    patient = await world.patient()
    name = await world.store(patient, b"content")
    file = world.folder.folder / "keys" / "kms"
    uri = await openbao.role(await openbao.new_key(), tmp_path)
    await world.stop()
    await world.start(kms=uri, kms_previous=str(file))

    assert (await world.read(name, patient)).content == b"content"
    assert await rotate(world.settings, step="rewrap") == 1
    await world.stop()
    file.unlink()
    await world.start(kms_previous=None)
    assert (await world.read(name, patient)).content == b"content"


async def test_a_root_key_that_is_destroyed_opens_nothing_some_seconds_later(
    world: World, openbao: OpenBao, tmp_path: Path
) -> None:
    await world.stop()
    key = await openbao.new_key()
    await world.start(kms=await openbao.role(key, tmp_path), kms_cache_s=1)
    patient = await world.patient()
    name = await world.store(patient, b"content")
    held = REGISTRY.get_sample_value("salus_storage_kms_uses_total", HELD) or 0
    for _ in range(3):
        assert (await world.read(name, patient)).content == b"content"
    assert (REGISTRY.get_sample_value("salus_storage_kms_uses_total", HELD) or 0) > held

    await openbao.asked("POST", f"transit/keys/{key}/config", deletion_allowed=True)
    await openbao.asked("DELETE", f"transit/keys/{key}")

    async def is_refused() -> bool:
        return (await world.read(name, patient)).status_code != 200

    assert await until(is_refused, deadline_s=DEADLINE_S)
    assert code(await world.read(name, patient)) == (500, "key-unusable")


async def test_no_key_no_secret_and_no_plaintext_is_anywhere_else(
    world: World, openbao: OpenBao, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs, errors, database, both buckets, topics, the KMS's audit log and every file that is left."""
    await world.stop()
    uri = await openbao.role(await openbao.new_key(), tmp_path)
    await world.start(kms=uri, kms_cache_s=60)
    patient = await world.patient()
    plaintext = b"canary in the coal mine of a hospital " * 40_000
    name = await world.store(patient, plaintext)
    assert (await world.read(name, patient)).content == plaintext
    answers = [await world.read(name, patient, sub="did:web:nobody")]
    await openbao.seal()
    nonce = {"nonce": new_nonce()}
    answers.append(await world.client.post("/subjects", json=nonce, auth=world.people["hospital"].signing()))
    await openbao.unseal()
    keys, objects = (world.bucket(b) for b in (world.settings.keys_bucket, world.settings.objects_bucket))
    wrapped = await wrapped_keys(keys)
    [(place, value)] = wrapped.items()
    async with opened(uri) as kms:
        private_key = await kms.unwrap(value, context=context_of(place))
    [entry] = [entry async for entry in objects.list(on_stray=refuse_stray)]
    stored = await objects.get(entry.key, bytes_max=1 << 30)
    sealed = parse_header(header_in(stored)).data_key
    data_key = unseal(sealed, private_key=private_key, context=f"{FORMAT} {name}")
    await world.stop()

    out = capfd.readouterr()
    seen = [answer.content for answer in answers] + [value, stored, out.out.encode(), out.err.encode()]
    seen += [path.read_bytes() for path in files_in(tmp_path) if path.suffix not in SECRET]
    seen += [openbao.audit_log.read_bytes(), (openbao.folder / "log").read_bytes()]
    seen += [record.value or b"" for record in await records(world)]
    canaries = {"plaintext": plaintext[:30], "private key": private_key, "data key": data_key}
    canaries |= {f"secret {n}": secret.encode() for n, secret in enumerate(openbao.secrets)}
    for what, canary in canaries.items():
        for form in (canary, canary.hex().encode(), b64encode(canary).rstrip(b"=")):
            assert [text for text in seen if form in text] == [], what


# The files that hold the role's own secrets, which the operator put there.
SECRET = {".role", ".secret"}
HELD = {"operation": "unwrap", "outcome": "held"}


def context_of(place: str) -> str:
    """Return what a patient's key is bound to, by where it lies."""
    _, patient, number = place.split("/")
    return f"salus.health/subject-key/v1 {patient}#{number}"


def files_in(folder: Path, suffix: str = "") -> list[Path]:
    return [path for path in folder.rglob(f"*{suffix}") if path.is_file()]


async def wrapped_keys(bucket: S3Objects) -> dict[str, bytes]:
    return {
        entry.key: await bucket.get(entry.key, bytes_max=1 << 20)
        async for entry in bucket.list(FOLDER, on_stray=refuse_stray)
    }


async def records(world: World) -> list[Record]:
    """Return every record of the storage topic."""
    async with Reader(world.parts.kafka_bootstrap, starts={("salus.storage.events", 0): 0}) as reader:
        end = (await reader.end_offsets())[("salus.storage.events", 0)]
        found: list[Record] = []
        while await reader.position("salus.storage.events", 0) < end:
            found += await reader.poll(max_records=500, timeout_ms=500)
    return found
