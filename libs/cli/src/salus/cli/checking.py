"""`salus ledger fsck`: re-hash everything from the object store up, and name what is wrong."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from salus.archive.duplicates import PAIRS_MAX, WINDOW_OF_THE_FORMAT, WindowSize
from salus.archive.fsck import StoreAddress, fsck
from salus.archive.kept_memory import keep_freed_memory
from salus.archive.report import JudgedCheckpoint, OnProgress, Report
from salus.archive.report import Progress as Step
from salus.archive.resuming import FileMemory, file_of, now, subject_of
from salus.archive.trust import Trust
from salus.cli.console import Json, emit, err, out, progress_bar
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.state import running_platform
from salus.cli.store_errors import store_error
from salus.crypto.text_files import read_file, read_text_file
from salus.devkit.addresses import REGION, S3
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.note import NOTE_BYTES_MAX
from salus.objects import ObjectsError

LEDGER_BUCKET = "salus-ledger"
LOG_BUCKET = "salus-log"
S3_VARIABLES = ("SALUS_S3_ENDPOINT", "SALUS_S3_ACCESS_KEY", "SALUS_S3_SECRET_KEY")


NetworkFile = Annotated[
    Path | None,
    typer.Option(help="network.json of another network; its store is in SALUS_S3_ENDPOINT and so on."),
]
Deep = Annotated[
    bool,
    typer.Option(
        "--deep",
        help="Also judge every event's signature again, by the keys of its time, and who had the right "
        "to what consent and storage did for them.",
    ),
]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes; as many as cores by default.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where an interrupted run stopped: bodies that it found whole, and that the store "
        "still lists as they were, are not read again; everything else is.",
    ),
]
Extends = Annotated[
    Path | None,
    typer.Option(
        help="A checkpoint of this log that you kept, such as the state file of `ledger monitor`, which "
        "the log must extend.",
        exists=True,
        dir_okay=False,
    ),
]
Window = Annotated[
    int,
    typer.Option(
        min=1,
        max=PAIRS_MAX,
        help="Among so many accepted events of a shard no source and id may be there twice: what the "
        "network's sequencers have as SALUS_DUPLICATES_WINDOW.",
    ),
]
WindowBlocks = Annotated[
    int, typer.Option(min=1, help="And not among more blocks: their SALUS_DUPLICATES_WINDOW_BLOCKS.")
]


def check(  # what is checked, how thoroughly and how fast
    network: NetworkFile = None,
    deep: Deep = False,
    workers: Workers = None,
    resume: Resume = False,
    extends: Extends = None,
    duplicates_window: Window = WINDOW_OF_THE_FORMAT.pairs,
    duplicates_window_blocks: WindowBlocks = WINDOW_OF_THE_FORMAT.blocks,
    as_json: Json = False,
) -> None:
    """Re-hash the whole ledger from the object store up, and name exactly what is wrong."""
    trust, address = whom_and_where(network)
    kept = None if extends is None else _kept(extends, trust)
    places = (address.endpoint, address.ledger_bucket, address.log_bucket)
    subject = subject_of(trust, *places, deep=deep)
    memory = FileMemory(file_of(subject), subject=subject, resume=resume, now=now())
    if memory.unreadable is not None:
        err.print(f"{memory.unreadable}; everything is read again")
    keep_freed_memory()
    with ExitStack() as stack:
        checking = fsck(
            address,
            trust,
            workers=_cores() if workers is None else workers,
            deep=deep,
            on_progress=_bar(stack),
            memory=memory,
            window=WindowSize(duplicates_window, duplicates_window_blocks),
            extends=kept,
        )
        report = _report_of(checking)
    memory.finish()
    if as_json:
        since = {"resumed_from": memory.since.isoformat()} if memory.since else {}
        emit(msgspec.to_builtins(report) | since)
    else:
        _show(report, memory.since)
    if not report.ok:
        raise CommandError(Exit.NO, f"the ledger is not as it should be: {len(report.errors)} findings")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _report_of(checking: Coroutine[Any, Any, Report]) -> Report:
    """Return what a check found; one that is cut off says how it goes on."""
    try:
        return run_until_signal(checking)
    except ObjectsError as error:
        raise store_error(error, later="go on later with --resume") from None
    except CommandError as error:
        raise CommandError(error.code, f"{error}; go on with `salus ledger fsck --resume`") from None


def whom_and_where(network: Path | None) -> tuple[Trust, StoreAddress]:
    """Return whose signatures to believe and where the buckets are: the local platform's, or a network's.

    Raises:
        CommandError: none runs here, or the file or the environment does not say.
    """
    if network is None:
        platform = running_platform()
        file, s3 = platform.network.file, platform.s3
    else:
        absent = [name for name in S3_VARIABLES if not os.environ.get(name)]
        if absent:
            raise CommandError(Exit.USAGE, f"--network needs {', '.join(absent)} in the environment")
        endpoint, access_key, secret_key = (os.environ[name] for name in S3_VARIABLES)
        file, s3 = network, S3(endpoint, access_key, secret_key, os.environ.get("SALUS_S3_REGION", REGION))
    try:
        trust = Trust.from_network(read_text_file(file))
    except (OSError, ValueError) as error:
        raise CommandError(Exit.USAGE, f"{file}: {error}") from None
    return trust, address_of(s3)


def address_of(s3: S3) -> StoreAddress:
    """Return where the ledger's two buckets are in a store."""
    return StoreAddress(
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        region=s3.region,
        ledger_bucket=os.environ.get("SALUS_LEDGER_BUCKET", LEDGER_BUCKET),
        log_bucket=os.environ.get("SALUS_LOG_BUCKET", LOG_BUCKET),
    )


