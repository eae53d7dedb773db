"""Permits from the fold store, and the table by which they are listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, MetaData, Table

from salus.access.permits import Permit, evolve_permit
from salus.access.state import PatientState, SubjectState
from salus.consent.adapters.folded import CONSENT_TOPIC, PATIENTS, SUBJECTS
from salus.consent.domain.permits import permit_rows
from salus.consent.ports import PermitFacts
from salus.contracts.contract import Contract
from salus.contracts.fold_batch import version_kind
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.ports import Fold, States
from salus.contracts.table_projection import TableProjection, text_column
from salus.events.contexts.consent_permits import (
    PermitGranted,
    PermitProposed,
    PermitUsed,
    PermitWithdrawn,
)
from salus.events.fields import microseconds

_ORDER = ("ends_us", "permit")
# One index for each way to narrow the list, so that a page costs its own rows.
PERMIT_LIST = Table(
    "consent_permits",
    MetaData(),
    Column("permit", text_column(64), primary_key=True),
    Column("party", text_column(256), primary_key=True),
    Column("status", text_column(16), nullable=False),
    Column("ends_us", BigInteger, nullable=False),
    Index("ix_consent_permits_party", "party", *_ORDER),
    Index("ix_consent_permits_party_status", "party", "status", *_ORDER),
)
PERMITS = Contract(
    kind="permit",
    topic=CONSENT_TOPIC,
    state=Permit,
    evolve=evolve_permit,
    events=frozenset({PermitProposed, PermitGranted, PermitWithdrawn, PermitUsed}),
    tables=(TableProjection(PERMIT_LIST, permit_rows),),
)
_VERSION = version_kind(CONSENT_TOPIC)


@dataclass(frozen=True)
class FoldedPermits:
    """`PermitSource` over the fold: it reads after a barrier, and all of an answer in one statement."""

    follower: Fold
    store: States

    async def known(self, permit: str, patient: str | None) -> PermitFacts:
        """Return what is known now of a permit, and of the patient; raises MessagingError."""
        await self.follower.catch_up()
        keys = [(PERMITS.kind, permit), (_VERSION, permit)]
        if patient is not None:
            keys += [(PATIENTS.kind, patient), (SUBJECTS.kind, patient)]
        ends, rows = await self.store.rows_at(keys)
        found, version = rows.get((PERMITS.kind, permit)), rows.get((_VERSION, permit))
        state, subject = rows.get((PATIENTS.kind, patient or "")), rows.get((SUBJECTS.kind, patient or ""))
        return PermitFacts(
            permit=PERMITS.decode(found.state) if found else Permit(),
            version=version.version if version else 0,
            state=PATIENTS.decode(state.state) if state else PatientState(),
            subject=SUBJECTS.decode(subject.state) if subject else SubjectState(),
            positions=ends,
        )

    async def page(
        self, party: str, *, status: str | None, after: str | None, limit: int, at: datetime
    ) -> KeysetPage:
        """Return the next permits that are a party's business, the first to end first; raises CursorError.

        Nobody approves a proposal whose period has ended: among those that wait it is not listed.
        """
        await self.follower.catch_up()
        where = {"party": party} | ({} if status is None else {"status": status})
        query = KeysetQuery(PERMIT_LIST, order=_ORDER, where=where)
        if status == "proposed" and after is None:
            after = query.cursor({"ends_us": microseconds(at), "permit": ""})
        return await self.store.read_page(query, after=after, limit=limit)
