"""`salus consent replay`: decide again, from the ledger alone, what consent decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from salus.access.cedar import CedarPolicies
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_check import usable
from salus.access.policy_files import read_policies
from salus.archive.decision_report import DecisionReport, described, replay_decisions
from salus.archive.errors import ArchiveError
from salus.archive.replayed_decision import Replayed
from salus.archive.report import OnProgress
from salus.archive.report import Progress as Step
from salus.cli.checking import LEDGER_BUCKET, LOG_BUCKET
from salus.cli.console import Json, emit, err, out, progress_bar
from salus.cli.display import plain, shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.ledger_copies import ledger_of
from salus.cli.store_errors import store_error
from salus.ledger.errors import LedgerError
from salus.objects import ObjectsError

SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a height of blocks, or a moment at which records were appended."""

    height: int | None = None
    moment: datetime | None = None


def replay(
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHEN", help="A date, a time as 2026-11-30T12:00Z, or a block's height."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", help="The same; a date's or block's end is in it.")
    ] = None,
    policies: Annotated[
        Path | None,
        typer.Option(
            "--with",
            metavar="FOLDER",
            help="Also name what another policy set would have decided otherwise: the *.cedar files in it.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="network.json of another network; its store is in SALUS_S3_ENDPOINT and so on."),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            help=f"A copy of both buckets, in the folders {LEDGER_BUCKET} and {LOG_BUCKET}; with --network.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide again, from the ledger alone, what consent decided, and name each decision that does not follow.

    Each decision names the positions of its state and its policy set. Nothing but the two buckets and
    network.json is needed, so it runs offline from a copy of them. Exit 0: every decision of the range was
    replayed and follows. 1: one does not, or could not be replayed.
    """
    first, last = _bound(begin, "--from"), _bound(end, "--to", is_end=True)
    _require_order(first, last)
    within = range_of(first, last)
    other = None if policies is None else policies_of(policies)
    trust, stores = ledger_of(network, archive)
    with ExitStack() as stack:
        progress = _bar(stack)
        try:
            report = run_until_signal(
                replay_decisions(
                    stores,
                    trust,
                    within=within,
                    other=other,
                    known_sets=(released_policies(),),
                    on_progress=progress,
                )
            )
        except (ArchiveError, LedgerError) as error:
            why = f"{error}; `salus ledger fsck` says more, and nothing was replayed"
            raise CommandError(Exit.NO, why) from None
        except ObjectsError as error:
            raise store_error(error) from None
        except ValueError as error:
            raise CommandError(Exit.USAGE, str(error)) from None
    if as_json:
        emit(described(report))
    else:
        show(report)
    if not report.ok:
        raise CommandError(Exit.NO, sentence_of(report))


def released_policies() -> dict[str, bytes]:
    """Return the policy set of the release, whose text old ledgers do not have."""
    return read_policies(files("salus.access").joinpath("policies"))


def policies_of(folder: Path) -> CedarPolicies:
    """Return the policy set of a folder; one without a schema has the release's.

    Raises:
        CommandError: it cannot be used; all that is wrong is named, a line each.
    """
    try:
        return usable(contents_in(folder))
    except PolicySetError as error:
        raise CommandError(Exit.NO, f"{folder}: {error}") from None


def contents_in(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a policy set in a folder; one without a schema has the release's."""
    try:
        contents = read_policies(folder)
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{folder}: {error.strerror}") from None
    if not any(name.endswith(".cedarschema") for name in contents):
        schema = next(name for name in released_policies() if name.endswith(".cedarschema"))
        contents[schema] = released_policies()[schema]
    return contents


def range_of(begin: Bound, end: Bound) -> Callable[[int, datetime], bool]:
    """Return what tells of a block's height and a record's time whether they are in a range."""

    def within(height: int, appended: datetime) -> bool:
        early = begin.height is not None and height < begin.height
        early |= begin.moment is not None and appended < begin.moment
        late = end.height is not None and height > end.height
        late |= end.moment is not None and appended >= end.moment
        return not early and not late

    return within


def _bound(text: str | None, option: str, *, is_end: bool = False) -> Bound:
    if text is None:
        return Bound()
    if text.isascii() and text.isdigit():
        return Bound(height=int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        why = f"{option}: {shown(text)} is no date, no time as 2026-11-30T12:00Z and no block's height"
        raise CommandError(Exit.USAGE, why) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    is_date = "T" not in text and " " not in text and moment.timetz().replace(tzinfo=None) == time()
    return Bound(moment=moment + timedelta(days=1) if is_end and is_date else moment)


def _require_order(begin: Bound, end: Bound) -> None:
    """Raise CommandError if the range ends before it begins: an empty one would follow, whatever is wrong."""
    heights = None not in (begin.height, end.height) and (begin.height or 0) > (end.height or 0)
    moments = begin.moment is not None and end.moment is not None and begin.moment >= end.moment
    if heights or moments:
        raise CommandError(Exit.USAGE, "--from: it is behind --to; nothing was replayed")


def _bar(stack: ExitStack) -> OnProgress:
    columns = (TextColumn("reading {task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    progress = stack.enter_context(progress_bar(*columns))
    task = progress.add_task("blocks", total=None)

    def show_step(step: Step) -> None:
        progress.update(task, description=step.stage, completed=step.done, total=step.total)

    return show_step


def sentence_of(report: DecisionReport) -> str:
    """Return what is to be said of a report that is not good."""
    parts = [f"{report.differs} of {report.decisions} decisions do not follow"] if report.differs else []
    if report.not_replayed:
        parts.append(f"{report.not_replayed} could not be replayed")
    if report.unread:
        parts.append(f"{report.unread} records are of no type that is known here")
    return "; ".join(parts)


def show(report: DecisionReport) -> None:
    """Print a report for people."""
    for each in report.listed[:SHOWN_MAX]:
        _show_one(each)
    if len(report.listed) > SHOWN_MAX:
        err.print(f"{len(report.listed) - SHOWN_MAX} more; --json gives up to 1,000 of each kind")
    for why, count in report.reasons.items():
        out.print(styled("[yellow]not replayed[/] {} decisions: {}", count, why), soft_wrap=True)
    if report.with_policies is not None:
        _show_changes(report)
    if report.ok and report.decisions == 0:
        out.print("no decision of consent is in this range: nothing was replayed", soft_wrap=True)
        return
    mark = styled("[green]✓[/] all follow:" if report.ok else "[red]✗[/] not all follow:")
    counts = f"{report.decisions} decisions, {report.same} follow, {report.differs} do not, "
    out.print(styled("{} {}", mark, f"{counts}{report.not_replayed} were not replayed"), soft_wrap=True)


def _show_one(each: Replayed) -> None:
    style = "red" if each.outcome == "differs" else "yellow"
    out.print(plain(f"{each.outcome}: {each.place}: decision {each.decision}", style), soft_wrap=True)
    for difference in each.differences:
        told = f"  {difference.field}: said {difference.said}, follows {difference.follows}"
        out.print(plain(told), soft_wrap=True)
    if each.why:
        out.print(plain(f"  {each.why}", "dim"), soft_wrap=True)


def _show_changes(report: DecisionReport) -> None:
    changes = (
        (report.becomes_denied, "permits would be denies", report.denied),
        (report.becomes_permitted, "denies would be permits", report.permitted),
    )
    for number, what, reasons in changes:
        by = ", ".join(f"{count} by {policy}" for policy, count in sorted(reasons.items()))
        told = f"{number} {what}{f': {by}' if by else ''}"
        out.print(plain(f"with these policies {told}"), soft_wrap=True)
    for each in report.changed[:SHOWN_MAX]:
        if each.instead is not None:
            word = "permit" if each.instead.allowed else "deny"
            why = f"would be a {word} by {', '.join(each.instead.reasons)}"
            out.print(plain(f"  decision {each.decision} {why}", "dim"), soft_wrap=True)
    if len(report.changed) > SHOWN_MAX:
        err.print(f"{len(report.changed) - SHOWN_MAX} more; --json gives up to 1,000")
