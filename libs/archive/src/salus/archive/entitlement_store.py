"""What was done without a right, and what may turn out to be so: on disk, beyond what fits in a cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from salus.archive.lacks import LackOfRight
from salus.archive.patient_facts import Then
from salus.archive.scratch_database import scratch_database
from salus.archive.served_requests import AnyServed, ServedDecision, ServedRead, ServedRun, ServedUpload

_ENCODER = msgspec.msgpack.Encoder()
_DECISION = msgspec.msgpack.Decoder(ServedDecision)
_SERVED: msgspec.msgpack.Decoder[AnyServed] = msgspec.msgpack.Decoder(AnyServed)
_RUN = msgspec.msgpack.Decoder(tuple[str, int, int, int, int, int, str, bytes])
_THEN = msgspec.msgpack.Decoder(Then)
_TABLES = """
CREATE TABLE decisions (decision TEXT PRIMARY KEY, number INTEGER, epoch INTEGER, run BLOB, said BLOB);
CREATE TABLE transfers (
    number INTEGER PRIMARY KEY, patient TEXT, decision TEXT, epoch INTEGER, asked REAL,
    run BLOB, served BLOB);
CREATE INDEX by_time ON transfers (asked);
CREATE INDEX by_epoch ON transfers (patient, epoch, decision);
CREATE TABLE lacks (
    number INTEGER PRIMARY KEY, patient TEXT, decision TEXT, case_ TEXT, why TEXT, missing TEXT,
    run BLOB, served BLOB, then_ BLOB);
CREATE INDEX lacks_by_patient ON lacks (patient);
CREATE INDEX lacks_by_decision ON lacks (decision, patient);
CREATE INDEX lacks_by_case ON lacks (case_, patient);
CREATE TABLE again (number INTEGER PRIMARY KEY);
"""
_KEEP_TRANSFER = """
INSERT OR REPLACE INTO transfers VALUES (?, ?, ?, (SELECT epoch FROM decisions WHERE decision = ?), ?, ?, ?)
"""
_LAST_OF_PART = "SELECT max(number) FROM (SELECT number FROM again ORDER BY number LIMIT ?)"
_PART = """
SELECT number, run, served, then_ FROM lacks WHERE number IN (SELECT number FROM again WHERE number <= ?)
UNION ALL
SELECT number, run, served, NULL FROM transfers WHERE number IN (SELECT number FROM again WHERE number <= ?)
"""
CASES_AT_ONCE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was done: its number in the order of judging, where it stands, and what was so then."""

    number: int
    run: ServedRun
    served: AnyServed
    then: Then


