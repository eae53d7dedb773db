"""The event types of a package hold from when a service with its role joined, for everybody (issue 13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.asking import UNASKED, proofs_of, truly_asked
from tests.unit.events.samples import (
    NOON,
    PATIENT,
    SERVICES,
    encoded,
    network_ring,
    party,
    public_key,
    row,
    verdict,
)
from tests.unit.events.test_catalogue import trials

from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CONTEXTS
from salus.events.contexts.identity import PartyKind, PartyRegistered, RoleGranted, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.effect import Applied, Effect, NoEffect, WithoutEffect
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import MEMBER as MEMBERS
from salus.events.event_types import EventData, Retention
from salus.events.keyring import KeyRing
from salus.ledger.records import timestamp_at

REGISTRY = LocalSigner.from_seed(b"regi" * 8)
OPERATOR = LocalSigner.from_seed(b"oper" * 8)
SECOND = SERVICES["operator"]
MS = timedelta(milliseconds=1)


def packaged(name: str = "trials", owner: str | None = None) -> Context:
    """A context of the tests that a package beside the release brings."""
    context = trials(name, owner=owner)
    context.package = f"salus-{name}"
    return context


CONTEXT = packaged()
WITH_PACKAGE, WITHOUT = Catalogue([*CONTEXTS, CONTEXT]), Catalogue(CONTEXTS)
[ENROLLED] = CONTEXT.types


def ring_of(catalogue: Catalogue = WITH_PACKAGE) -> KeyRing:
    ring = replace(network_ring(), catalogue=catalogue)
    ring.apply(party(OPERATOR, "person", ["operator"]))
    return ring


def registered(
    kind: PartyKind = "service", role: str = "trials-registry", second: LocalSigner | None = SECOND
) -> PartyRegistered:
    data = PartyRegistered(REGISTRY.did, kind, (public_key(REGISTRY),), (role,), request=UNASKED)
    return truly_asked(data, OPERATOR, at=NOON, proofs=proofs_of(REGISTRY, at=NOON), second=second)


def folded(data: EventData, ring: KeyRing) -> Effect:
    """Fold what identity states of the party, appended at noon."""
    version = ring.versions.get(REGISTRY.did, 0)
    value = encode_event(
        data, id=str(version), source="did:x", subject=REGISTRY.did, time=NOON, expected_version=version
    )
    return ring.fold(decode_event(value, ring.catalogue), appended=NOON)


def judged(ring: KeyRing, *, after: timedelta = MS) -> Reason | str:
    """Return what becomes of an event of the service's that is appended so long after it joined."""
    value = encoded(ENROLLED.data(patient=PATIENT), source=REGISTRY.did, time=NOON + after)
    record = row(value, topic=ENROLLED.topic, signer=REGISTRY).but(timestamp_ms=timestamp_at(NOON + after))
    found = verdict(record, ring=ring, at=NOON + after)
    return found.reason if isinstance(found, RejectedError) else "accepted"


def test_a_packages_types_hold_from_when_its_service_joined_and_not_before() -> None:
    ring = ring_of()
    assert ring.types.present.type_named(ENROLLED.name) is None
    assert isinstance(folded(registered(), ring), Applied)

    assert judged(ring) == "accepted"
    # Whoever published such an event before is refused for one reason, with and without the package.
    assert ring.types.catalogue_at(NOON).type_named(ENROLLED.name) is None
    assert ring.types.catalogue_at(NOON + MS).type_named(ENROLLED.name) is ENROLLED
    assert ring.lacking == set()


# readC6: before anything had changed, what is installed decided, and after any change it did not.
@pytest.mark.parametrize("later", [None, "trials-registry", "supply-registry"])
def test_a_verdict_does_not_depend_on_what_is_installed_nor_on_what_joins_later(later: str | None) -> None:
    noted = Context("trials")
    noted.package = "salus-trials"
    noted.role("trials-registry", "service", "keeps trials")
    noted.event("salus.trials.noted.v1", owner=MEMBERS, retention=Retention.RECORD)(
        type("Noted", (ENROLLED.data,), {"__doc__": "Something is noted."})
    )
    [kind] = noted.types
    record = row(encoded(kind.data(patient=PATIENT)), topic=noted.topic)

    for catalogue in (Catalogue([*CONTEXTS, noted, packaged("supply")]), WITHOUT):
        ring = ring_of(catalogue)
        if later is not None:
            ring.apply(party(REGISTRY, "service", [later]), at=NOON + MS)
        found = verdict(record, ring=ring, at=NOON)
        assert isinstance(found, RejectedError)
        assert found.reason is Reason.UNKNOWN_TYPE


