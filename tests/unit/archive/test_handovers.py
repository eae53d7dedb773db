"""What fsck says of partitions that change their shard, by block and by log entry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.asking import NETWORK, truly_asked
from tests.unit.archive.small_ledger import SmallLedger
from tests.unit.events.test_sharding import added, assigned

from salus.archive.body import BodyColumns, encode_body
from salus.archive.building import TOPIC
from salus.archive.check_chains import check_coverage
from salus.archive.check_log import LogState
from salus.archive.deep import IdentityEvent, IdentityTopic, Judge
from salus.archive.fsck import fsck
from salus.archive.trust import Founder, Trust
from salus.events import parties
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyRegistered, PublicKey, ShardsAssigned
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.requests import Request
from salus.events.sealed_rows import SealedRow
from salus.ledger.block import ACCEPTED, Handover, Header, Range
from salus.ledger.check_coverage import CoverageChecker, Span, Taking
from salus.ledger.merkle import EMPTY_ROOT

LAB = ("salus.lab.events", 0)
SHARDS = {"net/shard/0": 0, "net/shard/1": 1}
GIVER, TAKER = ("net/shard/0", 4), ("net/shard/1", 0)


def moved(*, taken: bool = True) -> list[CoverageChecker | None]:
    """Shard 0 covers up to 5 and gives; shard 1 takes and covers up to 9: a stretch of each chain."""
    giver = CoverageChecker(
        spans={LAB: [Span("net/shard/0", 0, 5, 0, 4, given=True)]},
        gave={("net/shard/0/block/4", LAB): (5, "net/shard/1")},
        tops={"net/shard/0": 4},
    )
    taker = CoverageChecker(
        spans={LAB: [Span("net/shard/1", 5, 9, 0, 0, taken=True)]},
        took=[Taking("net/shard/1/block/0", LAB, 5, "net/shard/0/block/4")],
        tops={"net/shard/1": 0},
    )
    return [giver, taker if taken else CoverageChecker()]


@pytest.mark.parametrize("places", [[], [GIVER], [GIVER, TAKER], [GIVER, None, TAKER]])
def test_a_hand_over_in_order_is_no_finding(places: list[tuple[str, int] | None]) -> None:
    assert check_coverage(moved(), SHARDS, LogState(places=places)) == []


@pytest.mark.parametrize("places", [[TAKER], [TAKER, GIVER]])
def test_a_taking_before_its_giving_in_the_log_is_found(places: list[tuple[str, int] | None]) -> None:
    (finding,) = check_coverage(moved(), SHARDS, LogState(places=places))

    assert (finding.severity, finding.code, finding.shard, finding.height) == ("error", "entry-order", 1, 0)
    assert "entry 0" in finding.detail


def test_what_is_not_taken_yet_is_worth_knowing_and_no_error() -> None:
    (finding,) = check_coverage(moved(taken=False), SHARDS, LogState())

    assert (finding.severity, finding.code) == ("info", "handover-pending")
    assert finding.key == "shard/0/000000000004/header"
    assert "salus.lab.events 0 is given at offset 5 to net/shard/1" in finding.detail


def test_a_giving_block_that_is_newer_than_this_check_is_no_error() -> None:
    giver, taker = moved()
    assert giver is not None
    before = CoverageChecker(spans={LAB: [Span("net/shard/0", 0, 4, 0, 3)]}, tops={"net/shard/0": 3})

    (finding,) = check_coverage([before, taker], SHARDS, LogState())

    assert (finding.severity, finding.code, finding.shard) == ("info", "handover-pending", 1)


def test_nothing_is_said_where_a_header_is_unknown() -> None:
    assert check_coverage([*moved()[1:], None], SHARDS, LogState()) == []


CLINICAL = "salus.clinical.events"
IDENTITY_TOPIC = "salus.identity.events"
ROOT = LocalSigner.from_seed(b"R" * 32)
OPERATOR = LocalSigner.from_seed(b"O" * 32)
KEY, OPERATOR_KEY = (
    PublicKey(signer.verification_method, multibase_of(signer.public_key), datetime(2026, 1, 1, tzinfo=UTC))
    for signer in (ROOT, OPERATOR)
)


def judge_of(event: ShardsAssigned, *, offset: int) -> Judge:
    """A judge of a network whose one operator asked for this."""
    time = datetime(2026, 6, 1, tzinfo=UTC)
    event = truly_asked(event, OPERATOR, at=time)
    joins = PartyRegistered(
        OPERATOR.did, "person", (OPERATOR_KEY,), ("operator",), request=Request.of_service(ROOT.did)
    )
    joined = encode_event(joins, id="0", source=ROOT.did, subject=OPERATOR.did, time=time, expected_version=0)
    value = encode_event(event, id="1", source=ROOT.did, subject="net", time=time, expected_version=0)
    founders = (Founder(0, "net/shard/0", {CLINICAL: (0, 1, 2)}),)
    operator = parties.Founder(OPERATOR.did, "person", ("operator",), OPERATOR_KEY)
    trust = Trust("-", {}, NETWORK, ROOT.did, KEY, founders=founders, founding=(operator,))
    events = [
        IdentityEvent(SealedRow(IDENTITY_TOPIC, 0, at, ms, ACCEPTED, None, event, None, None))
        for at, ms, event in ((0, 0, joined), (offset, 1, value))
    ]
    return Judge(trust, IdentityTopic(events, offset + 1), CATALOGUE)


def block(position: int, *gave: tuple[int, str]) -> Header:
    return Header(
        origin="net/shard/0",
        height=4,
        leaves=0,
        root=EMPTY_ROOT,
        previous=bytes(32),
        time=datetime(2026, 6, 1, tzinfo=UTC),
        accepted=0,
        body_bytes=0,
        body_sha256=bytes(32),
        identity=("salus.identity.events", 0, position),
        ranges=tuple(Range(CLINICAL, p, 5, 5) for p in range(3)),
        handovers=tuple(Handover("gave", CLINICAL, p, 5, to) for p, to in gave),
    )


@pytest.mark.parametrize(
    ("header", "complaints"),
    [
        (block(7), []),
        (block(8, (1, "net/shard/1"), (2, "net/shard/1")), []),
        (block(8, (1, "net/shard/1")), ["it keeps salus.clinical.events 2, which is shard 1's"]),
        (block(7, (1, "net/shard/1")), ["it gives salus.clinical.events 1 to shard None"]),
        (
            block(8, (0, "net/shard/1"), (1, "net/shard/1"), (2, "net/shard/1")),
            ["it gives salus.clinical.events 0 to shard 1"],
        ),
    ],
)
def test_a_deep_check_finds_what_goes_against_the_assignment_that_a_block_knew(
    header: Header, complaints: list[str]
) -> None:
    judge = judge_of(assigned(1, {0: (0,), 1: (1, 2)}, added(1)), offset=7)

    _, findings = judge.check(0, header, encode_body(BodyColumns()))

    assert [(f.code, f.height) for f in findings] == [("handover-broken", 4)] * len(complaints)
    assert [f.detail.partition(" by assignment")[0] for f in findings] == complaints


def founders(partitions: tuple[int, ...]) -> tuple[Founder, ...]:
    return (
        Founder(0, "salus.test/shard/0", {TOPIC: (0, 1), "salus.lab.events": partitions}),
        Founder(1, "salus.test/shard/1", {TOPIC: (2,)}),
    )


@pytest.mark.parametrize("partitions", [(), (0,), (0, 1)])
async def test_a_partition_that_its_shard_leaves_out_from_the_beginning_is_found(
    small_ledger: SmallLedger, partitions: tuple[int, ...]
) -> None:
    small_ledger.trust = replace(small_ledger.trust, founders=founders(partitions))

    report = await fsck(small_ledger.stores, small_ledger.trust)

    told = [(f.severity, f.code, f.shard, "salus.lab.events 0" in f.detail) for f in report.findings]
    assert told == ([("error", "coverage-gap", 0, True)] if partitions else [])


async def test_as_long_as_a_shard_has_no_blocks_what_nobody_covers_is_no_error() -> None:
    ledger = SmallLedger()
    ledger.trust = replace(ledger.trust, founders=founders((0,)))
    await ledger.chains[0].seal_samples(2, 2)
    await ledger.anchor.append()

    report = await fsck(ledger.stores, ledger.trust)

    assert report.ok
    assert [(f.code, f.shard) for f in report.findings] == [("not-begun", 0), ("not-begun", 1)]
