"""`salus shard`: which shard seals which partitions, and changing that while everything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table
from rich.text import Text

from salus.cli.callers import As, KeyFile, call, refusal, signer_of, signing
from salus.cli.console import Json, emit, narration, out
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl
from salus.cli.sharding import Assignment, Standing, dealt, first_shards, parse_move, settled, unassigned
from salus.cli.state import running_platform
from salus.crypto.keys import load_ed25519
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
    if as_json:
        emit(_described(assignment, standings))
        return
    table = Table("shard", "partitions", "sealing", "waits for", "state", box=None, header_style="bold")
    for shard, origin in sorted(assignment.origins.items()):
        standing = standings[shard]
        assigned = sum(home == shard for home in assignment.homes.values())
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
def assign(  # an operator's choices
    count: Annotated[
        int | None, typer.Argument(min=1, help="Deal all partitions out to so many shards.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="TOPIC/PARTITION=SHARD; may be repeated, also instead of a number."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Return when every partition is handed over.")] = True,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_name: As = "operator",
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Assign partitions to shards anew: add shards, take some out, or move single partitions.

    On the platform that runs here, new shards get a key and a sequencer, and the command shows how the
    hand-over goes. Elsewhere, deploy their sequencers first (`salus shard add`), then give --directory and
    --identity. A shard without partitions ends its chain; its sequencer idles and may be removed.
    """
    if (identity is None) != (directory is None):
        raise CommandError(Exit.USAGE, "--identity and --directory belong together")
    if count is None and not move:
        raise CommandError(Exit.USAGE, "say how many shards there are to be, or --move a partition")
    if identity is not None and directory is not None:
        folder = NetworkFolder(directory)
        signer = LocalSigner(load_ed25519(key or folder.key_file(as_name)))
        answer = asyncio.run(assign_elsewhere(folder, identity, signer, count, move or []))
        _say(answer, {}, as_json=as_json)
        return
    platform = running_platform()
    signer = signer_of(platform, as_name, key)
    with narration(quiet=as_json) as narrator:
        assignment, standings = asyncio.run(
            assign_on(platform, signer, count, move or [], wait=wait, narrator=narrator)
        )
    _say(assignment, standings, as_json=as_json)


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
    before = Assignment.of((await call(platform, "identity", "GET", "/shards")).json())
    homes = _homes(before, count, moves)
    narrator.step("starting the sequencers that are new")
    platform.narrate(narrator)
    await platform.add_shards(range(max(homes.values()) + 1))
    body = _body(before, homes, platform.network)
    narrator.step(f"assigning {len(homes)} partitions to {len(set(homes.values()))} shards")
    answer = await call(platform, "identity", "POST", "/shards", signer=signer, body=body)
    assignment = Assignment.of(answer.json())
    if wait:
        await _wait(platform, assignment, narrator)
    return assignment, (await look(platform))[1]


async def assign_elsewhere(
    folder: NetworkFolder, url: str, signer: LocalSigner, count: int | None, moves: list[str]
) -> Assignment:
    """Assign where no platform runs: the shards are in the folder's network.json already.

    Raises:
        CommandError: there is nothing to change, a shard is not there, or identity refuses.
    """
    try:
        async with httpx.AsyncClient(trust_env=False, base_url=url, timeout=60) as http:
            answer = await http.get("/shards")
            if answer.is_error:
                raise refusal("identity", answer)
            before = Assignment.of(answer.json())
            homes = _homes(before, count, moves)
            if absent := sorted(set(homes.values()) - {s["id"] for s in folder.read()["shards"]}):
                sentence = (
                    f"network.json has no shard {absent[0]}: `salus shard add` it, deploy its sequencer"
                )
                raise CommandError(Exit.USAGE, sentence)
            body = _body(before, homes, folder)
            answer = await http.post("/shards", json=body, auth=signing(signer, "identity"))
            if answer.is_error:
                raise refusal("identity", answer)
    except httpx.TransportError as error:
        raise CommandError(Exit.NOT_RUNNING, f"identity does not answer: {type(error).__name__}") from error
    return Assignment.of(answer.json())


def _homes(before: Assignment, count: int | None, moves: list[str]) -> dict[tuple[str, int], int]:
    homes = dict(before.homes)
    if count is not None:
        if count > len(homes):
            raise CommandError(
                Exit.USAGE, f"the network has {len(homes)} partitions, too few for {count} shards"
            )
        homes = dealt(homes, first_shards(before.origins, count))
    try:
        homes |= dict(parse_move(text, homes) for text in moves)
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    if homes == before.homes:
        raise CommandError(Exit.NO, "every partition is assigned like that already")
    return homes


def _body(before: Assignment, homes: Mapping[tuple[str, int], int], folder: NetworkFolder) -> dict[str, Any]:
    after = Assignment(before.epoch + 1, homes, before.origins)
    entries = {shard["id"]: shard for shard in folder.read()["shards"]}
    shards = sorted({*before.origins, *homes.values()})
    added = [entries[shard] for shard in shards if shard not in before.origins]
    return {
        "epoch": after.epoch,
        "shards": [{"id": shard, "topics": after.topics_of(shard)} for shard in shards],
        "added": [{name: entry[name] for name in ("id", "origin", "verifier_key")} for entry in added],
    }


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
    assignment = Assignment.of((await call(platform, "identity", "GET", "/shards")).json())
    return assignment, await _standings(platform, assignment)


async def _standings(platform: Platform, assignment: Assignment) -> dict[int, Standing | None]:
    async with httpx.AsyncClient(trust_env=False, timeout=STATUS_S_MAX) as http:

        async def ask(shard: int) -> Standing | None:
            service = platform.services.get(sequencer_name(shard))
            if service is None:
                return None
            try:
                answer = await http.get(f"{service.url}/status")
            except httpx.TransportError:
                return None
            return Standing.of(answer.json()) if answer.is_success else None

        shards = sorted(assignment.origins)
        return dict(zip(shards, await asyncio.gather(*map(ask, shards)), strict=True))


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
