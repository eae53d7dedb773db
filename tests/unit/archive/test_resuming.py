"""An interrupted fsck goes on: what it spares is exactly what it says, and damage elsewhere is found."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.archive.small_ledger import EVENT_SIGNER, SmallLedger
from tests.unit.archive.test_deep import REGISTERED, REVOKED, judged_trust

from salus.archive import fsck as fsck_module
from salus.archive.building import sample_records
from salus.archive.fsck import fsck
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.report import Progress, Report
from salus.archive.resuming import AGE_MAX, FileMemory, subject_of
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.ledger.block import header_key, sign_header

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BLOCKS_BEFORE_THE_END = 5


class InterruptedRunError(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.fixture(autouse=True)
def _one_block_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsck_module, "BLOCKS_A_STRETCH", 1)


def memory_in(folder: Path, ledger: SmallLedger, *, resume: bool = True, now: datetime = NOW) -> FileMemory:
    subject = subject_of(ledger.trust, "here", deep=False)
    return FileMemory(folder / "state" / "run.jsonl", subject=subject, resume=resume, now=now)


async def interrupted(folder: Path, ledger: SmallLedger, blocks: int = BLOCKS_BEFORE_THE_END) -> None:
    """Check so many blocks, then break off."""

    def progress(step: Progress) -> None:
        if step.stage == "blocks" and step.done == blocks:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        await fsck(
            ledger.stores,
            ledger.trust,
            on_progress=progress,
            memory=memory_in(folder, ledger, resume=False),
        )


async def resumed(folder: Path, ledger: SmallLedger, *, now: datetime = NOW) -> Report:
    return await fsck(ledger.stores, ledger.trust, memory=memory_in(folder, ledger, now=now))


def body_of(ledger: SmallLedger, shard: int, height: int) -> str:
    [key] = [k for k in ledger.ledger.objects if k.startswith(f"shard/{shard}/{height:012d}/body")]
    return key


async def test_what_was_whole_is_not_read_again(small_ledger: SmallLedger, tmp_path: Path) -> None:
    await interrupted(tmp_path, small_ledger)
    report = await resumed(tmp_path, small_ledger)

    assert report.ok
    assert report.counts.blocks == 8
    assert report.counts.spared == BLOCKS_BEFORE_THE_END
    assert memory_in(tmp_path, small_ledger).since == NOW


async def test_without_asking_everything_is_read_again(small_ledger: SmallLedger, tmp_path: Path) -> None:
    await interrupted(tmp_path, small_ledger)
    memory = memory_in(tmp_path, small_ledger, resume=False)
    report = await fsck(small_ledger.stores, small_ledger.trust, memory=memory)

    assert report.counts.spared == 0


async def test_a_body_that_was_written_anew_is_read_again(small_ledger: SmallLedger, tmp_path: Path) -> None:
    await interrupted(tmp_path, small_ledger)
    key = body_of(small_ledger, 0, 1)
    await small_ledger.ledger.put(key, b"other bytes")
    report = await resumed(tmp_path, small_ledger)

    assert {finding.key for finding in report.errors} == {key}


async def test_a_body_that_rots_under_its_etag_is_found_by_the_next_whole_run(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    await interrupted(tmp_path, small_ledger)
    small_ledger.flip("ledger", key := body_of(small_ledger, 0, 1), 40)

    assert (await resumed(tmp_path, small_ledger)).ok
    assert {f.key for f in (await fsck(small_ledger.stores, small_ledger.trust)).errors} == {key}


async def test_headers_and_tiles_that_rot_under_their_etag_are_found(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    await interrupted(tmp_path, small_ledger)
    damaged = {header_key(0, 1), *[k for k in small_ledger.log.objects if k.startswith("tile/entries")][-1:]}
    for key in damaged:
        small_ledger.flip("log" if key.startswith("tile") else "ledger", key, 60)
    report = await resumed(tmp_path, small_ledger)

    assert {finding.key for finding in report.errors} == damaged


async def test_bodies_are_read_again_for_another_header_that_took_the_place_under_the_etag(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    chain, objects = small_ledger.chains[0], small_ledger.ledger.objects
    await chain.seal_samples(2)
    await interrupted(tmp_path, small_ledger, blocks=6)
    other = sign_header(replace(chain.headers[-1], root=bytes(32)), chain.note_signer)
    objects[header_key(0, 5)] = (other, objects[header_key(0, 5)][1])
    report = await resumed(tmp_path, small_ledger)

    assert [finding.code for finding in report.errors] == ["body-missing"]


async def test_a_body_that_is_gone_is_missed(small_ledger: SmallLedger, tmp_path: Path) -> None:
    await interrupted(tmp_path, small_ledger)
    del small_ledger.ledger.objects[body_of(small_ledger, 0, 2)]
    report = await resumed(tmp_path, small_ledger)

    assert [finding.code for finding in report.errors] == ["body-missing"]


async def test_a_stretch_with_a_finding_is_never_spared(small_ledger: SmallLedger, tmp_path: Path) -> None:
    small_ledger.flip("ledger", key := body_of(small_ledger, 0, 1), 40)
    await interrupted(tmp_path, small_ledger)
    report = await resumed(tmp_path, small_ledger)

    assert {finding.key for finding in report.errors} == {key}
    assert report.counts.spared == BLOCKS_BEFORE_THE_END - 1


async def test_blocks_that_came_since_are_read(small_ledger: SmallLedger, tmp_path: Path) -> None:
    await interrupted(tmp_path, small_ledger)
    await small_ledger.chains[1].seal_samples(0, 0, 3)
    await small_ledger.anchor.append()
    report = await resumed(tmp_path, small_ledger)

    assert (report.ok, report.counts.blocks, report.counts.spared) == (True, 9, BLOCKS_BEFORE_THE_END)


async def test_another_history_is_an_error_and_nothing_is_spared(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    await interrupted(tmp_path, small_ledger)
    other = SmallLedger()
    await other.chains[0].seal_samples(2)
    for _ in range(7):
        await other.chains[0].seal_samples(1)
    await other.anchor.append()
    report = await resumed(tmp_path, other)

    assert [(finding.code, finding.key) for finding in report.errors] == [("log-rewritten", CHECKPOINT_KEY)]
    assert report.counts.spared == 0


# case F10, sibling: what one run read may be from before the other began, as whose it would be spared.
async def test_of_two_runs_at_the_same_time_only_its_own_lines_count(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    await interrupted(tmp_path, small_ledger)
    lines = (tmp_path / "state" / "run.jsonl").read_bytes().split(b"\n")[1:]
    later = NOW + timedelta(minutes=1)

    def progress(step: Progress) -> None:
        if step.stage == "blocks" and step.done == 2:
            raise InterruptedRunError

    second = memory_in(tmp_path, small_ledger, resume=False, now=later)
    with pytest.raises(InterruptedRunError):
        await fsck(small_ledger.stores, small_ledger.trust, on_progress=progress, memory=second)
    with (tmp_path / "state" / "run.jsonl").open("ab") as file:
        file.write(b"\n".join([b"", *lines]))

    assert (await resumed(tmp_path, small_ledger, now=later)).counts.spared == 2


async def test_an_old_or_a_foreign_or_a_broken_file_spares_nothing(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    await interrupted(tmp_path, small_ledger)
    file = tmp_path / "state" / "run.jsonl"
    whole = file.read_bytes()
    late = await resumed(tmp_path, small_ledger, now=NOW + AGE_MAX + timedelta(seconds=1))
    file.write_bytes(whole.replace(subject_of(small_ledger.trust, "here", deep=False).encode(), b"0" * 64))
    foreign = await resumed(tmp_path, small_ledger)
    file.write_bytes(b"")
    empty = await resumed(tmp_path, small_ledger)
    file.write_bytes(whole[:-20])
    cut_off = await resumed(tmp_path, small_ledger)

    spared = [report.counts.spared for report in (late, foreign, empty, cut_off)]
    assert spared == [0, 0, 0, BLOCKS_BEFORE_THE_END - 1]


async def test_a_run_that_came_to_its_end_leaves_nothing(small_ledger: SmallLedger, tmp_path: Path) -> None:
    memory = memory_in(tmp_path, small_ledger)
    await fsck(small_ledger.stores, small_ledger.trust, memory=memory)
    memory.finish()

    assert list((tmp_path / "state").iterdir()) == []


async def test_verdicts_reached_without_some_identity_events_are_reached_again(tmp_path: Path) -> None:
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    chain = ledger.chains[0]
    (late,) = sample_records(1, signer=EVENT_SIGNER)
    late = replace(late, timestamp_ms=REVOKED.timestamp_ms + 1)
    for position, records in enumerate(([REGISTERED], [REVOKED], [late])):
        chain.identity_position = position
        await chain.seal(records)
    await chain.seal([])
    await ledger.anchor.append()
    revoking = body_of(ledger, 0, 1)
    whole = ledger.ledger.objects[revoking]
    ledger.flip("ledger", revoking, 40)

    def memory(*, resume: bool) -> FileMemory:
        subject = subject_of(ledger.trust, "here", deep=True)
        return FileMemory(tmp_path / "run.jsonl", subject=subject, resume=resume, now=NOW)

    def stop(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done == 4:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        await fsck(ledger.stores, ledger.trust, deep=True, memory=memory(resume=False), on_progress=stop)
    ledger.ledger.objects[revoking] = whole
    report = await fsck(ledger.stores, ledger.trust, deep=True, memory=memory(resume=True))

    assert [(f.code, f.height) for f in report.errors] == [("verdict-wrong", 2)]


@pytest.mark.parametrize(("catalogue", "spared"), [(CATALOGUE, 1), (Catalogue(CONTEXTS[1:]), 0)])
async def test_what_another_catalogue_judged_is_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue, spared: int
) -> None:
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    for records in ([REGISTERED], []):
        await ledger.chains[0].seal(records)
    await ledger.anchor.append()

    def memory(*, resume: bool) -> FileMemory:
        subject = subject_of(ledger.trust, "here", deep=True)
        return FileMemory(tmp_path / "run.jsonl", subject=subject, resume=resume, now=NOW)

    def stop(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done == 1:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        await fsck(ledger.stores, ledger.trust, deep=True, memory=memory(resume=False), on_progress=stop)
    monkeypatch.setattr(fsck_module, "CATALOGUE", catalogue)
    report = await fsck(ledger.stores, ledger.trust, deep=True, memory=memory(resume=True))

    assert report.counts.spared == spared


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff\n", b'{"format":"salus-fsck/2"}\n'], ids=ascii)
async def test_a_damaged_state_file_is_said_and_everything_is_read_again(
    small_ledger: SmallLedger, tmp_path: Path, damaged: bytes
) -> None:
    """Case L1, sibling: what is wrong is the file, and neither the ledger nor fsck."""
    await interrupted(tmp_path, small_ledger)
    path = tmp_path / "state" / "run.jsonl"
    path.write_bytes(damaged)
    memory = memory_in(tmp_path, small_ledger)

    assert memory.unreadable is not None
    assert str(path) in memory.unreadable
    report = await fsck(small_ledger.stores, small_ledger.trust, memory=memory)
    assert report.ok
    assert report.counts.spared == 0


async def test_a_line_that_would_spare_any_headers_is_not_gone_by(
    small_ledger: SmallLedger, tmp_path: Path
) -> None:
    """Case X1b, sibling: an empty digest means `whatever the headers are`, and no line may say that."""
    await interrupted(tmp_path, small_ledger)
    path = tmp_path / "state" / "run.jsonl"
    path.write_bytes(re.sub(rb'"headers":"[0-9a-f]+"', b'"headers":""', path.read_bytes()))

    report = await resumed(tmp_path, small_ledger)
    assert report.counts.spared == 0
