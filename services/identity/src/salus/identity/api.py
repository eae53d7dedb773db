"""Identity over HTTP: register parties, keys and roles, and read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from salus.contracts.http_fields import CommandBody
from salus.contracts.keyset import CURSOR_CHARS_MAX, CursorError
from salus.events import fields
from salus.events.contexts.identity import (
    ExpulsionReason,
    PartyKind,
    PublicKey,
    ReinstatementReason,
    SuspensionReason,
)
from salus.events.membership import Membership
from salus.events.party_form import KEYS_MAX
from salus.events.rights import Actor
from salus.identity import handlers
from salus.identity.domain import (
    ROLES_MAX,
    AddKey,
    Command,
    Expel,
    GrantRole,
    PartyState,
    Register,
    Reinstate,
    RevokeKey,
    Suspend,
    WithdrawRole,
)
from salus.identity.held_keys import HeldKey, RevocationReason
from salus.identity.ports import PartyFilter, World
from salus.runtime.auth import Caller, Callers
from salus.runtime.fields import DID_PATTERN, Did, KeyId, RoleName, pattern_of
from salus.runtime.limits import AccountLimit, Buckets, Rate, organisation_of
from salus.runtime.moments import Moment
from salus.runtime.path_dids import did_in_path
from salus.runtime.problems import ProblemError, documented

PAGE_SIZE_MAX = 500
CURSOR = "^[A-Za-z0-9_-]*$"
PROOF_PATTERN = "^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$"
# A hospital registers its people in an afternoon; what is registered stays on the ledger for ever.
COMMANDS = Rate(burst=600, per_minute=120)
# To one party, by one organisation: revoked keys stay in its state, and in the key ring of everybody.
KEYS_ADDED = Rate(burst=32, per_minute=1 / 60)

DidInPath = Annotated[str, did_in_path(2)]


class KeyBody(CommandBody):
    """An Ed25519 or P-256 public key of a party."""

    id: KeyId = Field(examples=["did:web:hospital.example#key-1"])
    multibase: str = Field(
        pattern=pattern_of(fields.Multibase),
        max_length=64,
        description="publicKeyMultibase (base58btc): Ed25519 (0xed01) or P-256 (0x8024).",
    )
    valid_from: Moment
    valid_until: Moment | None = None
    proof: str | None = Field(
        default=None,
        max_length=4096,
        pattern=PROOF_PATTERN,
        description="A compact JWS by this key: its holder wants it registered under this id.",
    )

    def as_key(self) -> PublicKey:
        """Return the key as events carry it."""
        return PublicKey(
            id=self.id, multibase=self.multibase, valid_from=self.valid_from, valid_until=self.valid_until
        )


def proofs_of(keys: Iterable[KeyBody]) -> dict[str, str]:
    """Return the proofs that came with keys, by key id."""
    return {key.id: key.proof for key in keys if key.proof is not None}


class RegisterBody(CommandBody):
    """Who joins the network."""

    did: Did
    kind: PartyKind
    keys: list[KeyBody] = Field(min_length=1, max_length=KEYS_MAX)
    roles: list[RoleName] = Field(default=[], max_length=ROLES_MAX)
    member: Did | None = Field(default=None, description="The organisation that a person or device acts for.")
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=pattern_of(fields.Text),
        description="Organisations and services only; people stay DIDs.",
    )

    def as_command(self) -> Register:
        """Return the command."""
        return Register(
            did=self.did,
            kind=self.kind,
            keys=tuple(key.as_key() for key in self.keys),
            roles=tuple(self.roles),
            member=self.member,
            name=self.name,
            proofs=proofs_of(self.keys),
        )


class AddKeyBody(CommandBody):
    """One more key."""

    key: KeyBody


class RevokeKeyBody(CommandBody):
    """Which key signs no longer, and why."""

    key_id: KeyId
    reason: RevocationReason = "unspecified"
    since: Moment | None = Field(
        default=None,
        description="Of `compromised`: when it came into other hands. What it signed since then is in doubt.",
    )


class RoleBody(CommandBody):
    """A role to hold. Who is made an operator is made one with just the keys that both operators saw."""

    role: RoleName
    keys: list[KeyId] | None = Field(
        default=None,
        max_length=KEYS_MAX,
        description="Of `operator`: the ids of all the party's keys that are not revoked.",
    )

    def as_command(self) -> GrantRole:
        """Return the command."""
        return GrantRole(self.role, None if self.keys is None else tuple(self.keys))


class SuspendBody(CommandBody):
    """Why a member is suspended."""

    reason: SuspensionReason


class ReinstateBody(CommandBody):
    """Why a member is reinstated."""

    reason: ReinstatementReason


class ExpelBody(CommandBody):
    """Why a member is expelled."""

    reason: ExpulsionReason


class KeyView(BaseModel):
    """A key and its validity; a revoked key is shown with the reason and is not valid any more.

    What it signed from `doubted_since` on may be somebody else's. The key `asked_by` signed the request by
    which the party has it: who has stolen that one may have added this one.
    """

    id: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None
    revoked: RevocationReason | None
    doubted_since: datetime | None
    asked_by: str | None

    @classmethod
    def of(cls, key: HeldKey) -> KeyView:
        """Return the view of a key."""
        return cls(
            id=key.id,
            multibase=key.multibase,
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            revoked=key.revoked,
            doubted_since=key.doubted_since,
            asked_by=key.asked_by,
        )


class PartyView(BaseModel):
    """A party as it stands after every event published before the request."""

    did: str
    kind: PartyKind
    keys: list[KeyView]
    roles: list[RoleName]
    member: str | None
    name: str | None
    membership: Membership | None = Field(description="Of a member: whether it takes part in the network.")
    standing_reason: str | None = Field(description="Of a member: why its standing changed last.")

    @classmethod
    def of(cls, party: PartyState) -> PartyView:
        """Return the view of a party."""
        return cls(
            did=party.did,
            kind=party.kind,
            keys=[KeyView.of(key) for key in party.keys],
            roles=list(party.roles),
            member=party.member,
            name=party.name,
            membership=party.membership if party.kind == "member" else None,
            standing_reason=party.standing_reason,
        )


class PartyPage(BaseModel):
    """Some parties in the order of their DIDs; `next` is the `after` of the next page, if there is one."""

    parties: list[PartyView]
    next: str | None


def actor_of(caller: Caller) -> Actor:
    """Return the caller of a command as the contract knows it."""
    party = caller.party
    return Actor(
        did=party.did,
        kind=party.kind,
        roles=party.roles,
        request=caller.request,
        member=party.member,
        second=caller.second,
    )


def routes(
    *,
    world: World,
    authenticate: Callers,
    now: Callable[[], datetime],
    commands: Rate = COMMANDS,
) -> APIRouter:
    """Return identity's routes; an account gives as many commands as `commands` says."""
    router = APIRouter()
    _add_reads(router, world=world)
    limit = AccountLimit("identity commands", commands)
    keys = Buckets("keys of one party", KEYS_ADDED, whose="organisation")

    async def run(command: Command, did: str, caller: Caller) -> PartyView:
        limit.take(caller.party)

        def count() -> None:
            if isinstance(command, AddKey):
                organisation = organisation_of(caller.party)
                keys.take(f"{organisation} {did}", of=organisation)

        actor = actor_of(caller)
        await handlers.execute(command, did=did, actor=actor, now=now, world=world, count=count)
        return PartyView.of(await world.parties.state(did))

    _add_writes(router, run=run, authenticate=authenticate)
    return router


