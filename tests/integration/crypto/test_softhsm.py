"""Signing keys in a PKCS#11 token: SoftHSM, which Debian ships."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tests.integration.crypto.conftest import Token

from salus.crypto.errors import InvalidKeyError, KmsAwayError
from salus.crypto.pkcs11 import TokenKeys
from salus.crypto.signing_keys import SigningKey, key_place
from salus.ledger.block import NO_PREVIOUS, Header, open_header, sign_header
from salus.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import NoteSigner, NoteVerifier, open_note, split_note

SHARD, LOG, WITNESS = "hsm.example/shard/0", "hsm.example/log", "hsm.example/witness"


def the_key(token: Token, label: str) -> SigningKey:
    token.make_key(label)
    (key,) = key_place(token.uri(label)).read()
    return key


def test_an_hsm_signs_a_block_header_that_everybody_can_verify(softhsm: Token) -> None:
    signer = NoteSigner(SHARD, the_key(softhsm, "shard-0"))
    header = Header(
        origin=SHARD,
        height=0,
        leaves=0,
        root=EMPTY_ROOT,
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        accepted=0,
        body_bytes=0,
        body_sha256=bytes(32),
        identity=("salus.identity.events", 0, 0),
        ranges=(),
    )
    note = sign_header(header, signer)

    assert open_header(note, NoteVerifier.from_vkey(signer.vkey)) == header


def test_an_hsm_signs_a_checkpoint_and_cosigns_one(softhsm: Token) -> None:
    key = the_key(softhsm, "log")
    log = NoteSigner(LOG, key)
    witness = CosignatureSigner(WITNESS, the_key(softhsm, "witness"))
    checkpoint = Checkpoint(LOG, 7, bytes(32))
    note = sign_checkpoint(checkpoint, [log])
    note += witness.cosign(checkpoint, seconds=1).line().encode()

    _, (by_log, _) = split_note(note)
    key.public_key().verify(by_log.signature, checkpoint.text().encode())
    opened, whole = open_checkpoint(note, NoteVerifier.from_vkey(log.vkey), [witness.verifier])
    assert opened == checkpoint
    assert whole.verified == (LOG, WITNESS)


def test_a_key_that_is_made_in_the_token_later_is_found(softhsm: Token) -> None:
    softhsm.make_key("rotating")
    place = key_place(softhsm.uri("rotating"))
    (old,) = place.read()
    softhsm.make_key("rotating")
    keys = place.read()

    assert len(keys) == 2
    assert old.public_key() in [key.public_key() for key in keys]
    for key in keys:
        key.public_key().verify(key.sign(b"data"), b"data")
    old.public_key().verify(old.sign(b"before"), b"before")


def test_many_threads_may_sign_at_once_and_a_lost_session_is_opened_again(softhsm: Token) -> None:
    softhsm.make_key("busy")
    place = key_place(softhsm.uri("busy"))
    assert isinstance(place, TokenKeys)
    (key,) = place.read()
    public: Ed25519PublicKey = key.public_key()
    failures: list[BaseException] = []

    def work(name: bytes) -> None:
        try:
            for n in range(20):
                data = name + str(n).encode()
                public.verify(key.sign(data), data)
        except BaseException as error:  # noqa: BLE001  # it has to reach the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for _ in range(5):
        place.close()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


def test_what_is_wrong_with_a_token_is_said(softhsm: Token) -> None:
    with pytest.raises(InvalidKeyError, match="no such Ed25519 key"):
        key_place(softhsm.uri("nobody")).read()
    with pytest.raises(KmsAwayError, match="no token other"):
        key_place(softhsm.uri().replace(softhsm.label, "other")).read()
    with pytest.raises(KmsAwayError, match="no token"):
        key_place(softhsm.uri().replace(softhsm.module, "/no/such/module.so")).read()


def test_a_note_of_the_hsm_opens_beside_one_of_a_file(softhsm: Token) -> None:
    """A log may move into an HSM: for a while the file's key and the token's sign both."""
    file_key, hsm_key = (
        NoteSigner(LOG, key) for key in (Ed25519PrivateKey.generate(), the_key(softhsm, "moving"))
    )
    note = sign_checkpoint(Checkpoint(LOG, 3, bytes(32)), [file_key, hsm_key])

    for signer in (file_key, hsm_key):
        assert open_note(note, [signer.verifier]).verified == (LOG,)
