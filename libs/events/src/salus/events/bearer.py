"""The bearer token by which a party calls a service, and signs what it asks for: claims and clock rule.

A JWT (RFC 7519) under a key of the caller's DID: `iss` = `sub` = the DID, `aud` = `audience_of` the service
and its network, `iat` and `exp` at most LIFETIME_S_MAX apart, `jti` fresh. A request that makes an event
names itself besides: `htm` its method and `htu` its target, path and query as sent (RFC 9449 names the
claims), and `dig` the SHA-256 of its body in hex.

A token stands in an event for ever, so there is nothing else in it: no further claim, `typ` is `JWT` or
absent, `jti` has at most 64 letters, digits and `-._~`.

An approval is the same for APPROVAL in place of a service, by a second party, about the request of the first.
A proposal, for PROPOSAL, says who asks for an approval: its `dig` is the SHA-256 of the text that
the second party reads. It travels with that text alone, and no service takes it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from salus.events.canonical_json import read_canonical
from salus.events.ed25519 import Verifies
from salus.events.fields import Sha256
from salus.events.jws import JwsError, parse_jws, require_known, split_jws
from salus.events.verification_keys import VerificationKey, verifies

LIFETIME_S_MAX = 300
TOKEN_CHARS_MAX = 4096
# People of two organisations must find the time.
APPROVAL_LIFETIME_S_MAX = 86_400
APPROVAL = "approval"
# As long as the proofs of possession that it may contain.
PROPOSAL_LIFETIME_S_MAX = 7 * 86_400
PROPOSAL = "proposal"
CLOCK_SKEW_S = 10
CLOCKS = timedelta(minutes=5)
"""By how much the clocks of services, brokers and sequencers may differ; more is a fault of an operator's."""
TYPES = (None, "JWT")
"""What `typ` in the header of a bearer may be."""
DECISION_TYPE = "salus-decision+jwt"
"""What it is in that of a decision token: no other token of consent's key passes for one (RFC 8725, 3.11)."""


def audience_of(what: str, network: str) -> str:
    """Return `aud` of a token that is meant for this service, or this use, in the network of that origin.

    Whoever signs with one key in two networks is thus heard in one of them only.
    """
    return f"salus:{what}@{network}"


class BearerError(Exception):
    """A token is not a bearer of ours, or not of now; the message may be shown."""


JTI_PATTERN = r"^[A-Za-z0-9._~-]{1,64}\Z"
TokenId = Annotated[str, msgspec.Meta(pattern=JTI_PATTERN)]
"""`jti`: fresh, as a UUID is."""


class Bearer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The claims of a bearer. Times are seconds since 1970 UTC (NumericDate); fractions are taken."""

    iss: str
    sub: str
    aud: str
    iat: int | float
    exp: int | float
    jti: TokenId
    nbf: int | float | None = None
    htm: str | None = None
    htu: str | None = None
    dig: Sha256 | None = None


class Signed(msgspec.Struct, frozen=True, gc=False):
    """A bearer with what its signature is verified by."""

    claims: Bearer
    kid: str
    signing_input: bytes
    signature: bytes
    algorithm: str

    def is_by(self, key: VerificationKey, verify: Verifies = verifies) -> bool:
        """Tell whether the key signed it, by the algorithm of its kind."""
        return self.algorithm == key.algorithm and verify(key.raw, self.signature, self.signing_input)


# A service reads the token of one request when it comes, before it states what was asked, and when it folds
# that; it reads as the same each time. As long as a token may be, 1,024 are some 8 MB.
@lru_cache(maxsize=1024)
def read_bearer(token: str, *, audience: str | None, lifetime_s_max: int = LIFETIME_S_MAX) -> Signed:
    """Return the claims of a bearer that is meant for `audience`; None: that was looked at before.

    Neither key, signature nor times are looked at: `require_current` judges the times.

    Raises:
        BearerError: with a sentence that says what is wrong.
    """
    if len(token) > TOKEN_CHARS_MAX:
        raise BearerError("the token is too long")
    try:
        header, payload, signing_input, signature = split_jws(token)
        claims = read_canonical(payload, Bearer)
        # Whatever is wrong with it is found out in order, one thing after the other.
        plain = parse_jws(token).payload if claims is None else None
        require_known(header)
    except JwsError as error:
        raise BearerError(f"the token: {error}") from None
    if header.typ not in TYPES:
        raise BearerError("its typ is not JWT")
    if claims is None:
        claims = _claims_of(plain)
    signed = Signed(claims, header.kid, signing_input, signature, header.alg)
    require_meant(signed, audience=audience, lifetime_s_max=lifetime_s_max)
    return signed


def require_meant(signed: Signed, *, audience: str | None, lifetime_s_max: int = LIFETIME_S_MAX) -> None:
    """Raise BearerError unless a bearer is meant for `audience`, by its key's DID, and not for too long."""
    claims = signed.claims
    if audience not in (None, claims.aud):
        raise BearerError("the token is meant for another service or network, or for several")
    if claims.iss != claims.sub:
        raise BearerError("iss and sub must be the same DID")
    if signed.kid.partition("#")[0] != claims.iss:
        raise BearerError("iss is not the DID that the key belongs to")
    if not claims.iat <= claims.exp <= claims.iat + lifetime_s_max:
        raise BearerError(f"valid for more than {lifetime_s_max} s, or for less than none")


def require_current(at: float, *, issued: float, expires: float, not_before: float | None = None) -> None:
    """Raise BearerError unless a token is valid at that moment, in seconds since 1970: the one clock rule.

    Clocks may differ by CLOCK_SKEW_S (RFC 7519 sections 4.1.4 and 4.1.5).
    """
    if at < issued - CLOCK_SKEW_S or (not_before is not None and at < not_before - CLOCK_SKEW_S):
        raise BearerError("the token is not valid yet")
    if at >= expires + CLOCK_SKEW_S:
        raise BearerError("the token has expired")


def _claims_of(payload: dict[str, Any] | None) -> Bearer:
    try:
        return msgspec.convert(payload, Bearer)
    except msgspec.ValidationError as error:
        if "unknown field" in str(error):
            # Its name is something that was sent.
            raise BearerError("a claim that a token of ours does not have") from None
        # It names the claim and the kind, never the value.
        raise BearerError(f"a claim is missing, or not of its kind: {error}") from None
