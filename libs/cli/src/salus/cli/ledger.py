"""`salus ledger`: receipts, blocks, queries over the archive, and checking all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from salus.archive.blocks import BlockArchive
from salus.archive.body import decode_body
from salus.archive.errors import ArchiveError
from salus.archive.log import LogReader
from salus.cli import checking, monitoring, restoring
from salus.cli.callers import call
from salus.cli.checking import LEDGER_BUCKET, LOG_BUCKET
from salus.cli.console import Json, emit, err, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.outputs import Force, Output, hand_over, require_place
from salus.cli.querying import Opener, ask, committed_bodies, copy_archive, not_as_signed
from salus.cli.state import running_platform
from salus.cli.store_errors import store_error
from salus.cli.verifying import read_policy
from salus.crypto.text_files import read_text_file
from salus.devkit.platform import Platform
from salus.ledger.block import Header, body_key, header_key
from salus.ledger.errors import LedgerError
from salus.ledger.json_reader import read_json
from salus.objects import ObjectsError

app = typer.Typer(no_args_is_help=True, help="Blocks, receipts and the log, straight from the object store.")
app.command("fsck")(checking.check)
app.command("monitor")(monitoring.monitor)
app.command("restore-topics")(restoring.restore_topics)
WAIT_S_MAX = 30
ROWS_SHOWN_MAX = 200


@app.command()
def receipt(
    topic: Annotated[str, typer.Argument(help="The record's topic.")],
    partition: Annotated[int, typer.Argument(help="Its partition.")],
    offset: Annotated[int, typer.Argument(help="Its offset.")],
    output: Output = None,
    force: Force = False,
    form: Annotated[
        Literal["text", "cose"],
        typer.Option("--format", help="cose: a COSE Receipt (RFC 9942), binary, that says the same."),
    ] = "text",
) -> None:
    """Fetch the receipt of a record, waiting a little until it is anchored."""
    require_place(output, undone="nothing was fetched", force=force)
    query = [
        ("topic", topic),
        ("partition", str(partition)),
        ("offset", str(offset)),
        ("wait_s", str(WAIT_S_MAX)),
        ("format", form),
    ]
    answer = asyncio.run(call(running_platform(), "anchoring", "GET", "/receipts", query=query))
    hand_over(answer.content, output, done="the receipt was fetched", private=False)


@app.command()
def show(
    height: Annotated[int | None, typer.Argument(help="Which block; the log's state without it.")] = None,
    shard: Annotated[int, typer.Option(help="Of which shard.")] = 0,
    rows: Annotated[bool, typer.Option("--rows", help="Also its leaves.")] = False,
    as_json: Json = False,
) -> None:
    """Show a block as it lies in the archive, its header verified, or where the log stands."""
    platform = running_platform()
    try:
        if height is None:
            facts = asyncio.run(_log_facts(platform))
        else:
            facts = asyncio.run(_block_facts(platform, shard, height, rows=rows))
    except (ArchiveError, LedgerError) as error:
        raise CommandError(Exit.NO, str(error)) from None
    except ObjectsError as error:
        raise store_error(error) from None
    if as_json:
        emit(facts)
        return
    leaves = facts.pop("rows", [])
    _show_facts(facts)
    if leaves:
        _show_rows(leaves)


async def _log_facts(platform: Platform) -> dict[str, Any]:
    note = await LogReader(platform.bucket(LOG_BUCKET)).checkpoint()
    if note is None:
        raise CommandError(Exit.NO, "the log has no checkpoint yet")
    seen = read_policy(platform.network.file).open_checkpoint(note)
    return {
        "origin": seen.checkpoint.origin,
        "size": seen.checkpoint.size,
        "root": seen.checkpoint.root.hex(),
        "cosigners": [cosigner.name for cosigner in seen.cosigners],
    }


async def _block_facts(platform: Platform, shard: int, height: int, *, rows: bool) -> dict[str, Any]:
    archive = BlockArchive(platform.bucket(LEDGER_BUCKET))
    note = await archive.header(shard, height)
    if note is None:
        raise CommandError(Exit.NO, f"shard {shard} has no block {height}")
    origins = {one["id"]: one["origin"] for one in platform.network.read()["shards"]}
    if shard not in origins:
        raise CommandError(Exit.USAGE, f"the network has no shard {shard}")
    header = read_policy(platform.network.file).open_header(note, origins[shard])
    facts = _header_facts(shard, header)
    if rows:
        columns = ["topic", "partition", "offset", "status", "type", "id", "subject", "time"]
        facts["rows"] = decode_body(await archive.body(shard, header), columns=columns).to_pylist()
    return facts


def _header_facts(shard: int, header: Header) -> dict[str, Any]:
    return {
        "origin": header.origin,
        "height": header.height,
        "time": header.time.isoformat(),
        "leaves": header.leaves,
        "accepted": header.accepted,
        "root": header.root.hex(),
        "previous": header.previous.hex(),
        "body_bytes": header.body_bytes,
        "identity": " ".join(map(str, header.identity)),
        "ranges": [f"{r.topic} {r.partition} [{r.first}, {r.next})" for r in header.ranges],
        "header": header_key(shard, header.height),
        "body": body_key(shard, header.height, header.root),
    }


def _show_facts(facts: dict[str, Any]) -> None:
    """Print what is known, a line for each; of several things one on each line."""
    for name, value in facts.items():
        values = (value or ["-"]) if isinstance(value, list) else [value]
        for row, one in enumerate(values):
            out.print(styled("[dim]{}[/] {}", f"{'' if row else name:10}", one), soft_wrap=True)


def _show_rows(rows: list[dict[str, Any]]) -> None:
    table = Table("record", "status", "type", "subject", box=None, header_style="bold")
    for row in rows[:ROWS_SHOWN_MAX]:
        place = f"{row['topic']} {row['partition']} {row['offset']}"
        table.add_row(place, row["status"], row["type"] or "", row["subject"] or "")
    out.print(table)
    if len(rows) > ROWS_SHOWN_MAX:
        err.print(f"{len(rows) - ROWS_SHOWN_MAX} more; --json gives all")


@app.command()
def bodies(
    scheme: Annotated[
        str, typer.Option(help="What the addresses begin with: s3, or s3a for Hadoop's reader.")
    ] = "s3",
    network: Annotated[
        Path | None,
        typer.Option(help="network.json of another network; its store is in SALUS_S3_ENDPOINT and so on."),
    ] = None,
) -> None:
    """List the Parquet file of every block, for Spark, Trino and others that read S3 themselves.

    The files are named and not read: `fsck` says whether they are as signed.
    """
    _, address = checking.whom_and_where(network)
    described = network or running_platform().network.file
    try:
        keys = asyncio.run(committed_bodies(address.open().ledger, _opener(described)))
    except ArchiveError as error:
        raise not_as_signed([error]) from None
    except ObjectsError as error:
        raise store_error(error) from None
    err.print("these files are named and not checked; `salus ledger fsck` checks them", highlight=False)
    for key in keys:
        typer.echo(shown(f"{scheme}://{address.ledger_bucket}/{key}"))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL over `leaves`: one row a leaf, with `shard` and `height`.")],
    as_json: Json = False,
) -> None:
    """Ask the archive with SQL: DuckDB over the Parquet bodies of every block, each verified first."""
    platform = running_platform()
    files = asyncio.run(
        copy_archive(
            platform.bucket(LEDGER_BUCKET), _opener(platform.network.file), platform.state.folder / "query"
        )
    )
    columns, rows = ask(sql, files)
    if as_json:
        emit([dict(zip(columns, row, strict=True)) for row in rows])
        return
    table = Table(*columns, box=None, header_style="bold")
    for row in rows[:ROWS_SHOWN_MAX]:
        table.add_row(*("" if value is None else str(value) for value in row))
    out.print(table)


def _opener(network: Path) -> Opener:
    """Return what opens a shard's header notes, by the keys of a network.json."""
    origins = {one["id"]: one["origin"] for one in read_json(read_text_file(network))["shards"]}
    return Opener(read_policy(network), origins)
