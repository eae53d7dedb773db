"""Public keys with the proof that their holder wants them registered, in files; private keys never travel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from salus.cli.exits import CommandError, Exit
from salus.client.auth import make_possession
from salus.crypto.text_files import read_text_file
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, key_of, multibase_of
from salus.events.jws import parse_jws
from salus.events.possession import PossessionError, verify_possession
from salus.ledger.json_reader import JsonError, read_json

# The clocks of two machines differ a little, and the key must be valid at once.
CLOCK_SKEW = timedelta(minutes=5)
_GROUP_CHARS = 4


class ProvenKey(PublicKey, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key of a request to identity: the public key, and the proof by its holder."""

    proof: str | None = None


@dataclass(frozen=True)
class Possession:
    """What a valid proof says: until when, and for which member its holder joins."""

    until: datetime
    member: str | None


def prove(
    signer: LocalSigner,
    *,
    network: str,
    member: str | None,
    now: datetime,
    valid_until: datetime | None = None,
) -> ProvenKey:
    """Return the signer's key with the proof that its holder wants it registered there, for that member."""
    return ProvenKey(
        id=signer.verification_method,
        multibase=multibase_of(signer.public_key),
        valid_from=now - CLOCK_SKEW,
        valid_until=valid_until,
        proof=make_possession(signer, network=network, member=member, now=now),
    )


def check_possession(key: ProvenKey, *, member: str | None, network: str, at: datetime) -> Possession:
    """Return what the key's proof says.

    Raises:
        CommandError: there is none, or it does not prove this key, id, member and network at that moment.
    """
    if key.proof is None:
        raise CommandError(Exit.NO, f"the key {key.id} has no proof by its holder")
    try:
        verify_possession(key.proof, key=key, member=member, network=network, at=at)
    except (PossessionError, ValueError) as error:
        raise CommandError(Exit.NO, f"the proof of the key {key.id} is not valid: {error}") from None
    return Possession(datetime.fromtimestamp(parse_jws(key.proof).payload["exp"], UTC), member)


def read_proven_key(path: Path) -> ProvenKey:
    """Return the key that `salus party prove-key` wrote.

    Raises:
        CommandError: the file holds something else; the sentence names the field.
    """
    try:
        return msgspec.convert(read_json(read_text_file(path)), ProvenKey)
    except JsonError as error:
        raise CommandError(Exit.USAGE, f"{path} is no key entry: {error.why}, in {error.place}") from None
    except ValueError as error:
        raise CommandError(Exit.USAGE, f"{path} is no key entry: {error}") from None


def fingerprint(multibase: str) -> str:
    """Return the SHA-256 of a public key (its SubjectPublicKeyInfo, as OpenSSL writes it), in groups of four.

    Raises:
        ValueError: it is no key of a kind that is known.
    """
    spki = key_of(multibase).public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = sha256(spki).hexdigest()
    return " ".join(digest[at : at + _GROUP_CHARS] for at in range(0, len(digest), _GROUP_CHARS))
