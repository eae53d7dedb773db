"""Decision tokens of consent: JWTs, EdDSA, signed by its key, each meant for one service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol

import msgspec

from salus.contracts.decision import Attempt, Decision, require_decision
from salus.events.bearer import DECISION_TYPE, BearerError, audience_of, require_current
from salus.events.contexts.consent import CONSENT
from salus.events.errors import RejectedError
from salus.events.fields import Purpose
from salus.events.jws import JwsError, parse_jws
from salus.events.keyring import KeyRing
from salus.events.verification_keys import verifies
from salus.runtime.refusal import Refusal

TOKEN_BYTES_MAX = 4096


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    jti: str
    obj: str
    act: str
    pat: str
    pur: Purpose
    epoch: int
    aud: str
    iat: int
    exp: int
    roles: frozenset[str]
    bg: bool = False
    nbf: int | float | None = None


class Ring(Protocol):
    """The key ring that signatures are judged by."""

    async def catch_up(self) -> KeyRing:
        """Return the ring with everything that has been published until now."""


@dataclass(frozen=True)
class DecisionTokens:
    """Verifies tokens for one service, by its name, against the key ring.

    Only a service that holds the role `consent` may sign them.
    """

    ring: Ring
    service: str

    async def require(
        self,
        token: str | None,
        *,
        action: str,
        object: str,  # noqa: A002  # the catalogue's name
        patient: str,
        attempt: Attempt,
    ) -> Decision:
        """Return the decision by which the attempt may do just this, on this object of this patient, now.

        The epoch of `attempt` is the patient's on consent's topic as far as it was published: fold it.

        Raises:
            Refusal: no-decision, invalid-decision, wrong-holder, wrong-action, wrong-object,
                decision-expired, role-lost, role-gained, decision-outdated.
        """
        if token is None:
            raise Refusal("no-decision", "send Salus-Decision with a decision token of consent", status=403)
        decision = await self.read(token, at=attempt.at)
        require_decision(decision, action=action, object=object, patient=patient, attempt=attempt)
        return decision

    async def read(self, token: str, *, at: datetime) -> Decision:
        """Return what consent decided, for a service that asks `require_decision` itself before it acts.

        Verified are consent's signature and that it is meant for this service. Not looked at are who presents
        it, what for, whether it has expired, and whether roles or consents were taken back since.

        Raises:
            Refusal: invalid-decision.
        """
        claims = _verified(token, ring=await self.ring.catch_up(), service=self.service, at=at)
        return Decision(
            id=claims.jti,
            principal=claims.sub,
            action=claims.act,
            object=claims.obj,
            patient=claims.pat,
            purpose=claims.pur,
            epoch=claims.epoch,
            break_glass=claims.bg,
            roles=claims.roles,
            expires=datetime.fromtimestamp(claims.exp, UTC),
        )


def _verified(token: str, *, ring: KeyRing, service: str, at: datetime) -> _Claims:
    """Return the claims of a token that consent signed; raises Refusal `invalid-decision`."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _invalid("it is too long")
    try:
        jws = parse_jws(token)
        if jws.typ != DECISION_TYPE:
            raise _invalid("it is not a decision")
        known = ring.present_key(jws.kid, now=at)
        claims = msgspec.convert(jws.payload, _Claims)
        # Whether it has expired is the contract's to say.
        require_current(at.timestamp(), issued=claims.iat, expires=inf, not_before=claims.nbf)
    except JwsError as error:
        raise _invalid(str(error)) from None
    except RejectedError as error:
        raise _invalid(f"its key: {error.reason}") from None
    except BearerError as error:
        raise _invalid(str(error)) from None
    except msgspec.ValidationError:
        raise _invalid("its claims are not those of a decision") from None
    is_signed = verifies(known.key.raw, jws.signature, jws.signing_input)
    if jws.algorithm != known.key.algorithm or not is_signed:
        raise _invalid("its signature")
    signer = ring.parties[known.did]
    if claims.iss != signer.did or signer.kind != "service" or CONSENT not in signer.roles:
        raise _invalid("consent did not sign it")
    if claims.aud != audience_of(service, ring.network):
        raise _invalid("it is meant for another service")
    return claims


def _invalid(why: str) -> Refusal:
    return Refusal("invalid-decision", f"the decision token is not valid: {why}", status=403)
