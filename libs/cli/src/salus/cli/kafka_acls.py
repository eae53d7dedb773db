"""`salus kafka`: what each account at Kafka may do, planned, compared with the brokers, and put in force."""

from __future__ import annotations

import os
import shlex
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from cryptography import x509
from rich.table import Table

from salus.cli.console import Json, emit, emit_file, err, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.kafka_access import KAFKA_VARIABLE, given_kafka
from salus.cli.network_access import Directory
from salus.cli.state import running_platform
from salus.crypto.certificate_names import principal_of
from salus.devkit.network import NetworkFolder
from salus.events.membership import Membership
from salus.messaging import (
    ANY_HOST,
    Acl,
    Bootstrap,
    BrokerAwayError,
    MessagingError,
    Pattern,
    Permission,
    ResourceType,
    acls_in_force,
    add_acls,
    partitions_of,
    remove_acls,
)
from salus.runtime.identity_view import IDENTITY_TOPIC, open_identity_view
from salus.runtime.kafka_acls import Known, Plan, plan
from salus.runtime.kafka_principals import FILE_NAME, Principal, PrincipalFileError, read_principals
from salus.runtime.manifests import services
from salus.runtime.network import Network

app = typer.Typer(no_args_is_help=True, help="Accounts at Kafka, and what each may do.")
_T = TypeVar("_T")
_OPTIONS = {
    ResourceType.TOPIC: "--topic",
    ResourceType.GROUP: "--group",
    ResourceType.TRANSACTIONAL_ID: "--transactional-id",
}

Principals = Annotated[
    Path | None,
    typer.Option(help=f"Whose account is whose; by default {FILE_NAME} beside network.json.", dir_okay=False),
]