def test_what_a_member_published_before_has_one_verdict_with_and_without_the_package() -> None:
    record = row(encoded(ENROLLED.data(patient=PATIENT)), topic=ENROLLED.topic)
    rings = [ring_of(), ring_of(WITHOUT)]
    for ring in rings:
        folded(registered(), ring)
    found = [verdict(record, ring=ring) for ring in rings]

    assert [it.reason for it in found if isinstance(it, RejectedError)] == [Reason.UNKNOWN_TYPE] * 2


def test_who_lacks_the_package_has_the_same_parties_and_knows_what_is_missing() -> None:
    ring, bare = ring_of(), ring_of(WITHOUT)
    effects = [folded(registered(), each) for each in (ring, bare)]

    assert effects[0] == effects[1]
    assert bare.parties == ring.parties
    assert bare.lacking == {"trials-registry"}


def test_a_role_that_is_granted_lets_its_context_hold_and_its_withdrawal_does_not_end_it() -> None:
    ring = ring_of()
    folded(registered(role="consent"), ring)
    assert ring.types.present.type_named(ENROLLED.name) is None
    granted = RoleGranted(REGISTRY.did, "trials-registry", request=UNASKED)
    assert isinstance(folded(truly_asked(granted, OPERATOR, at=NOON, second=SECOND), ring), Applied)
    assert ring.types.present.type_named(ENROLLED.name) is ENROLLED
    withdrawn = RoleWithdrawn(REGISTRY.did, "trials-registry", request=UNASKED)
    assert isinstance(folded(truly_asked(withdrawn, OPERATOR, at=NOON), ring), Applied)

    assert ring.types.present.type_named(ENROLLED.name) is ENROLLED
    assert judged(ring) is Reason.NOT_OWNER


def test_one_operator_alone_lets_no_context_hold() -> None:
    for ring in (ring_of(), ring_of(WITHOUT)):
        effect = folded(registered(second=None), ring)

        assert effect == WithoutEffect(NoEffect.NOT_ENTITLED)
        assert ring.unentitled[0].code == "second-operator-needed"
        assert ring.types.present.type_named(ENROLLED.name) is None
        assert ring.lacking == set()


def test_no_person_has_a_role_of_a_context_that_nobody_joined_for() -> None:
    # Without the package it is unknown; so with it, or the parties would part.
    for ring in (ring_of(), ring_of(WITHOUT)):
        effect = folded(registered("person", "trials-monitor"), ring)

        assert effect == WithoutEffect(NoEffect.NOT_ENTITLED)
        assert ring.unentitled[0].code == "unknown-role"
        assert ring.lacking == set()


def test_a_service_that_joined_signs_events_of_its_own_context_and_no_others() -> None:
    ring = ring_of()
    folded(registered(), ring)
    owners = {entry.owner for entry in ring.types.present.types()} - {"member", "trials-registry"}
    theirs = ring.parties[REGISTRY.did]

    assert theirs.roles == {"trials-registry"}
    assert not theirs.roles & owners


def test_of_two_packages_each_holds_by_its_own_service() -> None:
    other = packaged("supply")
    ring = ring_of(Catalogue([*CONTEXTS, CONTEXT, other]))
    folded(registered(), ring)

    assert ring.types.present.type_named(ENROLLED.name) is ENROLLED
    assert ring.types.present.type_named(other.types[0].name) is None


def test_types_that_another_packages_service_states_hold_once_that_one_joined() -> None:
    # A catalogue without the owner of a type cannot be made: nobody could fold on.
    other = packaged("supply", owner="trials-registry")
    ring = ring_of(Catalogue([*CONTEXTS, CONTEXT, other]))
    second = LocalSigner.from_seed(b"supl" * 8)
    ring.apply(party(second, "service", ["supply-registry"]), at=NOON)
    assert ring.types.present.type_named(other.types[0].name) is None
    folded(registered(), ring)

    assert ring.types.present.type_named(other.types[0].name) is other.types[0]


@pytest.mark.parametrize("catalogue", [WITH_PACKAGE, WITHOUT])
def test_the_founding_service_of_a_package_needs_no_further_event(catalogue: Catalogue) -> None:
    ring = ring_of(catalogue)
    ring.apply(party(REGISTRY, "service", ["trials-registry"]), at=NOON)

    assert (ring.types.present.type_named(ENROLLED.name) is ENROLLED) == (catalogue is WITH_PACKAGE)
    assert ring.lacking == (set() if catalogue is WITH_PACKAGE else {"trials-registry"})
