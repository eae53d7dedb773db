"""`salus key`: the keys that sign blocks, checkpoints and cosignatures; they change over without a stop."""

from __future__ import annotations

import uuid
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from salus.archive.blocks import BlockArchive
from salus.archive.log import LogReader
from salus.cli.callers import As, KeyFile, KeyId, signer_of
from salus.cli.checking import whom_and_where
from salus.cli.console import Json, emit, narration, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.past_keys import list_valid_keys
from salus.cli.shards import standing_of
from salus.cli.signed_positions import SignedPositions
from salus.cli.state import running_folder, running_platform
from salus.client import DeliveryError, Publisher
from salus.devkit.key_files import KeyEntry, KeyFiles, Owner, Role
from salus.devkit.narration import Narrator
from salus.devkit.network import NetworkFolder
from salus.devkit.platform import Platform
from salus.devkit.waiting import until
from salus.events.contexts.network import KeyRetired, KeyRotated
from salus.events.did import LocalSigner
from salus.events.errors import RejectedError
from salus.events.event_types import EventData

app = typer.Typer(no_args_is_help=True, help="The keys that sign blocks, checkpoints and cosignatures.")
TAKEN_OVER_S_MAX = 120.0
LOOK_PERIOD_S = 0.3
_NAMESPACE = uuid.UUID("0d9f3f0b-5f9c-4a55-9b0e-3f6f6f1b6a1c")


class RoleName(StrEnum):
    """Whose key."""

    SEQUENCER = "sequencer"
    LOG = "log"
    WITNESS = "witness"


class Reason(StrEnum):
    """Why a key is retired."""

    ROTATED = "rotated"
    COMPROMISED = "compromised"
    LOST = "lost"


Whose = Annotated[RoleName, typer.Argument(help="Whose key.")]
Number = Annotated[
    int | None, typer.Option(help="Which shard (from 0) or witness (from 1); the first by default.")
]


@app.command("list")
def list_keys(
    at_block: Annotated[
        str | None,
        typer.Option(
            metavar="SHARD/HEIGHT",
            help="Instead, the keys of parties that were valid at this block, from the ledger alone.",
        ),
    ] = None,
    party: Annotated[str | None, typer.Option(metavar="DID", help="With --at-block: of this party.")] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="With --at-block: network.json of another network; its store is in SALUS_S3_*."),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            help="With --at-block and --network: a copy of both buckets.", exists=True, file_okay=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the keys of shards, log and witnesses: from where each signs, and until where.

    With --at-block, list the keys of members, services, people and devices that could sign what was appended
    when that block was sealed.
    """
    if at_block is not None:
        list_valid_keys(at_block, party=party, network=network, archive=archive, as_json=as_json)
        return
    if party or network or archive:
        raise CommandError(Exit.USAGE, "--party, --network and --archive belong to --at-block")
    own = NetworkFolder(running_folder())
    if not own.file.exists():
        raise CommandError(Exit.NOT_RUNNING, f"there is no network in {own.folder}: `salus up` makes one")
    entries = KeyFiles(own).entries()
    if as_json:
        emit([_described(entry) for entry in entries])
        return
    table = Table("role", "name", "key id", "from", "until", "private key", box=None, header_style="bold")
    for entry in entries:
        until_text = "-" if entry.end is None else str(entry.end)
        held = styled("here" if entry.held else "[dim]not here[/]")
        table.add_row(entry.owner.role, entry.name, entry.key_id, str(entry.first), until_text, held)
    out.print(table)


@app.command()
def rotate(  # the choices of one rotation
    role: Whose,
    number: Number = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Let both keys sign on; `salus key retire` ends that.")
    ] = False,
    forged: Annotated[
        bool,
        typer.Option(
            "--forged",
            help="The sequencer halted on a block that somebody else sealed with its key: retire that key as "
            "compromised behind the newest block, which stays, and do not wait for the new one to sign.",
        ),
    ] = False,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Let a new key take over: it is made, recorded on the ledger, seen to sign, and the old one retired.

    Repeat it if it was interrupted: it goes on with the key that is there.
    """
    platform, owner = running_platform(), _owner(role, number)
    operator = signer_of(platform, as_name, key, key_id)
    if forged and (overlap or owner.role != "sequencer"):
        raise CommandError(Exit.USAGE, "`--forged` is for a sequencer's key, and leaves no overlap")

    async def work(narrator: Narrator) -> list[KeyEntry]:
        turn = _Turn(platform, owner, operator, narrator)
        if forged:
            await turn.require_halted()
        await turn.record_again(Reason.COMPROMISED if forged else Reason.ROTATED)
        old, *begun = turn.signing()
        new = begun[-1] if begun else await turn.begin()
        if forged:
            await turn.retire_behind(old)
            return turn.files.of(owner)
        end = await turn.taken_over(new)
        if not overlap:
            await turn.retire(old, end=end, reason=Reason.ROTATED)
        return turn.files.of(owner)

    with narration(quiet=as_json) as narrator:
        entries = run_until_signal(work(narrator))
    _show(entries, as_json=as_json)


