from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.archive.small_ledger import SHARD_SIGNERS
from tests.unit.archive.test_monitor import POLICY, ServedLog

from salus.archive.monitor import Fetch
from salus.cli.exits import CommandError, Exit
from salus.cli.monitoring import Watch, reread_policy, tell_ends
from salus.crypto.file_lock import changing
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.note import add_signatures
from salus.ledger.quorum import Quorum


def serving(log: ServedLog) -> Fetch:
    async def fetch(path: str) -> bytes:
        return log.note if path == "checkpoint" else await log.fetch(path)

    return fetch


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(POLICY, tmp_path / "last", tmp_path / "evidence", as_json=True)


async def test_the_last_checkpoint_is_kept_and_each_new_one_is_told_once(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in (3, 3, 5):
        await watch.look(serving(ServedLog(size)), [], patient=True)

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [fact["size"] for fact in told] == [3, 5]
    assert told[0]["final"] is True
    assert watch.state.read_bytes() == ServedLog(5).note
    assert not watch.evidence.exists()


async def test_who_looks_once_is_told_where_the_log_stands_each_time(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A new user's case: `monitor --once` printed nothing the second time.
    for size in (3, 3, 5):
        log = serving(ServedLog(size))
        await watch.look(log, [log], patient=False)

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [fact["size"] for fact in told] == [3, 3, 5]


async def test_a_log_that_shows_less_than_was_seen_is_named_and_no_alarm(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old checkpoint, shown for ever, was `final` at each look, with the size that was shown before."""

    def shows(size: int) -> Fetch:
        log = ServedLog(size)
        for grown in (5, 6):
            log.objects |= ServedLog(grown).objects
        return serving(log)

    looks: list[tuple[int, tuple[int, ...]]] = [(5, ()), (3, ()), (3, (5,)), (5, (3,)), (5, (6,))]
    for log, others in looks:
        await watch.look(shows(log), [serving(ServedLog(one)) for one in others], patient=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    await replace(watch, as_json=False).look(shows(5), [], patient=False)

    behind = [(fact["shown"], fact["seen"]) for fact in told if "shown" in fact]
    assert behind == [(3, 5), (3, 5), (5, 6)]
    assert [fact["size"] for fact in told if "size" in fact] == [5, 6]
    assert "the log shows size 5, and 6 was seen" in capsys.readouterr().err


async def test_two_histories_end_with_1_and_leave_both_signed_checkpoints(watch: Watch) -> None:
    await watch.look(serving(ServedLog(3)), [], patient=True)
    other = ServedLog(5, name="other")

    with pytest.raises(CommandError, match="two histories") as caught:
        await watch.look(serving(other), [], patient=True)

    assert caught.value.code is Exit.NO
    assert {file.read_bytes() for file in watch.evidence.iterdir()} == {ServedLog(3).note, other.note}
    # What was seen first stays what the log is held to.
    assert watch.state.read_bytes() == ServedLog(3).note


async def test_a_history_shown_to_a_witness_alone_is_caught_too(watch: Watch) -> None:
    with pytest.raises(CommandError, match="two histories"):
        await watch.look(serving(ServedLog(5)), [serving(ServedLog(3, name="other"))], patient=True)


async def test_a_checkpoint_by_another_key_ends_with_1(watch: Watch) -> None:
    log = ServedLog(3)
    log.note = log.note.replace(b"salus.test/log\n3\n", b"salus.test/log\n4\n")

    with pytest.raises(CommandError, match="not signed by the log") as caught:
        await watch.look(serving(log), [], patient=True)

    assert caught.value.code is Exit.NO
    assert not watch.state.exists()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        ServedLog(3).note[:40],
        b"\xff\x00",
        b"other.example/log\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
    ],
    ids=["empty", "cut off", "binary", "of another log"],
)
async def test_a_damaged_state_file_is_named_and_is_no_word_about_the_log(
    watch: Watch, damaged: bytes
) -> None:
    """Case L1: it ended with 1, `what is shown is not signed by the log`, which is an alarm."""
    watch.state.write_bytes(damaged)

    with pytest.raises(CommandError, match=f"state file {watch.state} .* not judged") as caught:
        await watch.look(serving(ServedLog(3)), [], patient=True)

    assert caught.value.code is Exit.USAGE
    assert watch.state.read_bytes() == damaged
    assert not watch.evidence.exists()


async def test_a_log_that_does_not_answer_is_waited_for_unless_it_is_looked_at_once(watch: Watch) -> None:
    async def away(_: str) -> bytes:
        raise httpx.ConnectError("away")

    await watch.look(away, [], patient=True)
    with pytest.raises(CommandError) as caught:
        await watch.look(away, [], patient=False)

    assert caught.value.code is Exit.NOT_RUNNING


def test_whom_to_trust_stays_while_the_file_is_being_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case L1, sibling: one look at half a network.json ended a monitor that should run for ever."""
    file = tmp_path / "network.json"
    file.write_bytes(b"{")

    assert reread_policy(None, file, before=POLICY) is POLICY
    assert str(file) in capsys.readouterr().err.replace("\n", "")


# case F10, sibling: of two monitors with one state file the slower one forgot what the other had seen.
async def test_two_monitors_of_one_state_file_take_turns(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salus.cli.monitoring.changing", partial(changing, wait_s=0))
    async with changing(watch.state):
        with pytest.raises(CommandError, match="another process") as caught:
            await watch.look(serving(ServedLog(3)), [], patient=False)

    assert caught.value.code is Exit.NOT_RUNNING
    assert not watch.state.exists()


async def test_it_is_said_when_the_last_witness_cosigned(
    watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("one.test/witness", "two.test/witness")
    witnesses = [CosignatureSigner(name, Ed25519PrivateKey.generate()) for name in names]
    policy = replace(POLICY, quorum=Quorum.of(2, [each.verifier for each in witnesses]))
    log = ServedLog(3)
    checkpoint = POLICY.open_checkpoint(log.note).checkpoint
    for witness, seconds in zip(witnesses, (60, 5), strict=True):
        log.note = add_signatures(log.note, [witness.cosign(checkpoint, seconds=seconds)])

    for as_json in (True, False):
        await replace(watch, policy=policy, as_json=as_json).look(serving(log), [], patient=False)

    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["cosigned_at"] == 60
    assert second.endswith("until 1970-01-01 00:01:00 UTC")


def test_the_end_of_a_chain_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    # Whoever changes network.json can end an honest chain: whoever watches sees it.
    shard = SHARD_SIGNERS[0].verifier
    ended = replace(POLICY, shards={shard.name: KeyHistory(shard.name, (KeyPeriod(shard, 0, 8),))})

    told = tell_ends(POLICY, {}, as_json=True)
    assert told == {}
    told = tell_ends(ended, told, as_json=True)
    assert tell_ends(ended, told, as_json=True) == told == {shard.name: 8}
    tell_ends(ended, {}, as_json=False)

    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == [{"origin": shard.name, "ended": 8}]
    assert "ended before block 8" in said.err
