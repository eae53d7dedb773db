"""`salus network`: a network's keys, network.json, topics, buckets and accounts, for compose and Helm."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.console import Json, emit, emit_file, err, out
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.kafka_access import KAFKA_VARIABLE, given_kafka
from salus.cli.verifying import read_policy
from salus.devkit.hand_out import hand_out as give_each_service_its_own
from salus.devkit.network import NetworkFolder, Plan, create_buckets, described_topics
from salus.devkit.store_accounts import StoreSecrets, access, bucket_names, policy_of
from salus.devkit.waiting import until
from salus.ledger.policy import Policy
from salus.messaging import MessagingError, ensure_topics
from salus.objects import Accounts, Admin, ObjectsError, StoreAwayError

app = typer.Typer(no_args_is_help=True, help="The network's keys and its public description.")
PARTS_S_MAX = 120.0
PARTS = (KAFKA_VARIABLE, "SALUS_S3_ENDPOINT", "SALUS_S3_ACCESS_KEY", "SALUS_S3_SECRET_KEY")


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
        bool, typer.Option("--wait", help="Also wait for Kafka and MinIO; make topics, buckets, accounts.")
    ] = False,
    hand_out: Annotated[
        Path | None,
        typer.Option(help="Also give each service a folder there with what it alone needs.", file_okay=False),
    ] = None,
    owner: Annotated[str | None, typer.Option(help="UID:GID that the files are given to.")] = None,
    as_json: Json = False,
) -> None:
    """Make keys and network.json unless they exist; with --wait topics, buckets and accounts as well.

    --wait does what `salus network bootstrap --accounts` does, with the same settings.
    """
    plan = Plan(origin=origin, shards=shards, wide_partitions=partitions, witnesses=witnesses)
    folder = NetworkFolder(directory)
    network = folder.create(plan)
    if hand_out is not None:
        give_each_service_its_own(folder, hand_out)
    if owner is not None:
        # Not the hand-out itself: in a container it may be the read-only place of several volumes.
        handed_out = hand_out.rglob("*") if hand_out else ()
        _give_to((directory, *directory.rglob("*"), *handed_out), owner)
    if wait:
        run_until_signal(_bootstrap(network, folder.store_secrets, os.environ))
    if as_json:
        emit(network)
    else:
        out.print(f"{folder.file} describes the network {network['origin']}", highlight=False, soft_wrap=True)


def _give_to(paths: Iterable[Path], owner: str) -> None:
    try:
        uid, gid = (int(part) for part in owner.split(":"))
    except ValueError:
        raise CommandError(Exit.USAGE, f"--owner is UID:GID in numbers, not {owner}") from None
    for path in paths:
        # Whoever may write there could put a link to any file of this machine.
        os.chown(path, uid, gid, follow_symlinks=False)


@app.command()
def bootstrap(
    network: Annotated[Path, typer.Option(help="The network's network.json.", dir_okay=False)],
    accounts: Annotated[
        Path | None,
        typer.Option(help="Folder of ACCOUNT/access-key and secret-key: make these accounts in MinIO."),
    ] = None,
) -> None:
    """Make the network's topics and buckets unless they exist, and wait for Kafka and the store if need be.

    They are those of SALUS_KAFKA_BOOTSTRAP (with its companions for an account), SALUS_S3_ENDPOINT and
    SALUS_S3_REGION. SALUS_S3_ACCESS_KEY and SALUS_S3_SECRET_KEY must be allowed to make buckets;
    SALUS_LEDGER_BUCKET and so on say their names.
    With --accounts each service gets an account of its own in MinIO, as `salus network store-policy` says; a
    secret that changed replaces the old one. Harmless to repeat.
    """
    described = NetworkFolder(network.parent, file_name=network.name).read()
    secrets = None if accounts is None else StoreSecrets(accounts)
    run_until_signal(_bootstrap(described, secrets, os.environ))
    out.print(f"topics and buckets of {described['origin']} are there", highlight=False, soft_wrap=True)


def complete_account(incomplete: str) -> list[str]:
    """Complete the name of an account in the object store, for the shell."""
    return [account for account in access() if account.startswith(incomplete)]


@app.command("store-policy")
def store_policy(
    account: Annotated[
        str, typer.Argument(help="A service that uses the store, or reader.", autocompletion=complete_account)
    ],
) -> None:
    """Print what an account may do in the object store, as a policy of AWS IAM.

    For stores that are not MinIO. Buckets are called as SALUS_LEDGER_BUCKET and so on say.
    """
    if account not in (known := access()):
        raise CommandError(Exit.USAGE, f"there is no account {account}; there are {', '.join(known)}")
    emit(policy_of(account, _bucket_names(os.environ)))


def _bucket_names(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        bucket: environment.get(f"SALUS_{bucket.upper()}_BUCKET") or name
        for bucket, name in bucket_names().items()
    }


async def _bootstrap(
    network: Mapping[str, Any], secrets: StoreSecrets | None, environment: Mapping[str, str]
) -> None:
    absent = [name for name in PARTS if not environment.get(name)]
    if absent:
        raise CommandError(Exit.USAGE, f"{', '.join(absent)} must be in the environment")
    _, *store = (environment[name] for name in PARTS)
    kafka = given_kafka()
    facts = (*store, environment.get("SALUS_S3_REGION", "us-east-1"))
    buckets = _bucket_names(environment)
    why = ""

    async def done() -> bool:
        nonlocal why
        try:
            await ensure_topics(kafka, described_topics(network))
            await create_buckets(Admin(*facts), buckets)
            if secrets is not None:
                await secrets.install(Accounts(*facts), buckets)
        except (MessagingError, StoreAwayError) as error:
            why = str(error)
            err.print(f"waiting: {why}", highlight=False)
            return False
        except ObjectsError as error:
            # Waiting does not mend it: wrong credentials, a bucket without lock, a store that is no MinIO.
            raise CommandError(Exit.USAGE, str(error)) from None
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
    emit_file("".join(f"# {line}\n" for line in _unsaid(policy)).encode() + policy.tlog_policy.encode())


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