@app.command()
def retire(  # the choices of one retirement
    role: Whose,
    number: Number = None,
    reason: Annotated[Reason, typer.Option(help="Why.")] = Reason.ROTATED,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """End the overlap that `rotate --overlap` began: the old key counts no more, and is forgotten here.

    What it signed before stays valid. Repeat it if it was interrupted.
    """
    platform, owner = running_platform(), _owner(role, number)
    operator = signer_of(platform, as_name, key, key_id)

    async def work(narrator: Narrator) -> list[KeyEntry]:
        turn = _Turn(platform, owner, operator, narrator)
        again = await turn.record_again(reason)
        old, *begun = turn.signing()
        if begun:
            await turn.retire(old, end=await turn.taken_over(begun[-1]), reason=reason)
        elif not again:
            raise CommandError(Exit.NO, f"only one key of {old.name} signs: rotate it first")
        return turn.files.of(owner)

    with narration(quiet=as_json) as narrator:
        entries = run_until_signal(work(narrator))
    _show(entries, as_json=as_json)


class _Turn:
    """One change of keys on the platform that runs."""

    def __init__(self, platform: Platform, owner: Owner, operator: LocalSigner, narrator: Narrator) -> None:
        self.files = KeyFiles(platform.network)
        self._platform = platform
        self._owner = owner
        self._operator = operator
        self._narrator = narrator
        stores = whom_and_where(None)[1].open()
        self._positions = SignedPositions(
            platform.network, BlockArchive(stores.ledger), LogReader(stores.log)
        )

    def signing(self) -> list[KeyEntry]:
        """Return the keys that are not retired, the oldest first.

        Raises:
            CommandError: the chain of the shard has ended, so that none of its keys signs any more.
        """
        entries = self.files.of(self._owner)
        keys = [entry for entry in entries if entry.end is None]
        if not keys:
            ended = max(entry.end or 0 for entry in entries)
            why = f"the chain of {entries[0].name} ended before block {ended}: no key of it signs any more"
            raise CommandError(Exit.NO, why)
        return keys

    async def record_again(self, reason: Reason) -> bool:
        """Record the last change once more, in case an earlier call did not get there; tell if there was one.

        The event has the same id each time, and the ledger takes it once.
        """
        entries = self.files.of(self._owner)
        _, *begun = self.signing()
        retired = [entry for entry in entries if entry.end is not None]
        if begun:
            await self._record_new(begun[-1])
        elif retired:
            last = max(retired, key=lambda entry: entry.end or 0)
            if last.held and last.end is not None:
                self.files.retire(last, end=last.end)
            await self._record_end(last, reason)
        return bool(begun or retired)

    async def begin(self) -> KeyEntry:
        """Make the new key, which signs beside the old one from the next block or checkpoint on."""
        self._narrator.step("making a key and describing it in network.json")
        entry = self.files.add(self._owner, first=await self._positions.next(self._owner))
        self._narrator.step("recording it on the ledger")
        await self._record_new(entry)
        return entry

    async def taken_over(self, entry: KeyEntry) -> int:
        """Wait until the key signed the last block or checkpoint; return the position behind that.

        Only from there on may an older key count no more: in an overlap a replica may have sealed with that
        one alone, above blocks that both keys signed.

        Raises:
            CommandError: that did not come about in TAKEN_OVER_S_MAX; both keys go on, nothing is lost.
        """
        self._narrator.step(f"waiting for a signature of {entry.name} {entry.key_id}")
        end: int | None = None

        async def signed() -> bool:
            nonlocal end
            end = await self._positions.end_of_signed(entry)
            return end is not None

        if not await until(signed, deadline_s=TAKEN_OVER_S_MAX, period_s=LOOK_PERIOD_S) or end is None:
            raise CommandError(
                Exit.NOT_RUNNING,
                f"the new key of {entry.name} did not sign what is newest in {TAKEN_OVER_S_MAX:.0f} s; "
                "both keys count until `salus key retire`",
            )
        return end

    async def require_halted(self) -> None:
        """Raise unless the sequencer halted or is stopped: what it seals meanwhile would not count."""
        standing = await standing_of(self._platform, self._owner.number)
        if standing is not None and not standing.halted:
            raise CommandError(
                Exit.NO,
                f"the sequencer of shard {self._owner.number} seals: rotate its key without --forged",
            )

    async def retire_behind(self, entry: KeyEntry) -> None:
        """Let a stolen key count no more behind the newest block, whoever sealed that."""
        await self.retire(entry, end=await self._positions.next(self._owner), reason=Reason.COMPROMISED)

    async def retire(self, entry: KeyEntry, *, end: int, reason: Reason) -> None:
        """Let the old key count no more from a position behind all that it signed alone."""
        self._narrator.step(f"retiring {entry.name} {entry.key_id}")
        stands = self.files.retire(entry, end=end)
        await self._record_end(replace(entry, end=stands), reason)

    async def _record_new(self, entry: KeyEntry) -> None:
        data = KeyRotated(
            name=entry.name, role=self._owner.role, verifier_key=entry.verifier_key, first=entry.first
        )
        await self._publish(data, entry.name, f"rotated {entry.verifier_key} {entry.first}")

    async def _record_end(self, entry: KeyEntry, reason: Reason) -> None:
        await record_end(self._platform, self._operator, entry, reason)

    async def _publish(self, data: EventData, subject: str, change: str) -> None:
        await _publish(self._platform, self._operator, data, subject, change)


async def record_end(platform: Platform, operator: LocalSigner, entry: KeyEntry, reason: Reason) -> None:
    """Record on the ledger where a key ended; told twice it has the same id, and the ledger takes it once.

    Raises:
        CommandError: it could not be recorded.
    """
    data = KeyRetired(
        name=entry.name,
        role=entry.owner.role,
        verifier_key=entry.verifier_key,
        end=entry.end or 0,
        reason=reason.value,
    )
    await _publish(platform, operator, data, entry.name, f"retired {entry.verifier_key} {entry.end}")


async def _publish(
    platform: Platform, operator: LocalSigner, data: EventData, subject: str, change: str
) -> None:
    try:
        async with Publisher(platform.kafka_bootstrap, operator) as publisher:
            handle = await publisher.publish(data, subject=subject, id=str(uuid.uuid5(_NAMESPACE, change)))
            await handle.position()
    except RejectedError as error:
        raise CommandError(Exit.NO, f"not recorded: {error}") from None
    except DeliveryError as error:
        raise CommandError(Exit.NOT_RUNNING, f"not recorded: {error}") from None


def _owner(role: RoleName, number: int | None) -> Owner:
    least: dict[Role, int] = {"sequencer": 0, "log": 0, "witness": 1}
    if role is RoleName.LOG and number is not None:
        raise CommandError(Exit.USAGE, "there is one log")
    return Owner(role.value, least[role.value] if number is None else number)


def _described(entry: KeyEntry) -> dict[str, Any]:
    return {
        "role": entry.owner.role,
        "number": entry.owner.number,
        "name": entry.name,
        "key_id": entry.key_id,
        "verifier_key": entry.verifier_key,
        "from": entry.first,
        "until": entry.end,
        "held": entry.held,
    }


def _show(entries: list[KeyEntry], *, as_json: bool) -> None:
    if as_json:
        emit([_described(entry) for entry in entries])
        return
    for entry in entries:
        span = f"from {entry.first}" + ("" if entry.end is None else f" until {entry.end}")
        mark = styled("[green]signs[/]" if entry.end is None else "[dim]signed[/]")
        out.print(styled("{} {} {} {}", entry.name, entry.key_id, mark, span))
