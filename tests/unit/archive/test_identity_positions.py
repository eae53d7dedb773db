"""fsck names blocks that cannot have been judged by the identity position that they name (redB6, 3 and 5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.archive.small_ledger import SmallLedger
from tests.unit.archive.test_check_duplicates import records
from tests.unit.archive.test_deep_fsck import founding, trust

from salus.archive.building import BEGIN, BEGIN_MS
from salus.archive.fsck import fsck
from salus.archive.identity_positions import IdentityPositions
from salus.events.identity_position import UNSEALED_MAX
from salus.ledger.block import Header, Range

IDENTITY = ("salus.identity.events", 0)


async def ledger_with(named: list[int], *, after_s: int) -> SmallLedger:
    """Seal a block for each named position, whose record is so long after the identity events."""
    ledger = SmallLedger()
    ledger.trust = trust()
    await ledger.chains[1].seal(founding())
    chain = ledger.chains[0]
    for height, position in enumerate(named):
        chain.identity_position = position
        [made] = records([height], first=height)
        await chain.seal([replace(made, timestamp_ms=BEGIN_MS + 1000 * after_s)])
    await ledger.anchor.append()
    return ledger


async def findings(ledger: SmallLedger, *, deep: bool) -> list[tuple[str, str, int | None]]:
    report = await fsck(ledger.stores, ledger.trust, deep=deep)
    codes = {"identity-ahead", "identity-behind", "identity-pending"}
    return [(f.severity, f.code, f.height) for f in report.findings if f.code in codes]


@pytest.mark.parametrize("deep", [False, True])
async def test_a_position_that_no_topic_ever_had_is_an_error(deep: bool) -> None:  # noqa: FBT001  # a parameter
    # future.py; the honest block behind it names the truth again
    known = len(founding())
    ledger = await ledger_with([known, 10**12, known], after_s=1)

    assert await findings(ledger, deep=deep) == [("error", "identity-ahead", 1)]


@pytest.mark.parametrize(("after_s", "found"), [(59, []), (120, [("error", "identity-behind", 0)])])
async def test_a_position_that_leaves_out_what_was_known_for_a_minute_is_an_error(
    after_s: int, found: list[tuple[str, str, int]]
) -> None:
    # frozen.py: the shard's last block is of before the revocation
    ledger = await ledger_with([len(founding()) - 1], after_s=after_s)

    assert await findings(ledger, deep=True) == found
    assert await findings(ledger, deep=False) == []


def codes_of(*named: int, sealed_to: int) -> list[tuple[str, int | None]]:
    """Return what is said of a shard whose headers name these positions; so far is the topic sealed."""
    positions = IdentityPositions()
    positions.take(0, [header_of(height, position, sealed_to) for height, position in enumerate(named)])
    return [(finding.code, finding.height) for finding in positions.findings(())]


def header_of(height: int, position: int, sealed_to: int) -> Header:
    return Header(
        origin="test/shard/0",
        height=height,
        leaves=0,
        root=bytes(32),
        previous=bytes(32),
        time=BEGIN,
        accepted=0,
        body_bytes=1,
        body_sha256=bytes(32),
        identity=(*IDENTITY, position),
        ranges=(Range(*IDENTITY, 0, sealed_to),),
    )


def test_a_position_that_goes_back_is_behind_unless_what_was_before_it_is_false() -> None:
    far = 10 + UNSEALED_MAX

    assert codes_of(9, 10, 10, sealed_to=10) == []
    assert codes_of(9, 8, 9, sealed_to=10) == [("identity-behind", 1)]
    assert codes_of(9, far + 1, 9, sealed_to=10) == [("identity-ahead", 1)]


def test_events_that_no_block_has_yet_may_be_named() -> None:
    # The shard that seals the identity topic may be behind; a note says from where on.
    assert codes_of(9, 11, 10 + UNSEALED_MAX, sealed_to=10) == [("identity-pending", None)]
