"""fsck says which checkpoint it went by, and whether that meets the network's policy (case F16)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.archive.small_ledger import LOG_SIGNER, SHARD_SIGNERS, SmallLedger, note_key

from salus.archive.errors import DamagedError
from salus.archive.finality import require_final
from salus.archive.fsck import fsck
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.report import CODES, CosignedBy, Finding, JudgedCheckpoint, Report
from salus.archive.trust import Trust
from salus.cli.checking import _show_checkpoint
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import add_signatures
from salus.ledger.quorum import Quorum
from salus.ledger.tlog_policy import TlogPolicy

WITNESSES = [CosignatureSigner(f"w{n}.example/w", note_key(50 + n)) for n in range(3)]
STRANGER = CosignatureSigner("stranger.example/w", note_key(60))
TIME = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)


def trust_of(**more: object) -> Trust:
    network: dict[str, Any] = {
        "log": {"origin": LOG_SIGNER.name, "verifier_key": LOG_SIGNER.vkey},
        "shards": [
            {"id": n, "origin": s.name, "verifier_key": s.vkey, "topics": {}}
            for n, s in SHARD_SIGNERS.items()
        ],
    }
    return Trust.from_network(json.dumps(network | more).encode())


def two_of_three(**more: object) -> Trust:
    policy = TlogPolicy((), Quorum.of(2, [witness.verifier for witness in WITNESSES])).lines()
    return trust_of(policy=policy, **more)


def cosign(ledger: SmallLedger, *witnesses: CosignatureSigner) -> bytes:
    note, etag = ledger.log.objects[CHECKPOINT_KEY]
    checkpoint = open_checkpoint(note, LOG_SIGNER.verifier)[0]
    signatures = [witness.cosign(checkpoint, seconds=int(TIME.timestamp())) for witness in witnesses]
    note = add_signatures(note, signatures)
    ledger.log.objects[CHECKPOINT_KEY] = (note, etag)
    return note


async def checked(ledger: SmallLedger, trust: Trust, **choices: Any) -> tuple[Report, list[Finding]]:
    """Check a ledger whose shards have no founding assignment, which is none of this test's."""
    report = await fsck(ledger.stores, trust, **choices)
    return report, [f for f in report.errors if not f.code.startswith("coverage")]


async def test_a_checkpoint_without_enough_cosignatures_is_not_final(small_ledger: SmallLedger) -> None:
    note = cosign(small_ledger, WITNESSES[0], STRANGER)
    report, [found] = await checked(small_ledger, two_of_three())

    assert (found.code, found.bucket, found.key) == ("not-final", "log", CHECKPOINT_KEY)
    assert found.code in CODES
    assert not report.ok
    with pytest.raises(DamagedError, match="not final"):
        require_final(note, two_of_three())


async def test_the_report_says_which_checkpoint_and_who_cosigned_it_when(small_ledger: SmallLedger) -> None:
    note = cosign(small_ledger, WITNESSES[0], WITNESSES[2], STRANGER)
    report, found = await checked(small_ledger, two_of_three())

    checkpoint = open_checkpoint(note, LOG_SIGNER.verifier)[0]
    assert found == []
    assert report.checkpoint == JudgedCheckpoint(
        size=8,
        root=checkpoint.root.hex(),
        final=True,
        cosigners=[CosignedBy(WITNESSES[n].name, TIME, int(TIME.timestamp())) for n in (0, 2)],
    )
    assert require_final(note, two_of_three()) == checkpoint


# case redB8 4
async def test_a_time_beyond_the_calendar_is_its_number(
    small_ledger: SmallLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    note, etag = small_ledger.log.objects[CHECKPOINT_KEY]
    late = WITNESSES[0].cosign(open_checkpoint(note, LOG_SIGNER.verifier)[0], seconds=2**63 - 1)
    small_ledger.log.objects[CHECKPOINT_KEY] = (add_signatures(note, [late]), etag)
    report, _ = await checked(small_ledger, two_of_three())
    assert report.checkpoint is not None
    _show_checkpoint(report.checkpoint)

    assert f"cosigned by {WITNESSES[0].name} at second 9223372036854775807" in capsys.readouterr().out


async def test_a_witness_counts_in_its_period_only(small_ledger: SmallLedger) -> None:
    cosign(small_ledger, WITNESSES[0], WITNESSES[1])
    retired = [{"verifier_key": WITNESSES[1].vkey, "until": 8}]

    assert (await checked(small_ledger, two_of_three()))[1] == []
    _, found = await checked(small_ledger, two_of_three(witness_periods=retired))

    assert [f.code for f in found] == ["not-final"]


async def test_a_network_without_a_policy_asks_for_no_witness(small_ledger: SmallLedger) -> None:
    report, found = await checked(small_ledger, trust_of())

    assert found == []
    assert report.checkpoint is not None
    assert (report.checkpoint.final, report.checkpoint.cosigners) == (None, [])


async def test_a_policy_that_asks_for_none_is_met(small_ledger: SmallLedger) -> None:
    report, found = await checked(small_ledger, trust_of(policy=["quorum none"]))

    assert found == []
    assert report.checkpoint is not None
    assert report.checkpoint.final


@pytest.mark.parametrize("policy", ["quorum none", ["quorum"], [1], {}])
def test_a_policy_that_is_none_is_no_network_file(policy: object) -> None:
    with pytest.raises(ValueError, match="not a network file"):
        trust_of(policy=policy)


async def test_the_log_extends_a_checkpoint_that_was_kept(small_ledger: SmallLedger) -> None:
    kept = open_checkpoint(small_ledger.log.objects[CHECKPOINT_KEY][0], LOG_SIGNER.verifier)[0]
    await small_ledger.chains[0].seal_samples(1)
    await small_ledger.anchor.append()
    empty = Checkpoint(kept.origin, 0, EMPTY_ROOT, ())

    for one in (kept, empty):
        assert (await checked(small_ledger, trust_of(), extends=one))[1] == []


@pytest.mark.parametrize("size", [1, 8, 9])
async def test_a_log_that_does_not_extend_what_was_kept_is_found(
    small_ledger: SmallLedger, size: int
) -> None:
    """Another tree of a smaller or the same size, and a tree that is larger than what is shown."""
    other = Checkpoint(LOG_SIGNER.name, size, bytes(32), ())

    _, [found] = await checked(small_ledger, trust_of(), extends=other)

    assert (found.code, found.key) == ("log-rewritten", CHECKPOINT_KEY)