class EntitlementStore:
    """Decisions by their id, transfers under decisions that were right, and what was done without a right.

    What is to be judged again is gathered by `…_again`, each case once, and then comes from `again`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._db = scratch_database(_TABLES, folder=folder)
        self._is_gathered = False

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def decide(self, case: Case, said: ServedDecision) -> None:
        """Keep a decision as that of its id."""
        row = (said.decision, case.number, said.epoch, _kept(case.run), _ENCODER.encode(said))
        self._db.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?)", row)

    def decision(self, decision: str) -> ServedDecision | None:
        """Return the decision of that id."""
        found = self._db.execute("SELECT said FROM decisions WHERE decision = ?", (decision,)).fetchone()
        return None if found is None else _DECISION.decode(found[0])

    def decided(self, decision: str) -> tuple[Case, ServedDecision] | None:
        """Return the decision of that id, with where it stands."""
        query = "SELECT number, run, said FROM decisions WHERE decision = ?"
        found = self._db.execute(query, (decision,)).fetchone()
        if found is None:
            return None
        said = _DECISION.decode(found[2])
        return Case(found[0], _run(found[1]), said, Then()), said

    def keep_transfer(self, case: Case) -> None:
        """Keep a transfer that was right by its decision, until that turns out to have ended before it."""
        if isinstance(served := case.served, ServedRead | ServedUpload):
            row = (
                case.number,
                served.patient,
                served.decision,
                served.decision,
                served.asked,
                _kept(case.run),
                _ENCODER.encode(served),
            )
            self._db.execute(_KEEP_TRANSFER, row)

    def transfers_again(self, *, after: float) -> None:
        """Gather the transfers that were right and asked for after a time."""
        self._gather("transfers WHERE asked > ?", after)

    def epoch_again(self, patient: str, epoch: int) -> None:
        """Gather the transfers that were right by a decision of an epoch of a patient's."""
        self._gather("transfers WHERE patient = ? AND epoch = ?", patient, epoch)

    def transfers_under_again(self, said: ServedDecision) -> None:
        """Gather the transfers that were right by a decision."""
        where = "transfers WHERE patient = ? AND epoch = ? AND decision = ?"
        self._gather(where, said.patient, said.epoch, said.decision)

    def lacks_again(self) -> None:
        """Gather all that was done without a right."""
        self._gather("lacks")

    def lacks_of_patient_again(self, patient: str) -> None:
        """Gather what was done without a right to a patient's data."""
        self._gather("lacks WHERE patient = ?", patient)

    def lacks_under_again(self, decision: str) -> None:
        """Gather what was done without a right under a decision."""
        self._gather("lacks WHERE decision = ?", decision)

    def lacks_of_emergency_again(self, patient: str, decision: str) -> None:
        """Gather what was done without a right under an emergency access to a patient's data."""
        self._gather("lacks WHERE decision = ? AND patient = ?", decision, patient)

    def lacks_of_case_again(self, patient: str, case: str) -> None:
        """Gather what was done without a right by a case about a patient's data."""
        self._gather("lacks WHERE case_ = ? AND patient = ?", case, patient)

    def again(self) -> Iterator[Case]:
        """Yield what was gathered. What was right needs nothing of what was so then."""
        while self._is_gathered:
            (last,) = self._db.execute(_LAST_OF_PART, (CASES_AT_ONCE_MAX,)).fetchone()
            if last is None:
                self._is_gathered = False
                return
            rows = self._db.execute(_PART, (last, last)).fetchall()
            self._db.execute("DELETE FROM again WHERE number <= ?", (last,))
            for number, run, served, then in rows:
                so_then = Then() if then is None else _THEN.decode(then)
                yield Case(number, _run(run), _SERVED.decode(served), so_then)

    def _gather(self, where: str, *values: str | float) -> None:
        query = f"INSERT OR IGNORE INTO again SELECT number FROM {where}"  # noqa: S608  # ours
        self._is_gathered |= self._db.execute(query, values).rowcount > 0

    def keep_lack(self, case: Case, lack: LackOfRight) -> None:
        """Keep what was done without a right."""
        served = case.served
        decision = None
        if isinstance(served, ServedRead | ServedUpload | ServedDecision):
            decision = served.decision
        by_case = served.case if isinstance(served, ServedDecision) else None
        blobs = (_kept(case.run), _ENCODER.encode(served), _ENCODER.encode(case.then))
        row = (case.number, served.patient, decision, by_case, lack.why, lack.missing, *blobs)
        self._db.execute("DELETE FROM transfers WHERE number = ?", (case.number,))
        self._db.execute("INSERT OR REPLACE INTO lacks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop_lack(self, case: Case) -> int:
        """Forget that something was done without a right; return 1 if it was known, else 0."""
        return self._db.execute("DELETE FROM lacks WHERE number = ?", (case.number,)).rowcount

    def lacks(self) -> Iterator[tuple[Case, LackOfRight]]:
        """Yield what was done without a right, in the order of judging."""
        query = "SELECT number, run, served, then_, why, missing FROM lacks ORDER BY number"
        for number, run, served, then, why, missing in self._db.cursor().execute(query):
            case = Case(number, _run(run), _SERVED.decode(served), _THEN.decode(then))
            yield case, LackOfRight(why, missing)


def _kept(run: ServedRun) -> bytes:
    """Return a place in few bytes: without the names of its fields."""
    return _ENCODER.encode(msgspec.structs.astuple(run))


def _run(kept: bytes) -> ServedRun:
    return ServedRun(*_RUN.decode(kept))
