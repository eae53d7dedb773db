"""`salus up`, `down`, `status` and `logs`: a development platform on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from salus.cli.console import Json, emit, err, narration, out
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.following import follow_logs
from salus.cli.interrupts import run_until_signal
from salus.cli.reporting import describe
from salus.cli.services import join_new_services
from salus.cli.shard_sequencers import start_assigned
from salus.cli.state import KafkaAccounts, alone, running_folder, state_folder
from salus.devkit.errors import NotRunningError
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.devkit.run_record import StateFolder


def up(kafka_accounts: KafkaAccounts = False, as_json: Json = False) -> None:
    """Start Kafka, MinIO and every service, and leave them running.

    A sequencer that stands still until somebody acts is named, and all else runs.
    """
    folder = state_folder()
    with alone(folder), narration() as narrator:
        description, waiting = run_until_signal(_start(folder, narrator, kafka_accounts=kafka_accounts))
    show_status(description, as_json=as_json)
    for name, why in waiting.items():
        err.print(f"{name} is installed and has not joined: {why}", soft_wrap=True, highlight=False)
    if halted := [name for name, service in description["services"].items() if service["halted"]]:
        raise CommandError(Exit.NO, f"the platform runs, but {', '.join(halted)} waits for somebody to act")


async def _start(
    folder: Path, narrator: Narrator, *, kafka_accounts: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Start what does not run; return what runs then, and which services could not join and why."""
    platform = await _healthy(folder, narrator)
    if platform is None:
        platform = Platform(folder, detached=True, narrator=narrator, kafka_accounts=kafka_accounts)
        async with platform:
            await platform.start(with_halted=True)
    else:
        await platform.start_services(with_halted=True)
    if platform.state.removed_shards():
        await start_assigned(platform)
    waiting = await join_new_services(platform, narrator)
    return await describe(platform), waiting


async def _healthy(folder: Path, narrator: Narrator) -> Platform | None:
    """Return the platform that runs, or None after removing what is left of one whose parts are gone."""
    try:
        platform = Platform.attach(folder, narrator=narrator)
    except NotRunningError:
        return None
    if await platform.parts_answer():
        return platform
    narrator.step("cleaning up after a platform that did not end well")
    await platform.stop()
    return None


def down(
    erase: Annotated[bool, typer.Option("--erase", help="Also remove all data, keys and logs.")] = False,
) -> None:
    """Stop everything that `salus up` or `salus demo --keep` started; the data stays."""
    folder = running_folder()
    if not folder.exists():
        err.print(f"nothing runs: there is no folder {folder}", soft_wrap=True)
        return
    with alone(folder), narration() as narrator:
        try:
            platform = Platform.attach(folder, narrator=narrator)
        except NotRunningError:
            err.print("nothing runs")
        else:
            run_until_signal(platform.stop())
        if erase:
            StateFolder(folder).erase()


def status(
    as_json: Json = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="With --json: also the object store's secret key.")
    ] = False,
) -> None:
    """Show what runs, where, and whether it is ready."""
    try:
        platform = Platform.attach(running_folder())
    except NotRunningError as error:
        if as_json:
            emit({"running": False, "state": str(state_folder())})
        raise CommandError(Exit.NOT_RUNNING, str(error)) from None
    description = asyncio.run(describe(platform, show_secrets=show_secrets))
    show_status(description, as_json=as_json)
    if not description["ready"]:
        raise CommandError(Exit.NO, "not everything is ready")


def show_status(description: dict[str, Any], *, as_json: bool) -> None:
    """Write a description of the platform, as JSON or as a table."""
    if as_json:
        emit(description)
        return
    table = Table("what", "where", "state", box=None, header_style="bold")
    state = {True: styled("[green]ready[/]"), False: styled("[red]not ready[/]")}
    table.add_row("Kafka", description["kafka"]["bootstrap"], state[description["kafka"]["ready"]])
    s3 = description["s3"]
    table.add_row("MinIO", s3["endpoint"], state[s3["ready"]])
    for name, service in description["services"].items():
        why = (service["why"] or "")[:80]
        table.add_row(name, service["url"], styled("{} [dim]{}[/]", state[service["ready"]], why))
    for name in description["stopped"]:
        why = "it joined the network and does not run: `salus up` starts it"
        table.add_row(name, "", styled("{} [dim]{}[/]", state[False], why))
    out.print(table)
    for name, service in description["services"].items():
        if service["halted"]:
            sentence = f"{name} stands still until somebody acts: {service['halted']}"
            out.print(plain(sentence, "red"), soft_wrap=True)
    if description["damaged"]:
        found = f"{description['damaged']} objects of the archive are damaged: see `salus ledger fsck`"
        out.print(plain(found, "red"))
    out.print(styled("[dim]log[/]    {}  ({})", description["log"]["url"], description["log"]["origin"]))
    out.print(styled("[dim]API[/]    each service explains itself at <its URL>/docs"))
    out.print(styled("[dim]state[/]  {}", description["state"]))


def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Whose logs; all of them by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many lines of each to begin with.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """Show the logs of the services, of kafka and of minio."""
    folder = StateFolder(running_folder()).logs
    known = {path.stem: path for path in sorted(folder.glob("*.log"))}
    unknown = [name for name in services or [] if name not in known]
    if unknown or not known:
        what = f"there is no log of {', '.join(unknown) or 'anything'} in {folder}"
        raise CommandError(
            Exit.USAGE if known else Exit.NOT_RUNNING, f"{what}; there are: {', '.join(known) or 'none'}"
        )
    chosen = {name: known[name] for name in services} if services else known
    run_until_signal(follow_logs(chosen, lines=lines, follow=follow, as_json=as_json))
