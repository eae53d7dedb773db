"""Reads the whole archive again and again, slowly, and says aloud once what is not as it was signed.

Where it stands lies in the log's bucket, moved by compare-and-swap: whoever starts goes on there. It is
signed, for who may write to the bucket could otherwise keep us from looking, or from telling. Who puts an
older one back delays us, which `salus_scrub_last_full_pass_timestamp_seconds` shows.

A finding is kept before it is told, and told until Kafka has it; told twice it has the same id, and the
ledger takes it once. Where its event stands is kept too, and looked at until the ledger has accepted it; what
the ledger refused is told again under another id. A finding is forgotten when a whole pass did not find it
any more, and if it comes back it is told again.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import structlog

from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import Alarms
from salus.anchoring.scrub_state import FORMAT, OF_A_WHOLE_PASS, RETELL_AFTER, Known, State
from salus.archive.check_blocks import Checked, Span
from salus.archive.check_log import LogChecker, LogState
from salus.archive.duplicates import WINDOW_OF_THE_FORMAT, WindowSize
from salus.archive.fsck import Stores, fsck
from salus.archive.report import Finding, Progress
from salus.archive.trust import Trust
from salus.client import ClientError
from salus.events.did import LocalSigner
from salus.events.effect import Outcome, Refused, Unknown
from salus.events.errors import RejectedError
from salus.messaging import MessagingError
from salus.objects import (
    AlreadyExistsError,
    ChangedError,
    NotFoundError,
    ObjectsError,
    ObjectStore,
    TooLargeError,
)
from salus.runtime.supervisor import failed, succeeded

SCRUB_KEY = "_salus/scrub"
SIGNATURE_SIZE = 64
# So many of one code in one bucket are told one by one, and of the others their number: whoever hears of so
# many runs `salus ledger fsck`. Each kind has its own limit, so that worthless objects in the log's bucket,
# which need no key, keep nothing about the ledger from being told.
FINDINGS_OF_A_KIND_MAX = 100
MORE = "more-findings"
STATE_BYTES_MAX = 16 * 1024 * 1024
SAVE_EVERY = timedelta(seconds=30)
PAUSE_S = 5.0
# What became of an alarm is looked at this often.
LOOK_EVERY = timedelta(seconds=5)
# What the log's objects look like while they are replaced is looked at again after this long.
CONFIRM_S = 5.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """What a scrubber goes by; `objects` is the log's bucket, not paced, in which its state lies."""

    stores: Stores
    objects: ObjectStore
    trust: Callable[[], Trust]
    alarms: Alarms
    signer: LocalSigner
    metrics: Metrics
    pass_min: timedelta
    window: WindowSize = WINDOW_OF_THE_FORMAT
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Scrubber:
    """Runs passes until cancelled. It is also what `fsck` remembers by: `salus.archive.resuming.Memory`."""

    def __init__(self, scrubbing: Scrubbing) -> None:
        self._with = scrubbing
        self._state = State()
        self._etag: str | None = None
        self._saved = self._quiet_until = self._look_at = datetime.min.replace(tzinfo=UTC)
        # Why the alarms that are open are not on the ledger, as far as was heard last.
        self._why = "nothing was tried yet"

    async def run(self) -> None:
        """Scrub until cancelled; what is away is waited for."""
        while True:
            try:
                await self._load()
                await self._wait_until_due()
                await self.scrub()
                succeeded()
            except ObjectsError as error:
                failed(error)
                _log.warning("scrubbing waits", error=f"{type(error).__name__}: {error}")
                await self._with.sleep(PAUSE_S)

    async def scrub(self) -> None:
        """Make one pass, or the rest of one that was broken off; `run` has loaded the state.

        Raises:
            ObjectsError: the store is away, or another scrubber moved the state; the next call goes on.
        """
        if self._state.began is None:
            self._change(number=self._state.number + 1, began=_now(), reached={}, more={})
            await self._save()
        for finding in await self._confirmed():
            self._take(finding)
        await self._settle(soon=True)
        told = asyncio.create_task(self._settle_for_ever())
        try:
            report = await fsck(
                self._with.stores,
                self._with.trust(),
                memory=self,
                on_progress=self._progress,
                window=self._with.window,
            )
        finally:
            told.cancel()
            # Whoever cancels us now does not wait in vain, as they would were that taken for its end.
            await asyncio.gather(told, return_exceptions=True)
        for finding in report.errors:
            if finding.code in OF_A_WHOLE_PASS:
                self._take(finding)
        self._take_numbers()
        self._count_unknown([f.key for f in report.findings if f.code == "unknown-object"])
        for known in self._state.known:
            if known.last < self._state.number:
                _log.info("damage is gone", code=known.finding.code, key=known.finding.key)
        kept = tuple(k for k in self._state.known if k.last == self._state.number)
        self._change(began=None, ended=_now(), reached={}, known=kept)
        await self._settle(soon=True)

    # --- what fsck remembers by ---------------------------------------------------------------------

    def begin(self, log: LogState) -> list[Finding]:
        """Nothing is compared: the log itself was checked just before."""
        del log
        return []

    def recall(self, span: Span, mark: bytes) -> bytes | None:
        """Spare the bodies that this pass has read."""
        del mark
        return b"" if span[2] <= self._state.reached.get(span[0], 0) else None

    def remember(self, mark: bytes, checked: Checked) -> None:
        """Go on behind this stretch; what is wrong in it is told at once."""
        del mark
        succeeded()
        for finding in checked.findings:
            if finding.severity == "error":
                self._take(finding)
        if checked.start <= self._state.reached.get(checked.shard, 0) < checked.stop:
            self._change(reached=self._state.reached | {checked.shard: checked.stop})

    # --- inside ---------------------------------------------------------------------------------------

    def _progress(self, step: Progress) -> None:
        succeeded()
        if step.stage == "blocks":
            self._with.metrics.observe_scrub_position(step.done, step.total)

    def _count_unknown(self, keys: list[str]) -> None:
        """Count what is none of the ledger's; it harms nobody, and whoever put it there may want to know."""
        self._with.metrics.observe_unknown_objects(len(keys))
        if keys:
            _log.warning("unknown objects lie in the archive", count=len(keys), first=keys[0])

    async def _confirmed(self) -> list[Finding]:
        """Return what is wrong with the log's objects twice: a look may fall between two writes."""
        found = await self._check_log()
        if found:
            await self._with.sleep(CONFIRM_S)
            again = {(f.code, f.key) for f in await self._check_log()}
            found = [f for f in found if (f.code, f.key) in again]
        return found

    async def _check_log(self) -> list[Finding]:
        trust = self._with.trust()
        by_origin = {verifier.name: verifier for verifier in trust.shards.values()}
        state = await LogChecker(self._with.stores.log, trust.log, by_origin, lambda *_: None).check()
        return [finding for finding in state.findings if finding.severity == "error"]

    def _take(self, finding: Finding) -> None:
        """Know of a finding: the first of each object, however much of it is wrong."""
        number, known = self._state.number, list(self._state.known)
        for place, one in enumerate(known):
            if (one.finding.bucket, one.finding.key) == (finding.bucket, finding.key):
                known[place] = one.seen_by(number, at=_now())
                break
        else:
            kind = (finding.bucket, finding.code)
            if sum((k.finding.bucket, k.finding.code) == kind for k in known) >= FINDINGS_OF_A_KIND_MAX:
                name = " ".join(kind)
                self._change(more=self._state.more | {name: self._state.more.get(name, 0) + 1})
                return
            _log.error("the archive is damaged", code=finding.code, bucket=finding.bucket, key=finding.key)
            known.append(Known(finding, number, number, since=_now()))
            self._saved = datetime.min.replace(tzinfo=UTC)
        self._change(known=tuple(known))

    def _take_numbers(self) -> None:
        """Know of how many there are that are not told one by one, as one finding for each kind."""
        for kind, count in self._state.more.items():
            name, _, code = kind.partition(" ")
            bucket: Literal["ledger", "log"] = "ledger" if name == "ledger" else "log"
            detail = f"{count} more objects are {code}; `salus ledger fsck` names them all"
            self._take(Finding(severity="error", code=MORE, bucket=bucket, key=code, detail=detail))

    async def _settle_for_ever(self) -> None:
        while True:
            await self._with.sleep(1.0)
            try:
                await self._settle()
            except ObjectsError as error:
                failed(error)
                _log.warning("scrubbing cannot note where it stands", error=str(error))

    async def _settle(self, *, soon: bool = False) -> None:
        """Note where it stands now and then, tell what is not told, and look what became of what is."""
        if soon or _now() - self._saved >= SAVE_EVERY:
            await self._save()
        if _now() >= self._look_at:
            await self._look()
            self._look_at = _now() + LOOK_EVERY
        while soon or _now() >= self._quiet_until:
            known = self._state.next_to_tell(at=_now())
            if known is None:
                break
            await self._save()
            if not await self._tell(known):
                break
            await self._save()
        self._observe()

    async def _tell(self, known: Known) -> bool:
        """Publish the alarm and return whether another may follow."""
        try:
            stated = await self._with.alarms.raise_alarm(known.finding, event_id=known.id)
        except RejectedError as error:
            self._heard(known, Refused(str(error.reason)))
            return True
        except (MessagingError, ClientError) as error:
            _log.warning("damage could not be told", error=str(error))
            self._why = f"it could not be told: {type(error).__name__}"
            self._quiet_until = _now() + RETELL_AFTER
            return False
        # A pass may have found it again meanwhile.
        self._state = self._state.changed(known.id, lambda one: one.stated(stated, at=_now()))
        return True

    async def _look(self) -> None:
        """Look what became of the alarms that were told; of what is not known yet, look again later."""
        heard = False
        for known in self._state.open:
            if known.told is not None:
                outcome = await self._with.alarms.outcome(known.id, known.told)
                heard = self._heard(known, outcome) or heard
        if heard:
            await self._save()

    def _heard(self, known: Known, outcome: Outcome) -> bool:
        """Take what became of an alarm, and return whether that is known."""
        if isinstance(outcome, Unknown):
            self._why = outcome.why
            return False
        if refused := known.after(outcome, at=_now()).refused:
            self._with.metrics.alarms_refused.inc()
            _log.error("the ledger refused an alarm", id=known.id, reason=refused)
        self._state = self._state.changed(known.id, lambda one: one.after(outcome, at=_now()))
        return True

    def _observe(self) -> None:
        state = self._state
        self._with.metrics.observe_alarms(
            len(state.open), refused=state.refused, late=state.late(at=_now(), why=self._why)
        )

    async def _wait_until_due(self) -> None:
        """Between passes, and on goes what is not told yet."""
        while self._state.began is None and self._state.ended is not None:
            left = (self._state.ended + self._with.pass_min - _now()).total_seconds()
            await self._settle()
            if left <= 0:
                return
            succeeded()
            await self._with.sleep(min(left, PAUSE_S))

    async def _load(self) -> None:
        try:
            data, self._etag = await self._with.objects.get_with_etag(SCRUB_KEY, bytes_max=STATE_BYTES_MAX)
            self._state = self._opened(data)
        except TooLargeError as error:
            _log.warning("where scrubbing stood is none of ours: it begins anew", error=str(error))
            self._state, self._etag = State(), (await self._with.objects.head(SCRUB_KEY)).etag
        except NotFoundError:
            self._state, self._etag = State(), None
        except (ValueError, msgspec.DecodeError) as error:
            _log.warning(
                "where scrubbing stood is not ours or not readable: it begins anew", error=repr(error)
            )
            self._state = State()
        self._with.metrics.observe_scrub(self._state.ended, self._state.findings)

    async def _save(self) -> None:
        data = self._sealed(self._state)
        try:
            if self._etag is None:
                self._etag = await self._with.objects.create(SCRUB_KEY, data)
            else:
                self._etag = await self._with.objects.replace(SCRUB_KEY, data, self._etag)
        except (AlreadyExistsError, ChangedError):
            # Another anchoring scrubs too: its state counts, and the next round goes on there.
            await self._load()
            raise
        self._saved = _now()

    def _sealed(self, state: State) -> bytes:
        """Return the state behind its signature."""
        data = msgspec.json.encode(state)
        return self._with.signer.sign(self._signed(data)) + data

    def _opened(self, data: bytes) -> State:
        """Return the state that a scrubber with our key left; raises ValueError or DecodeError."""
        signature, encoded = data[:SIGNATURE_SIZE], data[SIGNATURE_SIZE:]
        # Ed25519 signs the same text alike each time (RFC 8032), and nobody but us has to verify it.
        if not hmac.compare_digest(signature, self._with.signer.sign(self._signed(encoded))):
            raise ValueError("another signature than ours")
        state = msgspec.json.decode(encoded, type=State)
        # The clock of whoever left it may have been ahead of ours.
        ended = None if state.ended is None else min(state.ended, _now())
        return msgspec.structs.replace(state, ended=ended)

    def _signed(self, data: bytes) -> bytes:
        return f"{FORMAT}\n{self._with.trust().log.name}\n".encode() + data

    def _change(self, **changes: object) -> None:
        self._state = msgspec.structs.replace(self._state, **changes)
        self._with.metrics.observe_scrub(self._state.ended, self._state.findings)


def _now() -> datetime:
    return datetime.now(UTC)
