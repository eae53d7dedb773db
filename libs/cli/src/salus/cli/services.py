"""`salus service`: take a service on that was installed after the network was made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from salus.cli.callers import As, KeyFile, KeyId, RefusedError, signer_in
from salus.cli.console import Json, emit, narration, out
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError
from salus.cli.interrupts import run_until_signal
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.party_commands import ToApprove, ask_for_approval
from salus.cli.service_admission import (
    Admission,
    admission_of,
    admit,
    installed_service,
    registration,
)
from salus.cli.state import alone, require_service, running_folder, running_platform
from salus.devkit.narration import Narrator
from salus.devkit.network import OPERATOR
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner
from salus.runtime.manifests import Manifest

app = typer.Typer(no_args_is_help=True, help="Services that join the network while it runs.")


@app.callback()
def _group() -> None:
    """Services that join the network while it runs."""


@app.command()
def add(  # an operator's choices
    name: Annotated[str, typer.Argument(help="The service, as its manifest names it; it is installed here.")],
    shard: Annotated[
        int | None, typer.Option(min=0, help="Which shard seals its topic; by default that of identity's.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what is to be done, and do nothing.")] = False,
    to_approve: ToApprove = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_name: As = OPERATOR,
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Let a service join: register it with its role, and let a shard seal its topic.

    It may be run again at any time and goes on where it was. On the platform that runs here the service gets
    key, topic and account, all services learn its event types, and it is started. Elsewhere, first install
    its package in the image of every service and make its topic (`salus network bootstrap`).
    """
    manifest = installed_service(name)
    if identity is None and not plan:
        # A command that was killed may have left the platform without identity.
        with alone(running_folder()), narration(quiet=as_json) as narrator:
            platform = running_platform()
            platform.narrate(narrator)
            run_until_signal(platform.start_services(with_halted=True))
    network = NetworkAccess.of(directory, identity)
    operator = partial(network.signer, as_name, key, key_id)
    admission = asyncio.run(admission_of(manifest, network))
    if not as_json:
        show_steps(admission)
    if plan:
        if as_json:
            emit(_described(admission))
        return
    if to_approve is not None and not admission.is_registered:
        own = network.folder.ensure_service_key(name)
        line = registration(manifest, own, network=network.origin, now=datetime.now(UTC))
        ask_for_approval(
            to_approve,
            line,
            network=network,
            signer=operator(),
            key_file=network.folder.key_file(name),
            as_json=as_json,
        )
        return
    if identity is not None:
        admitted = asyncio.run(admit(manifest, network, operator, shard=shard))
    else:
        with alone(running_folder()), narration(quiet=as_json) as narrator:
            platform = running_platform()
            platform.narrate(narrator)
            admitted = run_until_signal(_join_here(platform, manifest, operator, narrator, shard=shard))
    if as_json:
        emit(_described(admitted))
    else:
        out.print(f"{name} has joined the network as {admitted.did}", highlight=False, soft_wrap=True)


async def join_new_services(platform: Platform, narrator: Narrator) -> dict[str, str]:
    """Let every service join that is installed and new to the platform that runs; return who cannot, and why.

    A network of several operators wants a second one, and that is for people to say.
    """
    waiting: dict[str, str] = {}
    operator = partial(signer_in, platform.network, OPERATOR, None)
    for manifest in platform.network.new_services():
        try:
            await _join_here(platform, manifest, operator, narrator)
        except CommandError as error:
            seconded = f"two operators let it join: `salus service add {manifest.name} --to-approve FILE`"
            alone = isinstance(error, RefusedError) and error.problem == "second-operator-needed"
            waiting[manifest.name] = seconded if alone else str(error)
    return waiting


async def _join_here(
    platform: Platform,
    manifest: Manifest,
    operator: Callable[[], LocalSigner],
    narrator: Narrator,
    *,
    shard: int | None = None,
) -> Admission:
    """Do all that makes a service of the platform, where every service knows its types.

    A crash leaves some of it, and each of these does nothing where it is done.
    """
    network = NetworkAccess(platform.network, require_service(platform, "identity"))
    if not (await admission_of(manifest, network)).is_complete:
        narrator.step(f"{manifest.name} joins the network")
    platform.network.ensure_service_key(manifest.name)
    await platform.make_resources()
    admission = await admit(manifest, network, operator, shard=shard)
    await platform.start_services([manifest.name])
    return admission


def show_steps(admission: Admission) -> None:
    """Write what is done and what is to do."""
    for done, step in admission.steps():
        mark = styled("[green]done[/]  ") if done else styled("[yellow]to do[/] ")
        out.print(mark + plain(step), highlight=False, soft_wrap=True)


def _described(admission: Admission) -> dict[str, object]:
    return {
        "service": admission.name,
        "did": admission.did,
        "registered": admission.is_registered,
        "sealed": [topic for topic in admission.topics if topic not in admission.unsealed],
        "complete": admission.is_complete,
    }