@app.command("acls")
def list_acls(  # the operator's choices
    directory: Directory = None,
    principals: Principals = None,
    script: Annotated[
        bool, typer.Option("--script", help="Print commands of kafka-acls.sh that make all of them.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the brokers with the plan; ends with 8 if they differ.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Make what the brokers lack.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="With --apply: also remove what they have beyond the plan.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the ACLs that the accounts of services, members and operators need, and no more.

    They follow from the services' manifests, the event types, and the parties on the key ring, which is read
    from Kafka. Kafka is that of SALUS_KAFKA_BOOTSTRAP and its companions, or of the platform that runs here.
    --check and --apply need an account that may describe, or alter, the cluster.
    """
    if script + check + apply > 1 or (prune and not apply):
        raise CommandError(Exit.USAGE, "give one of --script, --check and --apply; --prune is for --apply")
    folder = NetworkFolder(directory) if directory is not None else running_platform().network
    listed = _listed(principals or folder.folder / FILE_NAME)
    needs_kafka = check or apply or any(one.is_of_party for one in listed)
    kafka = _kafka() if needs_kafka else None
    made = _answer_of(_planned(folder, listed, kafka))
    for one in made.unknown:
        err.print(styled("[yellow]not on the key ring, so it gets nothing:[/] {} of {}", str(one), one.party))
    for one in made.barred:
        err.print(
            styled("[yellow]of a suspended or expelled member, so nothing:[/] {} of {}", str(one), one.party)
        )
    if kafka is not None and (check or apply):
        differences = _answer_of(_compared(made, kafka, add=apply, remove=prune))
        _tell(differences, as_json=as_json)
    elif script:
        emit_file("".join(f"{line}\n" for line in script_of(made.acls)).encode())
    else:
        _show(made, as_json=as_json)


@app.command("principal")
def show_principal(
    certificate: Annotated[
        Path, typer.Argument(help="A PEM file whose first certificate is the account's.", dir_okay=False)
    ],
) -> None:
    """Print the name that Kafka gives who shows this certificate, for the file of principals.

    It is another one where the brokers have `ssl.principal.mapping.rules`.
    """
    try:
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
        name = principal_of(subject)
    except ValueError as error:
        raise CommandError(Exit.USAGE, f"{certificate}: {error}") from None
    if not name:
        raise CommandError(Exit.NO, f"{certificate}: its subject is empty, so Kafka knows nobody by it")
    out.print(name, highlight=False, soft_wrap=True)


def _listed(file: Path) -> tuple[Principal, ...]:
    if not file.exists():
        sentence = f"{file}: No such file of principals: write it (docs/operators.md, Accounts at Kafka)"
        started = "that of a platform of this machine is written by `salus down`, `salus up --kafka-accounts`"
        raise CommandError(Exit.USAGE, f"{sentence}; {started}")
    try:
        return read_principals(file, services=[one.name for one in services() if one.is_party])
    except PrincipalFileError as error:
        raise CommandError(Exit.USAGE, str(error)) from None


def _kafka() -> Bootstrap:
    """Return the Kafka that the environment names, else that of the platform that runs here."""
    return given_kafka() if os.environ.get(KAFKA_VARIABLE) else running_platform().kafka_bootstrap


def _answer_of(asking: Coroutine[Any, Any, _T]) -> _T:
    """Run what asks Kafka; raises CommandError for what goes wrong there."""
    try:
        return run_until_signal(asking)
    except BrokerAwayError as error:
        raise CommandError(Exit.NOT_RUNNING, str(error)) from None
    except MessagingError as error:
        raise CommandError(Exit.NO, f"Kafka: {error}") from None


async def _planned(folder: NetworkFolder, listed: Sequence[Principal], kafka: Bootstrap | None) -> Plan:
    """Return the plan by the key ring as it is now; before there is one it knows the founders alone."""
    network, now = Network.read(folder.file), datetime.now(UTC)
    ring = network.new_ring()
    if kafka is not None and await partitions_of(kafka, [IDENTITY_TOPIC]):
        async with open_identity_view(kafka, network) as view:
            ring = await view.catch_up()
    parties = {one.party: ring.party_at(one.party, now) for one in listed if one.party in ring.parties}
    barred = {did for did in parties if ring.membership_of(did) is not Membership.ACTIVE}
    return plan(listed, Known(services(), ring.types.catalogue_at(now), parties, barred))


@dataclass(frozen=True, slots=True)
class Differences:
    """What the brokers lack of the plan and have beyond it, after what was done about it.

    `by_hand` is what of the surplus `--prune` leaves.
    """

    missing: Sequence[Acl]
    surplus: Sequence[Acl]
    by_hand: Sequence[Acl]
    added: Sequence[Acl] = ()
    removed: Sequence[Acl] = ()


async def _compared(made: Plan, kafka: Bootstrap, *, add: bool, remove: bool) -> Differences:
    """Return how the brokers differ from the plan, after what was to be done about it."""
    in_force = await acls_in_force(kafka)
    missing, surplus = made.missing(in_force), made.surplus(in_force)
    added = missing if add else []
    for acl in sorted(acl for acl in in_force.difference(surplus) if not acl.is_known):
        err.print(styled("[yellow]of a kind that this version does not know:[/] {}", _sentence(acl)))
    removable = made.removable(surplus)
    removed = removable if remove else []
    await add_acls(kafka, added)
    await remove_acls(kafka, removed)
    return Differences(
        [acl for acl in missing if acl not in added],
        [acl for acl in surplus if acl not in removed],
        [acl for acl in surplus if acl not in removable],
        added,
        removed,
    )


def _tell(found: Differences, *, as_json: bool) -> None:
    told = {
        "missing": found.missing,
        "surplus": found.surplus,
        "added": found.added,
        "removed": found.removed,
    }
    if as_json:
        emit({what: [_described(acl) for acl in which] for what, which in told.items()})
    else:
        for what, which in told.items():
            for acl in which:
                out.print(styled("[bold]{}[/] {}", what, _sentence(acl)), highlight=False, soft_wrap=True)
    if found.missing or found.surplus:
        sentence = (
            f"the brokers lack {len(found.missing)} ACLs of the plan and have {len(found.surplus)} beyond it"
        )
        raise CommandError(Exit.DIFFERS, sentence + _advice(found))
    if not as_json:
        out.print(
            "the brokers have the plan's ACLs, and for our accounts and on what is Salus's no others",
            highlight=False,
        )


def _advice(found: Differences) -> str:
    if found.by_hand:
        return (
            f"; --prune leaves {len(found.by_hand)}, on the cluster, on what is not Salus's, or of a kind "
            "that is not known: who is to have them is named as administrator, or loses them by hand"
        )
    return ": --apply makes what is missing, with --prune it also removes the others"


def _show(made: Plan, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "acls": [_described(acl) for acl in sorted(made.acls)],
                "unknown": [{"principal": str(one), "party": one.party} for one in made.unknown],
                "barred": [{"principal": str(one), "party": one.party} for one in made.barred],
            }
        )
        return
    table = Table("principal", "resource", "name", "operations", box=None, header_style="bold")
    for (principal, resource, name, pattern), acls in _grouped(made.acls):
        shown = name + ("*" if pattern is Pattern.PREFIXED else "")
        table.add_row(principal, resource.word, shown, ", ".join(acl.operation.word for acl in acls))
    out.print(table)


def script_of(acls: Iterable[Acl]) -> Iterator[str]:
    """Yield the lines of a shell script that makes these ACLs with Kafka's own tool."""
    yield "#!/bin/sh"
    yield "# Made by `salus kafka acls --script`. KAFKA: host:port of brokers; CONFIG: client's properties."
    yield "set -eu"
    for (principal, resource, name, pattern), grouped in _grouped(acls):
        words = ["--allow-principal", principal]
        for acl in grouped:
            words += ["--operation", acl.operation.word]
        words += [_OPTIONS[resource], name, "--resource-pattern-type", pattern.word.lower()]
        command = 'kafka-acls.sh --bootstrap-server "$KAFKA" --command-config "$CONFIG" --add --force'
        yield f"{command} {shlex.join(words)}"


def _grouped(acls: Iterable[Acl]) -> Iterator[tuple[tuple[str, ResourceType, str, Pattern], list[Acl]]]:
    for key, group in groupby(sorted(acls), lambda acl: (acl.principal, acl.resource, acl.name, acl.pattern)):
        yield key, list(group)


def _sentence(acl: Acl) -> str:
    verb = "may" if acl.permission is Permission.ALLOW else "may not"
    name = acl.name + ("*" if acl.pattern is Pattern.PREFIXED else "")
    place = "" if acl.host == ANY_HOST else f" from {acl.host}"
    return f"{acl.principal} {verb} {acl.operation.word} {acl.resource.word} {name}{place}"


def _described(acl: Acl) -> dict[str, str]:
    return {
        "principal": acl.principal,
        "resource": acl.resource.word,
        "name": acl.name,
        "pattern": acl.pattern.word,
        "operation": acl.operation.word,
        "permission": acl.permission.word,
        "host": acl.host,
    }
