"""`salus ledger monitor`: follow a log from outside, and keep the evidence if it shows two histories."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from salus.archive.errors import MissingError
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.monitor import Fetch, HistoryError, SeenError, compare
from salus.cli.checking import whom_and_where
from salus.cli.console import Json, emit_line, err, out
from salus.cli.display import shown_second, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.state import require_service, running_platform
from salus.cli.verifying import NetworkFile, PolicyFile, read_policy
from salus.client.bounded_http import bounded_client
from salus.crypto.errors import LockedError
from salus.crypto.file_lock import changing
from salus.crypto.private_files import write_private
from salus.crypto.text_files import read_file
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import chain_end
from salus.ledger.note import NOTE_BYTES_MAX
from salus.ledger.policy import Policy
from salus.objects import NotFoundError, ObjectsError, ObjectStore

FETCH_S_MAX = 20.0


def monitor(
    url: Annotated[
        str | None, typer.Argument(help="The log, such as https://…/log; the local platform's by default.")
    ] = None,
    policy: PolicyFile = None,
    network: NetworkFile = None,
    state: Annotated[
        Path,
        typer.Option(help="File that keeps the last checkpoint; its lock stays beside it.", dir_okay=False),
    ] = Path("last-checkpoint"),
    evidence: Annotated[
        Path, typer.Option(help="Where two checkpoints go that do not belong together.", file_okay=False)
    ] = Path(),
    witness: Annotated[
        list[str] | None, typer.Option(help="URL of a witness: also compare with what it cosigned.")
    ] = None,
    bucket: Annotated[
        bool, typer.Option("--bucket", help="Read the log's bucket; with --network, as `fsck --network`.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: Json = False,
) -> None:
    """Check that each checkpoint a log shows extends the last; exit 1 if it ever shows two histories."""
    trusted = read_policy(policy, network)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(bounded_client(NOTE_BYTES_MAX, timeout=FETCH_S_MAX))
            log = _bucket(network or policy) if bucket else _served(client, url or _local_log())
            others = [_of_witness(client, each, trusted) for each in witness or []]
            current, told = trusted, dict[str, int]()
            while True:
                told = tell_ends(current, told, as_json=as_json)
                watch = Watch(current, state, evidence, as_json=as_json)
                await watch.look(log, others, patient=not once)
                if once:
                    return
                await asyncio.sleep(every)
                # Keys change over while we watch, so whom to trust is read again each time.
                current = reread_policy(policy, network, before=current)

    run_until_signal(work())


def reread_policy(policy: Path | None, network: Path | None, *, before: Policy) -> Policy:
    """Return whom to trust now; while the file cannot be read, that is said, and whom we trusted stays."""
    try:
        return read_policy(policy, network)
    except CommandError as error:
        err.print(f"whom to trust stays as it was: {error}")
        return before


def tell_ends(policy: Policy, told: Mapping[str, int], *, as_json: bool) -> dict[str, int]:
    """Say which chains ended that were not told yet; return all that ended, with the height of each.

    Receipts of what lies behind an end verify no more, also of what this log has shown as final.
    """
    ended = {name: end for name, keys in policy.shards.items() if (end := chain_end(keys)) is not None}
    for name, end in sorted((ended.items()) - told.items()):
        if as_json:
            emit_line({"origin": name, "ended": end})
        else:
            why = "its blocks from there on count nowhere, and their receipts verify no more"
            err.print(f"the chain of {name} ended before block {end}: {why}", highlight=False)
    return ended


@dataclass(frozen=True, slots=True)
class Watch:
    """What a monitor goes by, and where it keeps what it has seen."""

    policy: Policy
    state: Path
    evidence: Path
    as_json: bool

    async def look(self, log: Fetch, others: list[Fetch], *, patient: bool) -> None:
        """Look at the log, then at what its witnesses cosigned.

        Raises:
            CommandError: two histories, or nothing that the log's key signed; unless `patient`, also if the
                log does not answer.
        """
        try:
            latest, is_told, by_log = b"", False, b""
            for fetch_checkpoint in (log, *others):
                shown = await fetch_checkpoint(CHECKPOINT_KEY)
                by_log = by_log or shown
                # Else of two monitors with one state file the slower one forgets what the other has seen.
                async with changing(self.state):
                    latest, is_new = await self._take(shown, log)
                is_told |= is_new
            if not patient and not is_told:
                self._say(latest)
            self._tell_if_behind(by_log, latest)
        except LockedError as error:
            raise CommandError(Exit.NOT_RUNNING, str(error)) from None
        except (httpx.HTTPError, ObjectsError, MissingError) as error:
            sentence = f"the log or a witness does not answer: {type(error).__name__}: {error}"
            if not patient:
                raise CommandError(Exit.NOT_RUNNING, sentence) from None
            err.print(sentence, highlight=False)

    async def _take(self, shown: bytes, log: Fetch) -> tuple[bytes, bool]:
        """Keep a checkpoint; return the latest, and whether it is news, which is told."""
        seen = self._seen()
        try:
            latest = await compare(seen, shown, policy=self.policy, fetch=log)
        except HistoryError as error:
            files = self._keep(error)
            kind = "two histories" if error.proven else "no proof of one history"
            raise CommandError(
                Exit.NO, f"{kind}: {error}; the two signed checkpoints are {files[0]} and {files[1]}"
            ) from None
        except SeenError as error:
            sentence = (
                f"the state file {self.state} holds no checkpoint of this log: {error}. The log was not "
                "judged. Restore the file, or name another one; to remove it forgets what the log has shown"
            )
            raise CommandError(Exit.USAGE, sentence) from None
        except LedgerError as error:
            raise CommandError(Exit.NO, f"what is shown is not signed by the log: {error}") from None
        if latest != seen:
            write_private(self.state, latest)
            self._say(latest)
        return latest, latest != seen

    def _tell_if_behind(self, shown: bytes, latest: bytes) -> None:
        """Say that the log shows less than was seen; it is no alarm, for witnesses are ahead for a moment.

        Else who serves a log could show an old one for ever, and every look would say that all is well.
        """
        now, seen = (self.policy.open_checkpoint(note).checkpoint.size for note in (shown, latest))
        if now >= seen:
            return
        if self.as_json:
            emit_line({"shown": now, "seen": seen})
            return
        why = f"the log shows size {now}, and {seen} was seen: if it stays so, it is an old copy or went back"
        err.print(why, highlight=False)

    def _seen(self) -> bytes | None:
        try:
            return read_file(self.state, bytes_max=NOTE_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(Exit.USAGE, f"the state file {self.state}: {error.strerror}") from None

    def _keep(self, error: HistoryError) -> list[Path]:
        files = []
        for name, note in (("seen", error.seen), ("shown", error.shown)):
            size = self.policy.open_checkpoint(note).checkpoint.size
            file = self.evidence / f"evidence-{name}-{size}-{sha256(note).hexdigest()[:16]}"
            write_private(file, note)
            files.append(file)
        return files

    def _say(self, note: bytes) -> None:
        opened = self.policy.open_checkpoint(note)
        cosigners = [cosigner.name for cosigner in opened.cosigners]
        cosigned_at = max((cosigner.seconds for cosigner in opened.cosigners), default=0)
        facts: dict[str, Any] = {
            "origin": opened.checkpoint.origin,
            "size": opened.checkpoint.size,
            "root": opened.checkpoint.root.hex(),
            "cosigners": cosigners,
            "cosigned_at": cosigned_at or None,
            "final": opened.is_final,
        }
        if self.as_json:
            emit_line(facts)
            return
        mark = styled("[green]✓[/]" if facts["final"] else "[yellow]not final[/]")
        by = f", cosigned by {', '.join(cosigners)} until {shown_second(cosigned_at)}" if cosigners else ""
        out.print(styled("{} {} {} {}…{}", mark, facts["origin"], facts["size"], facts["root"][:16], by))


def _served(client: httpx.AsyncClient, url: str) -> Fetch:
    async def fetch(path: str) -> bytes:
        answer = await client.get(f"{url.rstrip('/')}/{path}")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise MissingError(path, "the log does not serve it")
        answer.raise_for_status()
        return answer.content

    return fetch


def _of_witness(client: httpx.AsyncClient, url: str, policy: Policy) -> Fetch:
    """Return what fetches the checkpoint that a witness cosigned (c2sp.org/tlog-witness, monitoring)."""
    if len(origins := {log.name for log in policy.logs}) != 1:
        raise CommandError(Exit.USAGE, "--witness needs a policy of one log")
    return _served(client, f"{url.rstrip('/')}/{sha256(origins.pop().encode()).hexdigest()}")


def _bucket(network: Path | None) -> Fetch:
    _, address = whom_and_where(network)
    objects: ObjectStore = address.open().log

    async def fetch(path: str) -> bytes:
        try:
            return await objects.get(path, bytes_max=NOTE_BYTES_MAX)
        except NotFoundError:
            raise MissingError(path, "the bucket has no such object") from None

    return fetch


def _local_log() -> str:
    return f"{require_service(running_platform(), 'anchoring')}/log"