def _bar(stack: ExitStack) -> OnProgress:
    columns = (TextColumn("checking {task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    progress = stack.enter_context(progress_bar(*columns))
    task = progress.add_task("log", total=None)

    def show(step: Step) -> None:
        progress.update(task, description=step.stage, completed=step.done, total=step.total)

    return show


def _kept(file: Path, trust: Trust) -> Checkpoint:
    """Return a checkpoint that somebody kept; raises CommandError if the log did not sign it."""
    try:
        return open_checkpoint(read_file(file, bytes_max=NOTE_BYTES_MAX), trust.log)[0]
    except (OSError, LedgerError) as error:
        raise CommandError(Exit.USAGE, f"{file} is no checkpoint of this log: {error}") from None


def _show_checkpoint(checkpoint: JudgedCheckpoint) -> None:
    by = ", ".join(
        f"{one.name} at " + (f"{one.time:%Y-%m-%d %H:%M:%S} UTC" if one.time else f"second {one.seconds}")
        for one in checkpoint.cosigners
    )
    told = f"checkpoint of size {checkpoint.size}, cosigned by {by or 'no witness'}"
    if checkpoint.final is None:
        told = (
            f"checkpoint of size {checkpoint.size}; network.json has no policy, so no witness was asked for"
        )
    out.print(plain(told, "dim"), soft_wrap=True)


def _show(report: Report, since: datetime | None) -> None:
    styles = {"error": "red", "info": "dim"}
    for finding in report.findings:
        out.print(plain(finding, styles[finding.severity]), soft_wrap=True)
    if report.checkpoint is not None:
        _show_checkpoint(report.checkpoint)
    counts = report.counts
    rate = counts.rows / report.seconds if report.seconds else 0.0
    sentence = (
        f"{counts.blocks} blocks, {counts.rows} leaves, {counts.body_bytes / 1e6:.1f} MB of bodies, "
        f"{counts.log_entries} log entries, {counts.tiles} tiles in {report.seconds:.1f} s "
        f"({rate:,.0f} leaves a second)"
    )
    if since is not None:
        sentence += (
            f"; {report.counts.spared} bodies were read by the run that began {since:%Y-%m-%d %H:%M} UTC"
        )
    mark = styled("[green]✓[/] all as signed:" if report.ok else "[red]✗[/] something is wrong:")
    out.print(styled("{} {}", mark, sentence), soft_wrap=True)
