"""`salus approve` and `salus party submit`: the second operator's part, and what the first does with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from salus.cli.approval_files import (
    ApprovalDocument,
    ApprovalRequest,
    approve_request,
    read_approval,
    read_request,
    require_another,
    written,
)
from salus.cli.callers import As, KeyFile, KeyId, complete_caller, origin_of, signer_in
from salus.cli.confirmation import require_yes
from salus.cli.console import Json, emit, err, narration, out
from salus.cli.display import shown, shown_moment, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, NetworkAccess
from salus.cli.proven_keys import fingerprint
from salus.cli.request_acts import Act, act_of
from salus.cli.schema_display import change_lines
from salus.cli.shard_sequencers import send_assignment, start_lacking
from salus.cli.state import running_folder, running_platform
from salus.cli.type_facts import active_schema, event_type
from salus.client.auth import RequestLine
from salus.devkit.errors import NotRunningError
from salus.devkit.network import OPERATOR, NetworkFolder
from salus.devkit.platform import Platform
from salus.devkit.public_files import write_public
from salus.events.bearer import APPROVAL_LIFETIME_S_MAX
from salus.events.did import LocalSigner

HOURS_DEFAULT = 8
HOURS_MAX = APPROVAL_LIFETIME_S_MAX // 3600

RequestFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="What --to-approve wrote.", exists=True, dir_okay=False),
]
ServiceUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        "--identity",
        "--consent",
        help="URL of the service that the request is for, where no platform runs here.",
    ),
]


def approve(
    file: RequestFile,
    as_name: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Whose key in the network's folder signs: operator, or a name.",
            autocompletion=complete_caller,
        ),
    ] = None,
    key: KeyFile = None,
    key_id: KeyId = None,
    hours: Annotated[
        int, typer.Option(min=1, max=HOURS_MAX, help="How long the approval is good.")
    ] = HOURS_DEFAULT,
    to: Annotated[
        Path | None, typer.Option(help="Write the approval here; on stdout by default.", dir_okay=False)
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Folder of network.json; that of the platform here by default.", file_okay=False),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="URL of the identity service: compare what the file says of parties with it."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without asking, for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """Show what another operator asks for, in plain words, and sign an approval of it; offline if need be.

    It approves just this request, to the byte, once, and says until when. Give the approval to who asks, for
    `salus party submit`. Without --as or --key it shows the request and signs nothing.
    """
    folder = NetworkFolder(directory or running_folder())
    now = datetime.now(UTC)
    read = read_request(file, network=origin_of(folder), now=now)
    act = act_of(read.request, at=now)
    signer = None if as_name is None and key is None else signer_in(folder, as_name or "", key, key_id)
    _show(read.request, act)
    network = _identity(folder, identity, elsewhere=directory is not None)
    _compare(read.request, act, network)
    if signer is None:
        raise CommandError(Exit.USAGE, "nothing was signed: say who approves, with --as NAME or --key FILE")
    require_another(read.request, signer)
    if network is not None:
        asyncio.run(_require_second(network, read.request, signer))
    until = min(now + timedelta(hours=hours), act.proven_until or read.until)
    sentence = styled(
        "You are {}. The approval would be good once, until {}.", signer.did, shown_moment(until)
    )
    err.print(sentence, soft_wrap=True, highlight=False)
    if not yes:
        require_yes("Approve?", undone="nothing was approved")
    lifetime_s = int(until.timestamp()) - int(now.timestamp())
    _hand_over(approve_request(read.request, signer, now=now, lifetime_s=lifetime_s), to, as_json=as_json)


def submit(
    file: RequestFile,
    approval: Annotated[Path, typer.Option(help="What `salus approve` wrote.", exists=True, dir_okay=False)],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    url: ServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Send a request that another operator has approved, as who asked for it.

    On the platform that runs here, shards that get partitions by it have sequencers then, removed ones too.
    """
    folder = NetworkFolder(directory or running_folder())
    now = datetime.now(UTC)
    request = read_request(file, network=origin_of(folder), now=now).request
    network = NetworkAccess.of_service(request.service, directory, url)
    document = read_approval(approval, request, now=now)
    signer = network.signer(as_name, key, key_id)
    if signer.did != request.asked_by:
        why = f"{shown(request.asked_by)} asked for it, and {signer.did} cannot send it: --as or --key"
        raise CommandError(Exit.USAGE, why)
    act = act_of(request, at=now)
    platform = running_platform() if act.shards and url is None else None
    with narration(quiet=as_json) as narrator:
        if platform is None:
            sent = network.command(request.line, signer=signer, approval=document.approval)
        else:
            platform.narrate(narrator)
            sent = _assign(platform, act, request.line, network, signer, document.approval)
        answer = asyncio.run(sent)
    if as_json:
        emit(answer)
        return
    sentence = styled("done: {} {}, approved by {}", act.name, act.about, document.approved_by)
    out.print(sentence, highlight=False, soft_wrap=True)


