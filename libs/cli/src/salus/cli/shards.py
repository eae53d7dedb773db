"""`salus shard`: which shard seals which partitions, and changing that while everything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table
from rich.text import Text

from salus.cli.callers import (
    ANSWER_BYTES_MAX,
    As,
    KeyFile,
    KeyId,
    call,
    json_body,
)
from salus.cli.console import Json, emit, narration, out
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.party_commands import ToApprove, ask_for_approval
from salus.cli.shard_sequencers import present_assignment, remove_idle, send_assignment
from salus.cli.sharding import (
    Assignment,
    Standing,
    dealt,
    ended_shards,
    first_shards,
    parse_move,
    read_assignment,
    read_standing,
    require_shards,
    settled,
    unassigned,
)
from salus.cli.state import running_platform
from salus.client.auth import RequestLine
from salus.client.bounded_http import bounded_client
from salus.devkit.narration import Narrator
from salus.devkit.network import NetworkFolder
from salus.devkit.platform import Platform
from salus.devkit.services import sequencer_name
from salus.devkit.waiting import until
from salus.events.did import LocalSigner

app = typer.Typer(no_args_is_help=True, help="Which shard seals which partitions.")
SETTLED_S_MAX = 300.0
STATUS_S_MAX = 5.0
LOOK_PERIOD_S = 0.3


@app.command("list")
def list_shards(as_json: Json = False) -> None:
    """List the shards: what each is assigned, how far it has sealed it, and what it waits for."""
    platform = running_platform()
    assignment, standings = asyncio.run(look(platform))
    removed = platform.state.removed_shards()
    if as_json:
        emit(_described(assignment, standings))
        return
    table = Table("shard", "partitions", "sealing", "waits for", "state", box=None, header_style="bold")
    for shard, origin in sorted(assignment.origins.items()):
        standing = standings[shard]
        assigned = sum(home == shard for home in assignment.homes.values())
        if shard in removed and not assigned:
            state = styled("[dim]ended: its sequencer is removed[/]")
        else:
            state = _state(standing, assignment.epoch, assigned)
        sealing, awaited = (len(standing.sealing), len(standing.awaited)) if standing else ("?", "?")
        table.add_row(origin, str(assigned), str(sealing), str(awaited), state)
    out.print(table)
    out.print(styled("[dim]assignment[/] {}", assignment.epoch))
    for topic, partition in unassigned(standings):
        way_out = f"`salus shard assign --move {topic}/{partition}=SHARD`"
        out.print(styled("[red]no shard seals[/] {}: {}", f"{topic} {partition}", way_out))


@app.command()
def add(
    directory: Annotated[Path, typer.Option(help="Folder of network.json and keys/.", file_okay=False)],
    shard: Annotated[int, typer.Argument(min=0, help="The id of the new shard.")],
    as_json: Json = False,
) -> None:
    """Make a shard's key and its place in network.json, before its sequencer is deployed.

    It seals nothing until `salus shard assign` says so. Give the new network.json to everyone who verifies.
    """
    entry = NetworkFolder(directory).add_shard(shard)
    if as_json:
        emit(entry)
    else:
        out.print(f"{entry['origin']} is in network.json; its key is keys/shard-{shard}.pem", highlight=False)


@app.command()
def remove(shard: Annotated[int, typer.Argument(min=0, help="The id of the shard.")]) -> None:
    """Remove the sequencer of a shard that seals nothing, on the platform that runs here.

    Its chain, its keys and its receipts stay. An assignment that gives it partitions brings it back.
    """
    platform = running_platform()
    asyncio.run(_require_ended(platform, shard))
    if run_until_signal(remove_idle(platform, [shard])):
        raise CommandError(Exit.NO, f"shard {shard} was assigned partitions just now: its sequencer stays")
    out.print(f"{sequencer_name(shard)} is removed; its chain stays", highlight=False, soft_wrap=True)


async def _require_ended(platform: Platform, shard: int) -> None:
    """Raise CommandError unless a shard has nothing to seal, and its chain says so."""
    if shard not in {known["id"] for known in platform.network.read()["shards"]}:
        raise CommandError(Exit.USAGE, f"the network has no shard {shard}")
    if sequencer_name(shard) not in platform.services:
        raise CommandError(Exit.NO, f"{sequencer_name(shard)} does not run")
    assignment, standings = await look(platform)
    if assigned := sum(home == shard for home in assignment.homes.values()):
        sentence = f"shard {shard} has {assigned} partitions: `salus shard assign` them to others first"
        raise CommandError(Exit.NO, sentence)
    if shard not in assignment.origins or shard in ended_shards(platform.network.read()):
        return
    standing = standings[shard]
    if standing is None or standing.epoch != assignment.epoch or standing.sealing or standing.awaited:
        raise CommandError(Exit.NO, f"shard {shard} has not handed everything over: see `salus shard list`")


@app.command()
def assign(  # an operator's choices
    count: Annotated[
        int | None, typer.Argument(min=1, help="Deal all partitions out to so many shards.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="TOPIC/PARTITION=SHARD; may be repeated, also instead of a number."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Return when every partition is handed over.")] = True,
    to_approve: ToApprove = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Assign partitions to shards anew: add shards, take some out, or move single partitions.

    On the platform that runs here, new shards get a key and a sequencer, and the command shows how the
    hand-over goes. Elsewhere, deploy their sequencers first (`salus shard add`), then give --directory and
    --identity. A shard that is new needs two operators (--to-approve). One without partitions ends its chain;
    its sequencer idles and may be removed (`salus shard remove`).
    """
    if count is None and not move:
        raise CommandError(Exit.USAGE, "say how many shards there are to be, or --move a partition")
    network = NetworkAccess.of(directory, identity)
    signer = network.signer(as_name, key, key_id)
    platform = running_platform() if identity is None else None
    with narration(quiet=as_json) as narrator:
        started: Collection[int] = ()
        if platform is None:
            line = asyncio.run(_line_elsewhere(network, count, move or []))
        else:
            line, started = asyncio.run(_line_on(platform, network, count, move or [], narrator))
        if to_approve is None:
            sent = _carry_out(
                line, network, signer, platform=platform, started=started, wait=wait, narrator=narrator
            )
            assignment, standings = asyncio.run(sent)
    if to_approve is None:
        _say(assignment, standings, as_json=as_json)
    else:
        ask_for_approval(to_approve, line, network=network, signer=signer, as_json=as_json)


