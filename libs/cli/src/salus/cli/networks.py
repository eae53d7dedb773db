"""`salus network`: make a network's keys, network.json, topics and buckets, for compose and Helm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from salus.cli.console import Json, emit, err, out
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.store_errors import store_error
from salus.cli.verifying import read_policy
from salus.devkit.network import NetworkFolder, Plan, create_buckets, create_topics
from salus.devkit.waiting import until
from salus.ledger.policy import Policy
from salus.messaging import MessagingError
from salus.objects import Admin, ObjectsError, RefusedError

app = typer.Typer(no_args_is_help=True, help="The network's keys and its public description.")
PARTS_S_MAX = 120.0
PARTS = ("SALUS_KAFKA_BOOTSTRAP", "SALUS_S3_ENDPOINT", "SALUS_S3_ACCESS_KEY", "SALUS_S3_SECRET_KEY")


@app.command()
def create(  # an operator's choices
    directory: Annotated[Path, typer.Option(help="Where network.json and keys/ go.", file_okay=False)],
    origin: Annotated[
        str, typer.Option(help="The network's name; the names of its log and shards follow.")
    ] = ("salus.local/dev"),
    shards: Annotated[int, typer.Option(min=1, help="How many sequencers share the partitions.")] = 1,
    partitions: Annotated[int, typer.Option(min=1, help="Of each topic that members write.")] = 4,
    witnesses: Annotated[
        int, typer.Option(min=0, help="How many members' witnesses cosign; most of them must.")
    ] = 0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Also wait for Kafka and S3; make topics, buckets.")
    ] = False,
    owner: Annotated[str | None, typer.Option(help="UID:GID that the keys are given to.")] = None,
    as_json: Json = False,
) -> None:
    """Make keys and network.json unless they exist; with --wait topics and buckets as well.

    With --wait, Kafka and S3 are those of SALUS_KAFKA_BOOTSTRAP, SALUS_S3_ENDPOINT, SALUS_S3_ACCESS_KEY,
    SALUS_S3_SECRET_KEY and SALUS_S3_REGION.
    """
    plan = Plan(origin=origin, shards=shards, wide_partitions=partitions, witnesses=witnesses)
    folder = NetworkFolder(directory)
    network = folder.create(plan)
    if owner is not None:
        _give_to(folder, owner)
    if wait:
        run_until_signal(_prepare_parts(plan, os.environ))
    if as_json:
        emit(network)
    else:
        out.print(f"{folder.file} describes the network {network['origin']}", highlight=False, soft_wrap=True)


def _give_to(folder: NetworkFolder, owner: str) -> None:
    try:
        uid, gid = (int(part) for part in owner.split(":"))
    except ValueError:
        raise CommandError(Exit.USAGE, f"--owner is UID:GID in numbers, not {owner}") from None
    for path in (folder.folder, *folder.folder.rglob("*")):
        os.chown(path, uid, gid)


async def _prepare_parts(plan: Plan, environment: Mapping[str, str]) -> None:
    absent = [name for name in PARTS if not environment.get(name)]
    if absent:
        raise CommandError(Exit.USAGE, f"--wait needs {', '.join(absent)} in the environment")
    bootstrap, endpoint, access_key, secret_key = (environment[name] for name in PARTS)
    admin = Admin(endpoint, access_key, secret_key, environment.get("SALUS_S3_REGION", "us-east-1"))
    why = ""

    async def done() -> bool:
        nonlocal why
        try:
            await create_topics(bootstrap, plan)
            await create_buckets(admin)
        except RefusedError as error:
            raise store_error(error) from None
        except (MessagingError, ObjectsError) as error:
            why = str(error)
            err.print(f"waiting: {why}", highlight=False)
            return False
        return True

    if not await until(done, deadline_s=PARTS_S_MAX, period_s=2.0):
        raise CommandError(Exit.NOT_RUNNING, f"Kafka and S3 are not there after {PARTS_S_MAX:.0f} s: {why}")


@app.command()
def policy(
    directory: Annotated[Path, typer.Option(help="Where network.json is.", file_okay=False)],
) -> None:
    """Print the network's C2SP tlog-policy: its log, its witnesses, and who of them must cosign.

    The format has no word for where a key signs; where keys have changed, comments say it.
    """
    policy = read_policy(directory / "network.json")
    typer.echo(
        "".join(f"# {line}\n" for line in _unsaid(policy)).encode() + policy.tlog_policy.encode(), nl=False
    )


def _unsaid(policy: Policy) -> list[str]:
    """Return what the format cannot say of the keys: from where each signs, until where."""
    bounded = [period for period in policy.periods if period.first or period.end is not None]
    if not bounded:
        return []
    return [
        "These keys do not sign at every log size. A tlog-policy cannot say so: who goes by this file alone",
        "trusts each of them everywhere, also after it was retired. network.json has the periods.",
        *(
            f"{period.verifier.name} {period.verifier.key_id.hex()} from {period.first}"
            + ("" if period.end is None else f" until {period.end}")
            for period in bounded
        ),
    ]


@app.command()
def show(
    directory: Annotated[Path, typer.Option(help="Where network.json is.", file_okay=False)],
) -> None:
    """Show network.json: what everyone may know."""
    emit(NetworkFolder(directory).read())