async def _assign(  # a command, and whom it is for
    platform: Platform,
    act: Act,
    line: RequestLine,
    network: NetworkAccess,
    signer: LocalSigner,
    approval: str,
) -> dict[str, Any]:
    """Send an assignment to the platform that runs here, whose sequencers may have been removed since."""
    started = await start_lacking(platform, act.shards)
    return await send_assignment(line, network, signer, platform=platform, started=started, approval=approval)


def _show(request: ApprovalRequest, act: Act) -> None:
    err.print(styled("On the network {}", request.network), soft_wrap=True)
    err.print(styled("{} asks to", request.asked_by), soft_wrap=True)
    for line in act.lines:
        err.print(line, soft_wrap=True, highlight=False)
    sentence = styled("The file is signed with the asker's key {}", request.key.id)
    err.print(sentence, soft_wrap=True, highlight=False)
    err.print(styled("  fingerprint {}", fingerprint(request.key.multibase)), soft_wrap=True, highlight=False)


def _identity(folder: NetworkFolder, url: str | None, *, elsewhere: bool) -> NetworkAccess | None:
    """Return where identity is: at this URL, else on the platform that runs here; None: nobody says."""
    if url is not None:
        return NetworkAccess(folder, url)
    try:
        return None if elsewhere else NetworkAccess.of(None, None)
    except (NotRunningError, CommandError):
        return None


def _compare(request: ApprovalRequest, act: Act, network: NetworkAccess | None) -> None:
    """Say whether identity tells the same of the parties as the file.

    Raises:
        CommandError: it does not, or it cannot be asked.
    """
    if network is None:
        warning = styled(
            "[yellow]Not compared with identity[/] (--identity): let who asks read you the fingerprints"
        )
        err.print(warning, soft_wrap=True, highlight=False)
        if not request.names_its_key:
            doubt = styled("[yellow]Whether that key is of who is said to ask, identity alone can tell[/]")
            err.print(doubt, soft_wrap=True, highlight=False)
        return
    asyncio.run(_require_same(network, request, act))
    err.print(styled("[green]✓[/] identity tells the same of these parties"), soft_wrap=True)
    if act.schema is not None:
        active = asyncio.run(_active(network, act.about))
        for line in change_lines(active, act.schema):
            err.print(line, soft_wrap=True, highlight=False)


async def _active(network: NetworkAccess, name: str) -> bytes | None:
    return await active_schema(network, await event_type(network, name))


async def _require_same(network: NetworkAccess, request: ApprovalRequest, act: Act) -> None:
    asker = await network.party(request.asked_by)
    if not any(
        (key.id, key.multibase) == (request.key.id, request.key.multibase) for key in asker.signing_keys
    ):
        raise CommandError(
            Exit.NO, f"key: identity knows no such key that signs for {shown(request.asked_by)}"
        )
    if request.party is not None and await network.party(act.about) != request.party:
        raise CommandError(
            Exit.NO, "party: identity tells something else of it than the file: ask for a new request"
        )


async def _require_second(network: NetworkAccess, request: ApprovalRequest, signer: LocalSigner) -> None:
    """Raise CommandError if identity would not take the signer for a second operator."""
    asker, approver = await network.party(request.asked_by), await network.party(signer.did)
    if signer.verification_method not in {key.id for key in approver.signing_keys}:
        raise CommandError(Exit.USAGE, f"--key-id: {signer.did} has no such key that signs")
    if OPERATOR not in approver.roles:
        raise CommandError(Exit.NO, f"{signer.did} is no operator, so its approval is worth nothing")
    if approver.organisation == asker.organisation:
        sentence = "who asks is of your organisation: an operator of another one must approve"
        raise CommandError(Exit.NO, sentence)


def _hand_over(document: ApprovalDocument, to: Path | None, *, as_json: bool) -> None:
    if to is not None:
        write_public(to, written(document))
    if to is None or as_json:
        emit(msgspec.to_builtins(document))
    else:
        out.print(
            f"the approval is in {to}, until {shown_moment(document.until)}", highlight=False, soft_wrap=True
        )