def _add_writes(
    router: APIRouter,
    *,
    run: Callable[[Command, str, Caller], Awaitable[PartyView]],
    authenticate: Callers,
) -> None:
    caller = Depends(authenticate.command)
    problems = documented(401, 403, 404, 409, 422, 429, 503)

    @router.post("/parties", status_code=201, tags=["parties"], responses=problems)
    async def register_party(body: RegisterBody, caller: Caller = caller) -> PartyView:
        """Register a member, service, person or device, or a member's own people and devices."""
        return await run(body.as_command(), body.did, caller)

    @router.post("/parties/{did}/keys", status_code=201, tags=["keys"], responses=problems)
    async def add_key(did: DidInPath, body: AddKeyBody, caller: Caller = caller) -> PartyView:
        """Let a party sign with one more key: how keys rotate without a gap."""
        return await run(AddKey(body.key.as_key(), proofs_of([body.key])), did, caller)

    @router.post("/parties/{did}/keys/revoke", tags=["keys"], responses=problems)
    async def revoke_key(did: DidInPath, body: RevokeKeyBody, caller: Caller = caller) -> PartyView:
        """Stop a key from signing; the last one goes only as `compromised` or `left`.

        With `since`, what it signed from then on is in doubt; a revoked key is revoked again if that turns
        out to have been earlier.
        """
        return await run(RevokeKey(body.key_id, body.reason, body.since), did, caller)

    @router.post("/parties/{did}/roles", status_code=201, tags=["roles"], responses=problems)
    async def grant_role(did: DidInPath, body: RoleBody, caller: Caller = caller) -> PartyView:
        """Give a party a role."""
        return await run(body.as_command(), did, caller)

    @router.delete("/parties/{did}/roles/{role}", tags=["roles"], responses=problems)
    async def withdraw_role(did: DidInPath, role: RoleName, caller: Caller = caller) -> PartyView:
        """Take a role from a party."""
        return await run(WithdrawRole(role), did, caller)

    @router.post("/parties/{did}/suspend", tags=["members"], responses=problems)
    async def suspend_member(did: DidInPath, body: SuspendBody, caller: Caller = caller) -> PartyView:
        """Suspend a member, with its people and devices: from here on nothing of theirs is taken."""
        return await run(Suspend(body.reason), did, caller)

    @router.post("/parties/{did}/reinstate", tags=["members"], responses=problems)
    async def reinstate_member(did: DidInPath, body: ReinstateBody, caller: Caller = caller) -> PartyView:
        """Let a suspended member take part again, with the keys and roles that its parties have now."""
        return await run(Reinstate(body.reason), did, caller)

    @router.post("/parties/{did}/expel", tags=["members"], responses=problems)
    async def expel_member(did: DidInPath, body: ExpelBody, caller: Caller = caller) -> PartyView:
        """Expel a suspended member, for ever."""
        return await run(Expel(body.reason), did, caller)


def _add_reads(router: APIRouter, *, world: World) -> None:
    @router.get("/parties", tags=["parties"], responses=documented(400, 422, 503))
    async def list_parties(
        kind: PartyKind | None = None,
        role: RoleName | None = None,
        member: Annotated[str | None, Query(pattern=DID_PATTERN, max_length=256)] = None,
        after: Annotated[
            str | None,
            Query(max_length=CURSOR_CHARS_MAX, pattern=CURSOR, description="`next` of the page before."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 100,
    ) -> PartyPage:
        """List the parties, by DID."""
        wanted = PartyFilter(kind=kind, role=role, member=member)
        try:
            page = await world.listed.page(wanted, after=after, limit=limit)
        except CursorError as error:
            raise ProblemError(400, "invalid-cursor", str(error)) from None
        dids = [row["did"] for row in page.rows]
        states = await world.parties.states(dids)
        return PartyPage(parties=[PartyView.of(states[did]) for did in dids], next=page.next)

    @router.get("/parties/{did}", tags=["parties"], responses=documented(404, 422, 503))
    async def get_party(did: DidInPath) -> PartyView:
        """Return one party with all its keys, revoked ones included."""
        return PartyView.of(await handlers.registered(did, world=world))
