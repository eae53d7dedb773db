"""What was done without a right, and what may turn out to be so: on disk, beyond what fits in a cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from salus.archive.patient_facts import LackOfRight, Then
from salus.archive.scratch_database import scratch_database
from salus.archive.served_requests import AnyServed, ServedDecision, ServedRead, ServedRun, ServedUpload

_ENCODER = msgspec.msgpack.Encoder()
_DECISION = msgspec.msgpack.Decoder(ServedDecision)
_SERVED: msgspec.msgpack.Decoder[AnyServed] = msgspec.msgpack.Decoder(AnyServed)
_RUN = msgspec.msgpack.Decoder(ServedRun)
_THEN = msgspec.msgpack.Decoder(Then)
_TABLES = """
CREATE TABLE decisions (decision TEXT, said BLOB);
CREATE INDEX by_decision ON decisions (decision);
CREATE TABLE transfers (number INTEGER PRIMARY KEY, patient TEXT, asked REAL, run BLOB, served BLOB);
CREATE INDEX by_time ON transfers (asked);
CREATE INDEX by_end ON transfers (patient, asked);
CREATE TABLE lacks (
    number INTEGER PRIMARY KEY, patient TEXT, decision TEXT, why TEXT, missing TEXT,
    run BLOB, served BLOB, then_ BLOB);
CREATE INDEX lacks_by_patient ON lacks (patient);
CREATE INDEX lacks_by_decision ON lacks (decision);
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was done: its number in the order of judging, where it stands, and what was so then."""

    number: int
    run: ServedRun
    served: AnyServed
    then: Then


class EntitlementStore:
    """Decisions by their id, transfers under decisions that were right, and what was done without a right."""

    def __init__(self, folder: Path | None = None) -> None:
        self._db = scratch_database(_TABLES, folder=folder)

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def decide(self, said: ServedDecision) -> None:
        """Keep a decision."""
        self._db.execute("INSERT INTO decisions VALUES (?, ?)", (said.decision, _ENCODER.encode(said)))

    def decisions(self, decision: str) -> list[ServedDecision]:
        """Return the decisions of that id: an honest service states one."""
        found = self._db.execute("SELECT said FROM decisions WHERE decision = ?", (decision,))
        return [_DECISION.decode(said) for (said,) in found]

    def keep_transfer(self, case: Case) -> None:
        """Keep a transfer that was right, until a right turns out to have ended before it."""
        if isinstance(served := case.served, ServedRead | ServedUpload):
            row = (
                case.number,
                served.patient,
                served.asked,
                _ENCODER.encode(case.run),
                _ENCODER.encode(served),
            )
            self._db.execute("INSERT OR REPLACE INTO transfers VALUES (?, ?, ?, ?, ?)", row)

    def transfers(self, *, after: float, patient: str | None = None) -> list[Case]:
        """Return the transfers that were right, of one patient's data or of all, asked for after a time."""
        here, values = ("", (after,)) if patient is None else (" AND patient = ?", (after, patient))
        query = f"SELECT number, run, served FROM transfers WHERE asked > ?{here} ORDER BY number"  # noqa: S608
        rows = self._db.execute(query, values).fetchall()
        return [Case(n, _RUN.decode(run), _SERVED.decode(served), Then()) for n, run, served in rows]

    def keep_lack(self, case: Case, lack: LackOfRight) -> None:
        """Keep what was done without a right."""
        served = case.served
        decision = served.decision if isinstance(served, ServedRead | ServedUpload) else None
        blobs = (_ENCODER.encode(part) for part in (case.run, served, case.then))
        row = (case.number, served.patient, decision, lack.why, lack.missing, *blobs)
        self._db.execute("DELETE FROM transfers WHERE number = ?", (case.number,))
        self._db.execute("INSERT OR REPLACE INTO lacks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop_lack(self, case: Case) -> int:
        """Forget that something was done without a right; return 1 if it was known, else 0."""
        return self._db.execute("DELETE FROM lacks WHERE number = ?", (case.number,)).rowcount

    def lacks(self) -> Iterator[tuple[Case, LackOfRight]]:
        """Yield what was done without a right, in the order of judging."""
        return self._lacks("ORDER BY number")

    def lacks_of(self, *, patient: str | None = None, decision: str | None = None) -> list[Case]:
        """Return what was done without a right to a patient's data, or under a decision."""
        found = self._lacks("WHERE patient = ? OR decision = ? ORDER BY number", patient, decision)
        return [case for case, _ in found]

    def _lacks(self, where: str, *values: str | None) -> Iterator[tuple[Case, LackOfRight]]:
        query = f"SELECT number, run, served, then_, why, missing FROM lacks {where}"  # noqa: S608  # ours
        for number, run, served, then, why, missing in self._db.cursor().execute(query, values):
            case = Case(number, _RUN.decode(run), _SERVED.decode(served), _THEN.decode(then))
            yield case, LackOfRight(why, missing)