async def assign_on(  # the choices of one command
    platform: Platform,
    signer: LocalSigner,
    count: int | None,
    moves: list[str],
    *,
    wait: bool,
    narrator: Narrator,
) -> tuple[Assignment, dict[int, Standing | None]]:
    """Assign on the platform that runs, with a sequencer for each shard; `wait`: until all is handed over.

    Raises:
        CommandError: there is nothing to change, identity refuses, or it takes longer than SETTLED_S_MAX.
    """
    network = NetworkAccess(platform.network, platform.service_url("identity"))
    line, started = await _line_on(platform, network, count, moves, narrator)
    return await _carry_out(
        line, network, signer, platform=platform, started=started, wait=wait, narrator=narrator
    )


async def assign_elsewhere(
    network: NetworkAccess, signer: LocalSigner, count: int | None, moves: list[str]
) -> Assignment:
    """Assign where no platform runs: the shards are in the folder's network.json already.

    Raises:
        CommandError: there is nothing to change, a shard is not there, or identity refuses.
    """
    line = await _line_elsewhere(network, count, moves)
    return Assignment.of(await network.command(line, signer=signer))


async def _line_on(
    platform: Platform, network: NetworkAccess, count: int | None, moves: list[str], narrator: Narrator
) -> tuple[RequestLine, set[int]]:
    """Return the request that assigns so, and the shards whose sequencers were started for it."""
    before = await present_assignment(network)
    homes = _homes(before, count, moves, network.folder)
    try:
        require_shards(homes, [shard["id"] for shard in network.folder.read()["shards"]])
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    narrator.step("starting the sequencers that are new")
    platform.narrate(narrator)
    shards = set(homes.values())
    idle = shards.difference(before.homes.values())
    started = {shard for shard in idle if sequencer_name(shard) not in platform.services}
    await platform.add_shards(sorted(shards))
    return _line(before, homes, platform.network), started


async def _line_elsewhere(network: NetworkAccess, count: int | None, moves: list[str]) -> RequestLine:
    before = await present_assignment(network)
    homes = _homes(before, count, moves, network.folder)
    if absent := sorted(set(homes.values()) - {s["id"] for s in network.folder.read()["shards"]}):
        sentence = f"network.json has no shard {absent[0]}: `salus shard add` it, deploy its sequencer"
        raise CommandError(Exit.USAGE, sentence)
    return _line(before, homes, network.folder)


async def _carry_out(
    line: RequestLine,
    network: NetworkAccess,
    signer: LocalSigner,
    *,
    platform: Platform | None,
    started: Collection[int],
    wait: bool,
    narrator: Narrator,
) -> tuple[Assignment, dict[int, Standing | None]]:
    """Send the request; return where the platform's shards are then, if one runs here."""
    narrator.step("assigning the partitions")
    if platform is None:
        return Assignment.of(await network.command(line, signer=signer)), {}
    answer = await send_assignment(line, network, signer, platform=platform, started=started)
    assignment = Assignment.of(answer)
    if wait:
        await _wait(platform, assignment, narrator)
    return assignment, (await look(platform))[1]


def _homes(
    before: Assignment, count: int | None, moves: list[str], folder: NetworkFolder
) -> dict[tuple[str, int], int]:
    homes, ended = dict(before.homes), ended_shards(folder.read())
    if count is not None:
        if count > len(homes):
            raise CommandError(
                Exit.USAGE, f"the network has {len(homes)} partitions, too few for {count} shards"
            )
        homes = dealt(homes, first_shards(before.origins, count, without=ended))
    try:
        homes |= dict(parse_move(text, homes) for text in moves)
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    for (topic, partition), home in homes.items():
        if home in ended and before.homes.get((topic, partition)) != home:
            raise CommandError(Exit.USAGE, f"the chain of shard {home} has ended: nothing can be moved to it")
    if homes == before.homes:
        raise CommandError(Exit.NO, "every partition is assigned like that already")
    return homes


