"""What patients forbid, as the consent service states it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from salus.events.contexts.consent import CONSENT, CONTEXT, Action
from salus.events.event_types import Retention
from salus.events.fields import Count, Did, Moment, Pseudonym, Purpose
from salus.events.names import Name
from salus.events.recipients import RecipientRole
from salus.events.requests import RequestedData
from salus.events.signed_request import Asked, Body

_BODY_BYTES_MAX = 4 * 1024
# A prohibition before it could be about a role at a member.
_WITHOUT_ROLE = (
    "urn:salus:schema:salus.consent.access-prohibited.v1:sha256:"
    "fcfd89f8f7c085f8c5953bae12c664d6c5f00eaefe4eaf75d6e53f787bd19508"
)


@CONTEXT.event(
    "salus.consent.access-prohibited.v1",
    owner=CONSENT,
    retention=Retention.ACCESS,
    subject_field="patient",
    changes=True,
    # An id names one consent or one prohibition.
    claims=lambda data: (f"consent:{data.prohibition}",),
    older_dataschemas=frozenset({_WITHOUT_ROLE}),
)
class AccessProhibited(RequestedData):
    """A patient forbids a party these actions for these purposes; earlier decision tokens are void.

    With a `role` it is the persons who hold it when they ask, and act for the party, a member.
    Without a party it is forbidden to everybody, without actions or purposes every one is; without an end it
    holds until it is lifted. `displaces` is one of her prohibitions that was lifted: its place in the
    service's list was needed. Of one that was not it says nothing.
    """

    prohibition: Name
    patient: Pseudonym
    valid_from: Moment
    epoch: Count
    party: Did | None = None
    actions: Annotated[tuple[Action, ...], msgspec.Meta(max_length=64)] = ()
    purposes: Annotated[tuple[Purpose, ...], msgspec.Meta(max_length=64)] = ()
    valid_until: Moment | None = None
    displaces: Name | None = None
    role: RecipientRole | None = None


@CONTEXT.event(
    "salus.consent.prohibition-lifted.v1",
    owner=CONSENT,
    retention=Retention.ACCESS,
    subject_field="patient",
    changes=True,
)
class ProhibitionLifted(RequestedData):
    """What a patient had forbidden this party (none: everybody) is not forbidden any more."""

    prohibition: Name
    patient: Pseudonym
    party: Did | None = None


CONTEXT.form("POST", "prohibitions", body_bytes_max=_BODY_BYTES_MAX)
CONTEXT.form("POST", "prohibitions", None, "lift", body_bytes_max=0)


class _Prohibition(Body):
    patient: str
    party: str | None = None
    actions: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    role: str | None = None


@CONTEXT.asked(AccessProhibited)
def _forbids(asked: Asked, data: AccessProhibited) -> bool:
    if asked.is_("POST", "fhir", "Consent"):
        # The resource may hold words about somebody, so only its digest is on the ledger.
        return asked.digest is not None
    body = asked.read(_Prohibition)
    return (
        asked.is_("POST", "prohibitions")
        and body is not None
        and (body.patient, body.party, body.valid_until) == (data.patient, data.party, data.valid_until)
        and body.role == data.role
        and set(body.actions) == set(data.actions)
        and set(body.purposes) == set(data.purposes)
        and body.valid_from in (None, data.valid_from)
    )


@CONTEXT.asked(ProhibitionLifted)
def _lifts(asked: Asked, data: ProhibitionLifted) -> bool:
    return asked.is_("POST", "prohibitions", data.prohibition, "lift")
