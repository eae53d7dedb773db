"""What identity folds from its topic: parties, with the tables that they are listed by, and the sharding."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Index, MetaData, Table

from salus.contracts.contract import Contract
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.ports import Fold, States
from salus.contracts.table_projection import Row, TableProjection, text_column
from salus.identity import event_types, logins
from salus.identity.domain import PartyState, evolve
from salus.identity.ports import PartyFilter
from salus.identity.shards import ShardingState, concerns
from salus.identity.shards import evolve as evolve_sharding
from salus.runtime.identity_view import IDENTITY_TOPIC

_metadata = MetaData()


def _filtered_by() -> tuple[Column[str], Column[str]]:
    return Column("kind", text_column(16), nullable=False), Column("member", text_column(256))


# One index for each way to narrow the list, so that a page costs its own rows.
BY_DID = Table(
    "identity_parties",
    _metadata,
    Column("did", text_column(256), primary_key=True),
    *_filtered_by(),
    Index("ix_identity_parties_kind", "kind", "did"),
    Index("ix_identity_parties_member", "member", "did"),
    Index("ix_identity_parties_member_kind", "member", "kind", "did"),
)
BY_ROLE = Table(
    "identity_roles",
    _metadata,
    Column("did", text_column(256), primary_key=True),
    Column("role", text_column(256), primary_key=True),
    *_filtered_by(),
    Index("ix_identity_roles_role", "role", "did"),
    Index("ix_identity_roles_kind", "role", "kind", "did"),
    Index("ix_identity_roles_member", "role", "member", "did"),
    Index("ix_identity_roles_member_kind", "role", "member", "kind", "did"),
)


def _party(state: PartyState) -> Iterable[Row]:
    return ({"kind": state.kind, "member": state.member},) if state.did else ()


def _roles(state: PartyState) -> Iterable[Row]:
    return ({"role": role, "kind": state.kind, "member": state.member} for role in state.roles)


PARTIES = Contract(
    kind="party",
    topic=IDENTITY_TOPIC,
    state=PartyState,
    evolve=evolve,
    tables=(TableProjection(BY_DID, _party), TableProjection(BY_ROLE, _roles)),
)
SHARDS = Contract(
    kind="sharding", topic=IDENTITY_TOPIC, state=ShardingState, evolve=evolve_sharding, aggregate=concerns
)
EVENT_TYPES = Contract(
    kind="event-type",
    topic=IDENTITY_TOPIC,
    state=event_types.EventTypeState,
    evolve=event_types.evolve,
    aggregate=event_types.concerns,
)
PROVIDERS = Contract(
    kind="login-provider",
    topic=IDENTITY_TOPIC,
    state=logins.ProviderState,
    evolve=logins.evolve,
    aggregate=logins.concerns,
)


def query_of(wanted: PartyFilter) -> KeysetQuery:
    """Return the list of the parties that a filter lets through, in the order of their DIDs."""
    given = {"role": wanted.role, "kind": wanted.kind, "member": wanted.member}
    where = {name: value for name, value in given.items() if value is not None}
    return KeysetQuery(BY_ROLE if wanted.role is not None else BY_DID, order=("did",), where=where)


class FoldedParties:
    """Lists parties after a barrier."""

    def __init__(self, follower: Fold, store: States) -> None:
        self._follower = follower
        self._store = store

    async def page(self, wanted: PartyFilter, *, after: str | None, limit: int) -> KeysetPage:
        """Return the rows of the next parties."""
        await self._follower.catch_up()
        return await self._store.read_page(query_of(wanted), after=after, limit=limit)
