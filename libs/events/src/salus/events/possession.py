"""The proof of possession: whoever is registered with a key has signed that this key joins under this id.

A compact JWS by the new key, whose `kid` is the key's id: `iss` = `sub` = the party's DID, `aud` =
`audience_of` POSSESSION in the network, `member` = the organisation that the party acts for (absent: none),
`iat`, `exp` at most POSSESSION_LIFETIME_S_MAX later, `jti`. So nobody else can register the key for another
party, id or organisation. A key is registered once for ever, so a proof is of no use twice.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from salus.events.bearer import BearerError, TokenId, audience_of, require_current
from salus.events.contexts.identity import PublicKey
from salus.events.did import key_of
from salus.events.jws import JwsError, parse_jws
from salus.events.verification_keys import verifies

POSSESSION = "possession"
# The holder of a key may send the proof to its organisation by mail.
POSSESSION_LIFETIME_S_MAX = 7 * 86_400


class PossessionError(Exception):
    """It is not shown that the key's holder wants it registered; the message may be shown."""


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    sub: str
    aud: str
    iat: int | float
    exp: int | float
    jti: TokenId
    member: str | None = None


def verify_possession(proof: str, *, key: PublicKey, member: str | None, network: str, at: datetime) -> None:
    """Raise PossessionError unless the proof is by this key, for this id, member, network and moment."""
    try:
        jws = parse_jws(proof)
        claims = msgspec.convert(jws.payload, _Claims)
        require_current(at.timestamp(), issued=claims.iat, expires=claims.exp)
    except msgspec.ValidationError:
        raise PossessionError("it is no proof: a claim is missing, unknown or not of its kind") from None
    except (JwsError, BearerError) as error:
        raise PossessionError(f"it is no proof, or not of now: {error}") from None
    audience = audience_of(POSSESSION, network)
    if claims.aud != audience or claims.exp > claims.iat + POSSESSION_LIFETIME_S_MAX:
        raise PossessionError(f"aud is not {audience}, or it is valid for too long")
    did = key.id.partition("#")[0]
    if (jws.kid, claims.iss, claims.sub) != (key.id, did, did):
        raise PossessionError("it is about another key id: kid, iss and sub")
    if claims.member != member:
        raise PossessionError("it is about another member")
    try:
        public = key_of(key.multibase)
    except ValueError:
        raise PossessionError("the key is of no kind that is known here") from None
    if jws.algorithm != public.algorithm or not verifies(public.raw, jws.signature, jws.signing_input):
        raise PossessionError("it is not signed by the key itself")