def _line(before: Assignment, homes: Mapping[tuple[str, int], int], folder: NetworkFolder) -> RequestLine:
    after = Assignment(before.epoch + 1, homes, before.origins)
    entries = {shard["id"]: shard for shard in folder.read()["shards"]}
    shards = sorted({*before.origins, *homes.values()})
    added = [entries[shard] for shard in shards if shard not in before.origins]
    body = {
        "epoch": after.epoch,
        "shards": [{"id": shard, "topics": after.topics_of(shard)} for shard in shards],
        "added": [{name: entry[name] for name in ("id", "origin", "verifier_key")} for entry in added],
    }
    return RequestLine("POST", "/shards", json_body(body))


async def _wait(platform: Platform, assignment: Assignment, narrator: Narrator) -> None:
    total = len(assignment.homes)
    narrator.step(f"handing over: {total} partitions")
    lacking: set[tuple[str, int]] = set()
    standings: dict[int, Standing | None] = {}

    async def done() -> bool:
        nonlocal lacking, standings
        standings = await _standings(platform, assignment)
        lacking = set(assignment.homes) - settled(assignment, standings)
        narrator.update(
            f"handing over: {total - len(lacking)} of {total} partitions are where they should be"
        )
        return not lacking

    if not await until(done, deadline_s=SETTLED_S_MAX, period_s=LOOK_PERIOD_S):
        topic, partition = min(lacking)
        why = "; ".join(f"shard {s}: {st.trouble}" for s, st in standings.items() if st and st.trouble)
        sentence = (
            f"{topic} {partition} and {len(lacking) - 1} more are not handed over after {SETTLED_S_MAX:.0f} s"
        )
        raise CommandError(Exit.NO, f"{sentence}; {why or 'does every sequencer run? `salus shard list`'}")


async def look(platform: Platform) -> tuple[Assignment, dict[int, Standing | None]]:
    """Return the assignment in force and where each shard is; None for a sequencer that does not answer."""
    assignment = read_assignment((await call(platform, "identity", "GET", "/shards")).content)
    return assignment, await _standings(platform, assignment)


async def _standings(platform: Platform, assignment: Assignment) -> dict[int, Standing | None]:
    async with bounded_client(ANSWER_BYTES_MAX, trust_env=False, timeout=STATUS_S_MAX) as http:
        shards = sorted(assignment.origins)
        asked = (_standing(platform, shard, http) for shard in shards)
        return dict(zip(shards, await asyncio.gather(*asked), strict=True))


async def standing_of(platform: Platform, shard: int) -> Standing | None:
    """Return where one shard is; None if its sequencer does not answer."""
    async with bounded_client(ANSWER_BYTES_MAX, trust_env=False, timeout=STATUS_S_MAX) as http:
        return await _standing(platform, shard, http)


async def _standing(platform: Platform, shard: int, http: httpx.AsyncClient) -> Standing | None:
    service = platform.services.get(sequencer_name(shard))
    if service is None:
        return None
    try:
        answer = await http.get(f"{service.url}/status")
    except httpx.TransportError:
        return None
    return read_standing(answer.content) if answer.is_success else None


def _state(standing: Standing | None, epoch: int, assigned: int) -> Text:
    if standing is None:
        return styled("[red]does not answer[/]")
    if standing.trouble:
        return plain(standing.trouble, "red")
    if standing.epoch != epoch or standing.awaited or len(standing.sealing) != assigned:
        return styled("[yellow]handing over[/]")
    return styled("[green]sealing[/]" if assigned else "[dim]ended: seals nothing[/]")


def _described(assignment: Assignment, standings: Mapping[int, Standing | None]) -> dict[str, Any]:
    return {
        "epoch": assignment.epoch,
        "settled": settled(assignment, standings) == set(assignment.homes),
        "unassigned": [list(at) for at in unassigned(standings)],
        "shards": [
            {
                "id": shard,
                "origin": origin,
                "assigned": assignment.topics_of(shard),
                "sealing": _numbers(standing.sealing) if standing else None,
                "awaited": [list(at) for at in standing.awaited] if standing else None,
                "trouble": standing.trouble if standing else "does not answer",
            }
            for shard, origin in sorted(assignment.origins.items())
            for standing in [standings.get(shard)]
        ],
    }


def _numbers(sealing: Mapping[tuple[str, int], int]) -> list[dict[str, Any]]:
    return [{"topic": t, "partition": p, "next": following} for (t, p), following in sorted(sealing.items())]


def _say(assignment: Assignment, standings: Mapping[int, Standing | None], *, as_json: bool) -> None:
    if as_json:
        emit(_described(assignment, standings))
        return
    done = settled(assignment, standings) == set(assignment.homes)
    how = (
        "every partition is where it should be"
        if done
        else "the sequencers hand over; see `salus shard list`"
    )
    out.print(f"assignment {assignment.epoch} is in force: {how}", highlight=False, soft_wrap=True)
