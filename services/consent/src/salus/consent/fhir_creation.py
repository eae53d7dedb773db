"""One create of a FHIR Consent: a grant, or a prohibition where it denies; what is there already is found."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from salus.access.actors import Actor, Asking
from salus.access.prohibitions import Prohibition
from salus.access.state import Consent
from salus.consent import handlers, prohibition_handlers
from salus.consent.adapters.fhir import consent as fhir
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.api import Api
from salus.consent.domain.consents import Grant, Term, identifier_under
from salus.consent.domain.prohibitions import Forbid, ProhibitionTerm
from salus.consent.domain.rights import visible_consents, visible_prohibitions
from salus.contracts.http_fields import id_digits
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

Stated = Consent | Prohibition
"""What a FHIR Consent stands for."""
_ACTOR = "body.provision.actor[0].reference"
_ELEMENT: Mapping[Term | ProhibitionTerm, str] = {
    "grantee": _ACTOR,
    "party": _ACTOR,
    "role": _ACTOR,
    "actions": "body.provision.action",
    "purposes": "body.provision.purpose",
    "valid_from": "body.provision.period.start",
    "valid_until": "body.provision.period.end",
}


_REFUSED_AT = {
    "grantee-differs": f"{_ACTOR}.type",
    "role-without-member": "body.contained[0].organization",
}


@dataclass(frozen=True)
class FhirApi:
    """What every route under /fhir uses."""

    api: Api
    marks: IdentifierMarks


@dataclass(frozen=True)
class Creation:
    """One create: what is granted or forbidden, by whom, and what is there already."""

    shared: FhirApi
    terms: fhir.Terms | fhir.Denial
    actor: Asking
    idempotency_key: str | None

    async def matches(self) -> Sequence[Stated]:
        """Return what has the identifier already."""
        terms = self.terms
        if terms.identifier is None:
            return ()
        seen = await visible(self.shared, terms.patient, self.actor)
        return marked(self.shared.marks, seen, patient=terms.patient, identifier=terms.identifier)

    async def require_same(self, found: Stated) -> None:
        """Raise unless what has the identifier is what would be stated, and stands.

        R4 answers a match of the condition with 200. Here that means: what you ask for is in force.
        """
        at, world = self.shared.api.now(), self.shared.api.world
        command = self._command(found.id)
        differing: Sequence[Term | ProhibitionTerm]
        match found, command:
            case Consent(), Grant():
                differing = await handlers.found_granted(found, command, at=at, world=world)
            case Prohibition(), Forbid():
                differing = await prohibition_handlers.found_forbidden(found, command, at=at, world=world)
            case _:
                raise _differs(found, ["body.provision.type"])
        if differing:
            raise _differs(found, dict.fromkeys(map(_ELEMENT.__getitem__, differing)))

    async def create(self, *, is_conditional: bool) -> Stated:
        """State it; of two conditional creates of one identifier at once, one does, and one is a conflict."""
        suffix = self._suffix(is_conditional=is_conditional)
        command = self._command(identifier_under(self.terms.patient, suffix=suffix))
        how: dict[str, Any] = {
            "actor": self.actor,
            "at": self.shared.api.now(),
            "repeatable": self.idempotency_key is not None,
            "world": self.shared.api.world,
        }
        if isinstance(command, Forbid):
            return await prohibition_handlers.forbid(command, **how)
        return await handlers.grant(command, **how)

    def _command(self, name: str) -> Grant | Forbid:
        terms = self.terms
        if isinstance(terms, fhir.Denial):
            return Forbid(
                prohibition=name,
                patient=terms.patient,
                party=terms.party,
                actions=terms.actions,
                purposes=terms.purposes,
                valid_from=terms.valid_from,
                valid_until=terms.valid_until,
                expected_kind=terms.party_kind,
                role=terms.role,
            )
        return Grant(
            consent=name,
            patient=terms.patient,
            grantee=terms.grantee,
            actions=terms.actions,
            purposes=terms.purposes,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            expected_kind=terms.grantee_kind,
            role=terms.role,
        )

    def _suffix(self, *, is_conditional: bool) -> str:
        identifier = self.terms.identifier
        if identifier is None:
            return id_digits(self.actor.did, self.idempotency_key)
        mark = self.shared.marks.of(
            patient=self.terms.patient, system=identifier.system, value=identifier.value
        )
        return mark + ("0" * 8 if is_conditional else secrets.token_hex(4))


def _differs(found: Stated, elements: Iterable[str]) -> ProblemError:
    what = "the consent with this identifier has another value here"
    errors = [{"at": element, "what": what, "code": "conflict"} for element in elements]
    detail = f"the consent {found.id} has this identifier, and says something else"
    return ProblemError(409, "consent-differs", detail, errors=errors)


@contextmanager
def told_of_the_element() -> Iterator[None]:
    """Let what the contract refuses of the grantee name its element."""
    try:
        yield
    except Refusal as refusal:
        if (element := _REFUSED_AT.get(refusal.code)) is None:
            raise
        error = {"at": element, "what": refusal.sentence, "code": "value"}
        raise ProblemError(refusal.status, refusal.code, refusal.sentence, errors=[error]) from None


async def visible(shared: FhirApi, patient: str, actor: Actor) -> tuple[Stated, ...]:
    """Return the consents and prohibitions of a patient that are the actor's business."""
    known = await shared.api.world.facts.facts(patient)
    consents = visible_consents(actor, known.state, known.subject)
    return (*consents, *visible_prohibitions(actor, known.state, known.subject))


def marked(
    marks: IdentifierMarks, stated: Sequence[Stated], *, patient: str, identifier: fhir.Identifier
) -> list[Stated]:
    """Return those with the identifier; raises ProblemError 412 if that cannot be told of each."""
    if any(marks.is_of_another_key(one.id) for one in stated):
        detail = "the service's key has changed since a consent got its identifier; search without it"
        raise ProblemError(412, "identifier-unknown", detail)
    mark = marks.of(patient=patient, system=identifier.system, value=identifier.value)
    return [one for one in stated if one.id.rpartition(".")[2].startswith(mark)]


def rendered(stated: Stated, *, patient: str) -> dict[str, Any]:
    """Return the R4 Consent."""
    if isinstance(stated, Prohibition):
        return fhir.render_prohibition(stated, patient=patient)
    return fhir.render(stated, patient=patient)
