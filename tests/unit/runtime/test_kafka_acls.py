"""What each account at Kafka is given, and what shows as a difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.event_types import type_of
from salus.events.parties import Party
from salus.messaging import CLUSTER_NAME, Acl, Operation, Pattern, Permission, ResourceType
from salus.runtime.kafka_acls import Known, Plan, plan
from salus.runtime.kafka_principals import Principal
from salus.runtime.manifests import services

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
MEMBERS_TOPICS = {"salus.clinical.events", "salus.lab.events", "salus.pharma.events"}
LAB, DOCTOR, OPERATOR, PATIENT = (f"did:web:{name}.example" for name in ("lab", "doc", "operator", "patient"))
PARTIES = {
    LAB: Party(LAB, "member", frozenset(), None),
    DOCTOR: Party(DOCTOR, "person", frozenset({"practitioner"}), LAB),
    OPERATOR: Party(OPERATOR, "person", frozenset({"operator"}), None),
    PATIENT: Party(PATIENT, "person", frozenset({"patient"}), None),
}
KNOWN = Known(services(), CATALOGUE, PARTIES)
INPUTS = set(CATALOGUE.input_topics())


def planned(party: str, groups: str | None = None) -> Plan:
    return plan([Principal("x", party, groups)], KNOWN)


def rights(party: str, operation: Operation, groups: str | None = None) -> set[str]:
    """Return the names of what an account of this party may do that with, with `*` behind a prefix."""
    return {
        acl.name + ("*" if acl.pattern is Pattern.PREFIXED else "")
        for acl in planned(party, groups).acls
        if acl.operation is operation
    }


def test_a_contract_service_writes_its_own_topic_alone() -> None:
    assert rights("storage", Operation.WRITE) == {"salus.storage.events"}
    assert rights("storage", Operation.READ) == {
        "salus.consent.events",
        "salus.identity.events",
        "salus.storage.events",
    }
    assert {acl.operation for acl in planned("storage").acls} == {Operation.READ, Operation.WRITE}


def test_a_sequencer_reads_what_is_sealed_and_writes_what_it_announces() -> None:
    assert rights("sequencer", Operation.READ) == INPUTS
    assert rights("sequencer", Operation.DESCRIBE_CONFIGS) == INPUTS
    assert rights("sequencer", Operation.WRITE) == {"salus.ledger.blocks", "salus.ledger.rejections"}


@pytest.mark.parametrize("service", [one.name for one in services()])
def test_no_service_has_a_consumer_group_or_makes_topics(service: str) -> None:
    assert rights(service, Operation.CREATE) == set()
    assert [acl for acl in planned(service).acls if acl.resource is not TOPIC] == []


def test_every_topic_that_is_no_members_is_written_by_who_owns_it_and_operators() -> None:
    writers = {one.name: rights(one.name, Operation.WRITE) for one in services() if one.is_party}

    written = [topic for topics in writers.values() for topic in topics]
    assert len(written) == len(set(written))
    assert MEMBERS_TOPICS.isdisjoint(written)
    assert rights(OPERATOR, Operation.WRITE) == {"salus.network.events"}


@pytest.mark.parametrize("party", [LAB, DOCTOR])
def test_members_and_who_acts_for_one_write_members_topics_and_read_what_becomes_of_it(party: str) -> None:
    assert rights(party, Operation.WRITE) == MEMBERS_TOPICS
    assert rights(party, Operation.READ) == MEMBERS_TOPICS | {
        "salus.ledger.blocks",
        "salus.ledger.checkpoints",
        "salus.ledger.rejections",
    }


@pytest.mark.parametrize("party", [LAB, DOCTOR, OPERATOR, PATIENT])
def test_a_type_that_a_member_brought_gives_nobody_another_topic(party: str) -> None:
    own = replace(type_of(DocumentRegistered), name="example.lab.bed-occupied.v1", owner=LAB)
    known = Known(services(), CATALOGUE.with_types([own]), PARTIES)

    assert plan([Principal("x", party)], known) == planned(party)


def test_an_operator_whose_role_was_withdrawn_shows_what_he_has_left() -> None:
    before = planned(OPERATOR)
    without = Party(OPERATOR, "person", frozenset(), None)
    now = plan([Principal("x", OPERATOR)], Known(services(), CATALOGUE, {OPERATOR: without}))

    assert now.acls == frozenset()
    assert now.surplus(before.acls) == sorted(before.acls)


@pytest.mark.parametrize("party", [PATIENT, "administrator"])
def test_who_needs_nothing_is_given_nothing(party: str) -> None:
    assert planned(party).acls == frozenset()


def test_who_is_not_on_the_key_ring_is_given_nothing_and_named() -> None:
    made = planned("did:web:stranger.example", "stranger-")

    assert made.acls == frozenset()
    assert [str(one) for one in made.unknown] == ["User:x"]


@pytest.mark.parametrize("party", [LAB, DOCTOR])
def test_of_a_suspended_member_no_account_is_given_anything(party: str) -> None:
    before = planned(party, "lab-")
    suspended = Known(services(), CATALOGUE, PARTIES, barred={LAB, DOCTOR})
    made = plan([Principal("x", party, "lab-")], suspended)

    assert before.acls
    assert made.acls == frozenset()
    assert [str(one) for one in made.barred] == ["User:x"]
    assert not made.unknown
    # All that it has is surplus, and `--prune` takes it.
    assert made.surplus(before.acls) == made.removable(made.surplus(before.acls)) == sorted(before.acls)


def test_the_soc_reads_what_audit_publishes_in_groups_of_its_own() -> None:
    assert rights("soc", Operation.READ, "soc-") == {"salus.audit.fhir", "salus.audit.ocsf", "soc-*"}


def test_nobody_is_given_anything_on_the_cluster_or_a_transactional_id_or_to_alter() -> None:
    everybody = [*(one.name for one in services()), "bootstrap", "soc", "administrator", *PARTIES]
    made = plan([Principal(f"p{n}", party) for n, party in enumerate(everybody)], KNOWN).acls

    assert {acl.resource for acl in made} == {TOPIC}
    assert {acl.operation for acl in made}.isdisjoint(
        {Operation.ALL, Operation.ALTER, Operation.ALTER_CONFIGS, Operation.DELETE}
    )
    assert {acl.permission for acl in made} == {Permission.ALLOW}
    assert {(acl.name, acl.principal) for acl in made if acl.operation is Operation.CREATE} == {
        ("salus.", f"User:p{everybody.index('bootstrap')}")
    }


def acl(principal: str, name: str, **more: object) -> Acl:
    said: dict[str, object] = {
        "resource": TOPIC,
        "pattern": Pattern.LITERAL,
        "operation": Operation.READ,
        **more,
    }
    return Acl(principal=f"User:{principal}", name=name, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "by_hand",
    [
        acl("x", "salus.storage.events", operation=Operation.WRITE),
        acl("x", "elsewhere"),
        acl("x", CLUSTER_NAME, resource=CLUSTER, operation=Operation.IDEMPOTENT_WRITE),
        acl("x", "t", resource=ResourceType.TRANSACTIONAL_ID, operation=Operation.WRITE),
        acl("x", "salus.lab.events", operation=Operation.WRITE, permission=Permission.DENY),
        acl("x", "salus.lab.events", operation=Operation.WRITE, host="10.0.0.1"),
        acl("stranger", "salus.consent.events"),
        acl("stranger", "*"),
        acl("stranger", "sal", pattern=Pattern.PREFIXED),
        acl("stranger", "salus.lab", pattern=Pattern.PREFIXED),
        acl("*", "salus.audit.reader", resource=GROUP),
        acl("stranger", "lab-reader", resource=GROUP),
        acl("stranger", CLUSTER_NAME, resource=CLUSTER, operation=Operation.ALTER),
        # readC6, 6: what everybody may do our accounts may do.
        acl("*", "*", resource=ResourceType.TRANSACTIONAL_ID, operation=Operation.WRITE),
        acl("*", "User:CN=consent", resource=ResourceType.USER, operation=Operation.CREATE_TOKENS),
        acl("*", CLUSTER_NAME, resource=CLUSTER, operation=Operation.IDEMPOTENT_WRITE),
        acl("*", "elsewhere"),
        acl("*", "elsewhere", resource=GROUP),
        # readC6, 6: who makes or sees a token of an account is that account.
        acl("stranger", "User:CN=consent", resource=ResourceType.USER, operation=Operation.CREATE_TOKENS),
        acl("stranger", "t", resource=ResourceType.DELEGATION_TOKEN, operation=Operation.DESCRIBE),
        # readC6, 6: what the brokers themselves keep.
        acl("stranger", "__cluster_metadata"),
        acl("stranger", "__consumer", pattern=Pattern.PREFIXED, operation=Operation.WRITE),
        # readC6, 9: of a kind that is newer than this version.
        acl("x", "elsewhere", resource=ResourceType(99)),
        acl("*", "elsewhere", resource=ResourceType(99)),
        acl("stranger", "salus.lab.events", operation=Operation(99)),
        acl("stranger", CLUSTER_NAME, resource=CLUSTER, operation=Operation(99)),
    ],
    ids=str,
)
def test_what_nobody_planned_shows(by_hand: Acl) -> None:
    made = planned(LAB, "lab-")

    assert made.surplus([*made.acls, by_hand]) == [by_hand]


@pytest.mark.parametrize(
    "others",
    [
        acl("stranger", "orders"),
        acl("stranger", "orders", pattern=Pattern.PREFIXED),
        acl("stranger", "orders-reader", resource=GROUP),
        acl("stranger", "t", resource=ResourceType.TRANSACTIONAL_ID, operation=Operation.WRITE),
        acl("stranger", CLUSTER_NAME, resource=CLUSTER, operation=Operation.DESCRIBE),
        acl("stranger", "__others"),
        acl("stranger", "elsewhere", resource=ResourceType(99)),
        acl("*", "*", resource=ResourceType.TRANSACTIONAL_ID, permission=Permission.DENY),
    ],
    ids=str,
)
def test_what_other_applications_have_is_left_alone(others: Acl) -> None:
    assert planned(LAB, "lab-").surplus([others]) == []


# readC6, 6
@pytest.mark.parametrize(
    ("surplus", "goes"),
    [
        (acl("x", "elsewhere"), True),
        (acl("x", "t", resource=ResourceType.TRANSACTIONAL_ID, operation=Operation.WRITE), True),
        (acl("*", "salus.consent.events"), True),
        (acl("stranger", "lab-reader", resource=GROUP), True),
        (acl("x", CLUSTER_NAME, resource=CLUSTER, operation=Operation.ALTER), False),
        (acl("x", "elsewhere", operation=Operation(99)), False),
        (acl("*", "elsewhere"), False),
        (acl("*", "*", resource=ResourceType.TRANSACTIONAL_ID, operation=Operation.WRITE), False),
        (acl("stranger", "__consumer_offsets"), False),
        (acl("stranger", "User:x", resource=ResourceType.USER, operation=Operation.CREATE_TOKENS), False),
    ],
    ids=str,
)
def test_what_others_may_rest_on_is_named_and_not_removed(surplus: Acl, *, goes: bool) -> None:
    made = planned(LAB, "lab-")

    assert made.surplus([surplus]) == [surplus]
    assert made.removable([surplus]) == ([surplus] if goes else [])


def test_a_group_goes_with_the_account_whose_line_is_gone() -> None:
    """A newcomer's case: the right to a group stayed when the line of its account was removed."""
    before = planned(LAB, "lab-")
    after = plan([Principal("y", "soc", None)], KNOWN)
    surplus = after.surplus(before.acls)

    assert {acl.resource for acl in before.acls} == {TOPIC, GROUP}
    assert surplus == after.removable(surplus) == sorted(before.acls)


def test_a_group_of_an_account_with_other_topics_too_is_left_alone() -> None:
    group, other = acl("stranger", "orders-", resource=GROUP), acl("stranger", "orders")
    mine = acl("stranger", "salus.lab.events")

    assert planned(LAB, "lab-").surplus([group, other, mine]) == [mine]


def test_what_an_administrator_has_is_left_alone() -> None:
    assert planned("administrator").surplus([acl("x", "*", operation=Operation.ALL)]) == []


@given(st.sets(st.sampled_from(sorted(planned(LAB, "lab-").acls))))
def test_what_is_missing_and_what_is_there_is_the_plan(in_force: Iterable[Acl]) -> None:
    made = planned(LAB, "lab-")

    assert {*made.missing(in_force), *in_force} == made.acls
    assert made.surplus(in_force) == []
