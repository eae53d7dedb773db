"""`salus bench`: each benchmark on parts of its own, which are gone when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.bench.contracts import Sizes
from salus.cli.bench.contracts import contracts as run_contracts
from salus.cli.bench.decisions import Sizes as DecisionSizes
from salus.cli.bench.decisions import decisions as run_decisions
from salus.cli.bench.drain import drain as run_drain
from salus.cli.bench.fscking import check_all
from salus.cli.bench.outcome import MEGABYTE, Outcome
from salus.cli.bench.plots import require_plots
from salus.cli.bench.receipts import receipts as run_receipts
from salus.cli.bench.steady import Load
from salus.cli.bench.steady import steady as run_steady
from salus.cli.bench.storage import Sizes as StorageSizes
from salus.cli.bench.storage import storage as run_storage
from salus.cli.bench.tiles import tiles as run_tiles
from salus.cli.console import narration
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal

app = typer.Typer(
    no_args_is_help=True,
    help="Measure this machine: Kafka, MinIO and services of its own are started and stopped each time.",
)
AsLine = Annotated[
    bool, typer.Option("--json", help="One line of JSON on stdout, last; the tables go to stderr.")
]
Plot = Annotated[Path | None, typer.Option(help="Draw what was measured into this .svg or .png.")]
Shards = Annotated[int, typer.Option(min=1, max=4, help="Sequencers, each a process with its own chain.")]
Choices = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of the services, SALUS_BLOCK_AGE_MS_MAX=200."
    ),
]


def _settings(choices: list[str] | None) -> dict[str, str]:
    settings = dict(choice.split("=", 1) for choice in choices or [] if "=" in choice)
    if len(settings) != len(choices or []):
        raise CommandError(Exit.USAGE, "--set takes NAME=VALUE, each name once")
    return settings


def _run(work: Coroutine[Any, Any, Outcome], *, as_json: bool, plot: Path | None) -> None:
    try:
        require_plots(plot)
    except BaseException:
        work.close()
        raise
    outcome = run_until_signal(work)
    outcome.tell(as_json=as_json, plot=plot)


@app.command()
def drain(
    events: Annotated[int, typer.Option(min=64, help="How many events wait on Kafka.")] = 1_000_000,
    shards: Shards = 1,
    flame: Annotated[
        Path | None, typer.Option(help="Also record the first sequencer as a flame graph (.svg).")
    ] = None,
    choices: Choices = None,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Drain a backlog of signed 1 KiB events into sealed, archived and finally committed blocks."""
    with narration() as narrator:
        settings = _settings(choices)
        work = run_drain(narrator, events=events, shards=shards, flame=flame, settings=settings)
        _run(work, as_json=as_json, plot=plot)


@app.command()
def steady(
    rate: Annotated[int, typer.Option(min=64, help="Events offered a second, whatever happens.")] = 5000,
    seconds: Annotated[float, typer.Option(min=1, help="For how long, after 3 s of warming up.")] = 60,
    shards: Shards = 1,
    witnesses: Annotated[int, typer.Option(min=0, max=9, help="Witnesses that must cosign.")] = 0,
    choices: Choices = None,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Offer events at a steady rate and measure from when each was due to its final checkpoint."""
    with narration() as narrator:
        load = Load(rate, seconds, shards, witnesses, _settings(choices))
        work = run_steady(narrator, load)
        _run(work, as_json=as_json, plot=plot)


@app.command()
def receipt(
    events: Annotated[int, typer.Option(min=64, help="How many events the ledger holds.")] = 80_000,
    requests: Annotated[int, typer.Option(min=1, help="Receipts to ask for.")] = 30_000,
    clients: Annotated[int, typer.Option(min=1, max=512, help="Connections that ask at once.")] = 32,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Ask one anchoring for receipts of random records over HTTP, and verify them on one core."""
    with narration() as narrator:
        work = run_receipts(narrator, events=events, requests=requests, clients=clients)
        _run(work, as_json=as_json, plot=plot)


@app.command()
def contracts(  # the sizes
    commands: Annotated[int, typer.Option(min=64, help="Consents to grant with each database.")] = 8_000,
    events: Annotated[int, typer.Option(min=64, help="Facts to fold anew.")] = 200_000,
    clients: Annotated[int, typer.Option(min=1, max=512, help="Connections that ask at once.")] = 64,
    rate: Annotated[int, typer.Option(min=1, help="GETs offered a second, whatever happens.")] = 500,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 20,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Execute commands of a contract service on SQLite and on PostgreSQL, and fold its topic anew."""
    with narration() as narrator:
        sizes = Sizes(commands, events, clients, rate, seconds)
        _run(run_contracts(narrator, sizes), as_json=as_json, plot=plot)


@app.command()
def storage(  # the sizes
    rounds: Annotated[int, typer.Option(min=1, help="Times that a 100 MB object goes in and out.")] = 5,
    small: Annotated[int, typer.Option(min=16, help="Objects of 4 KB.")] = 2_000,
    clients: Annotated[int, typer.Option(min=1, max=16, help="Connections that ask for them at once.")] = 12,
    largest: Annotated[int, typer.Option(min=1, help="MB of the object that ranges are read of.")] = 5_120,
    ranges: Annotated[int, typer.Option(min=1, help="Ranges of 1 MB to read of it.")] = 100,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Store and read objects, large, small and ranges, beside plaintext at MinIO itself."""
    with narration() as narrator:
        sizes = StorageSizes(rounds, 100 * MEGABYTE, small, clients, largest * MEGABYTE, ranges)
        _run(run_storage(narrator, sizes), as_json=as_json, plot=plot)


@app.command()
def decisions(  # the sizes
    consents: Annotated[int, typer.Option(min=64, help="Consents that are loaded.")] = 100_000,
    policies: Annotated[int, typer.Option(min=0, help="Policies beside those of the release.")] = 1_000,
    number: Annotated[int, typer.Option("--decisions", min=64, help="Decisions of each kind.")] = 20_000,
    clients: Annotated[int, typer.Option(min=1, max=512, help="Connections that ask at once.")] = 64,
    rate: Annotated[int, typer.Option(min=20, help="Decisions a second beside revocations.")] = 2_000,
    revocations: Annotated[int, typer.Option(min=1, help="Consents that are taken back.")] = 100,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Ask consent for decisions, one by one and in batches, and take consents back meanwhile."""
    with narration() as narrator:
        sizes = DecisionSizes(consents, policies, number, clients, rate, revocations)
        _run(run_decisions(narrator, sizes), as_json=as_json, plot=plot)


@app.command()
def fsck(
    events: Annotated[int, typer.Option(min=64, help="How many events the ledger holds.")] = 300_000,
    deep: Annotated[bool, typer.Option("--deep", help="Also with every signature judged again.")] = False,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Re-hash a whole ledger from its object store, on one core and on all of them."""
    with narration() as narrator:
        _run(check_all(narrator, events=events, deep=deep), as_json=as_json, plot=plot)


@app.command()
def tiles(
    entries: Annotated[int, typer.Option(min=1000, help="Entries of the log.")] = 1_000_000,
    plot: Plot = None,
    as_json: AsLine = False,
) -> None:
    """Grow a tile log in memory: speed, the compact range, and how proofs grow with it."""

    async def work() -> Outcome:
        return run_tiles(narrator, entries=entries)

    with narration() as narrator:
        _run(work(), as_json=as_json, plot=plot)
