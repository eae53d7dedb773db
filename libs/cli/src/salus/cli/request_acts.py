"""What a request would do, in plain words: what the second operator reads before approving.

A body is read strictly: a request with a field that is not shown here is not approved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar
from urllib.parse import quote

import msgspec
from rich.text import Text

from salus.access.policy_check import problems_of
from salus.access.policy_files import contents_of, digest_of
from salus.cli.approval_files import ApprovalRequest
from salus.cli.display import shown, shown_moment, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import KeyFacts, PartyFacts
from salus.cli.proven_keys import ProvenKey, check_possession, fingerprint
from salus.cli.schema_display import require_schema, schema_lines
from salus.events.contexts.identity import AddedShard
from salus.events.contexts.identity_login import ProviderKey
from salus.events.signed_request import Asked
from salus.ledger.json_reader import JsonError, read_json

OPERATOR = "operator"
CONSEQUENCES: Mapping[str, str] = {
    "suspend": "from then on nothing is taken from it, its people and its devices, until it is reinstated",
    "reinstate": "it, its people and its devices take part again, with the keys and roles that they have now",
    "expel": "it, its people and its devices never take part again: this cannot be taken back",
}
_T = TypeVar("_T")


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the bodies that identity takes."""


class _Registration(_Body, frozen=True, forbid_unknown_fields=True):
    did: str
    kind: str
    keys: tuple[ProvenKey, ...]
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None


class _Key(_Body, frozen=True, forbid_unknown_fields=True):
    key: ProvenKey


class _Revocation(_Body, frozen=True, forbid_unknown_fields=True):
    key_id: str
    reason: str = "unspecified"
    since: datetime | None = None


class _Role(_Body, frozen=True, forbid_unknown_fields=True):
    role: str
    keys: tuple[str, ...] | None = None


class _Reason(_Body, frozen=True, forbid_unknown_fields=True):
    reason: str


class _Shard(_Body, frozen=True, forbid_unknown_fields=True):
    id: int
    topics: dict[str, tuple[int, ...]]


class _Assignment(_Body, frozen=True, forbid_unknown_fields=True):
    epoch: int
    shards: tuple[_Shard, ...]
    added: tuple[AddedShard, ...] = ()


class _Provider(_Body, frozen=True, forbid_unknown_fields=True):
    provider: str
    member: str
    issuer: str
    client: str
    did_claim: str
    session_s_max: int
    sign_on_s_max: int
    keys: tuple[ProviderKey, ...]
    acr: tuple[str, ...] = ()
    step_up_acr: tuple[str, ...] = ()


class _ProviderKeys(_Body, frozen=True, forbid_unknown_fields=True):
    keys: tuple[ProviderKey, ...]


class _Replacement(_Body, frozen=True, forbid_unknown_fields=True):
    replaces: str


class _Activation(_Body, frozen=True, forbid_unknown_fields=True):
    dataschema: str


@dataclass(frozen=True)
class Act:
    """What a request would do.

    `lines` are for people. `about` is what it concerns, mostly a party's DID. `proven_until` is when the
    first of its proofs of possession ends, after which the request is refused. `shards` get partitions by it.
    `schema` is of the event type that it activates.
    """

    name: str
    about: str
    lines: tuple[Text, ...]
    proven_until: datetime | None = None
    shards: frozenset[int] = frozenset()
    schema: bytes | None = None


def act_of(request: ApprovalRequest, *, at: datetime) -> Act:
    """Return what the request would do, with every proof of possession verified.

    Raises:
        CommandError: it is no act that this version knows, or something in it is missing or not valid.
    """
    body = None if request.body is None else request.line.body
    asked = Asked.of(method=request.method, target=request.target, body=body, digest=None)
    # Written in another way, a server could take it for another path.
    written = "".join(f"/{quote(segment, safe=':')}" for segment in asked.path)
    for name, (method, shape, describe) in _ACTS.items():
        if asked.is_(method, *shape) and request.target == written:
            return describe(name, asked, request, at)
    raise CommandError(
        Exit.NO, "the request is none of the acts that this version of salus can show: do not approve it"
    )


def _registers(name: str, asked: Asked, request: ApprovalRequest, at: datetime) -> Act:
    body = _body(asked, _Registration)
    lines = [
        styled("[bold]register[/] {}", body.did),
        styled("  as a {}{}", body.kind, f", called {body.name}" if body.name else ""),
        styled("  acting for {}", body.member or "no organisation"),
        styled("  with the roles: {}", ", ".join(body.roles) or "none"),
    ]
    network, member = request.network, body.member
    return _with_new_keys(name, body.did, lines, body.keys, member=member, network=network, at=at)


def _adds_key(name: str, asked: Asked, request: ApprovalRequest, at: datetime) -> Act:
    party = _party(asked, request)
    key = _body(asked, _Key).key
    lines = [styled("[bold]let one more key sign as[/] {}", party.did), *_told(party)]
    network, member = request.network, party.member
    return _with_new_keys(name, party.did, lines, (key,), member=member, network=network, at=at)


def _revokes_key(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    party, body = _party(asked, request), _body(asked, _Revocation)
    lines = [
        styled("[bold]revoke a key of[/] {}", party.did),
        styled("  the key {}, as {}", body.key_id, body.reason),
    ]
    if body.since is not None:
        lines.append(styled("  what it signed since {} is in doubt then", shown_moment(body.since)))
    lines += [*_told(party), *_fingerprint_line(party, body.key_id)]
    return Act(name, party.did, tuple(lines))


def _grants_role(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    party, body = _party(asked, request), _body(asked, _Role)
    lines = [styled("[bold]grant the role {} to[/] {}", body.role, party.did), *_told(party)]
    if body.role == OPERATOR and body.keys is None:
        raise CommandError(
            Exit.NO, "keys: a grant of the role operator names the keys that would sign: it does not"
        )
    if body.keys is not None:
        if sorted(body.keys) != sorted(key.id for key in party.signing_keys):
            raise CommandError(
                Exit.NO, "keys: the request names other keys than the party has: ask for a new one"
            )
        lines.append(styled("  who would sign in that role with these keys, and no others:"))
        lines += [line for key in party.signing_keys for line in key_lines(key)]
    return Act(name, party.did, tuple(lines))


def _withdraws_role(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    if request.body is not None:
        raise CommandError(Exit.NO, "body: a withdrawal has none: do not approve what is not shown")
    party = _party(asked, request)
    lines = [styled("[bold]withdraw the role {} from[/] {}", asked.path[3], party.did), *_told(party)]
    return Act(name, party.did, tuple(lines))


def _changes_standing(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    party, body = _party(asked, request), _body(asked, _Reason)
    verb = asked.path[2]
    lines = [
        styled("[bold]{}[/] {}", f"{verb} the member", party.did),
        styled("  for the reason {}", body.reason),
        *_told(party),
        styled("  it is {} now", party.membership or "no member"),
        styled("  {}", CONSEQUENCES[verb]),
    ]
    return Act(name, party.did, tuple(lines))


def _assigns_shards(name: str, asked: Asked, _request: ApprovalRequest, _at: datetime) -> Act:
    body = _body(asked, _Assignment)
    lines = [styled("[bold]assign the partitions to shards[/], as assignment {}", body.epoch)]
    for added in body.added:
        lines.append(styled("  with the new shard {}, called {}", added.id, added.origin))
        lines.append(styled("    which the ledger believes by its verifier key {}", added.verifier_key))
    for shard in body.shards:
        topics = "; ".join(f"{topic} {list(numbers)}" for topic, numbers in sorted(shard.topics.items()))
        lines.append(styled("  shard {} seals {}", shard.id, topics or "nothing"))
    shards = frozenset(shard.id for shard in body.shards if any(shard.topics.values()))
    return Act(name, f"assignment {body.epoch}", tuple(lines), shards=shards)


def _activates_type(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    body = _body(asked, _Activation)
    if request.schema is None:
        raise CommandError(Exit.NO, "schema: the file does not have it: ask for a new one")
    schema = request.schema.encode("utf-8")
    require_schema(asked.path[1], schema, body.dataschema)
    lines = [
        styled("[bold]take events of the type[/] {}", asked.path[1]),
        styled("  by this schema and no other:"),
        *schema_lines(schema),
        styled("  [green]✓[/] it is the one that the request names: {}", body.dataschema),
    ]
    return Act(name, asked.path[1], tuple(lines), schema=schema)


def _withdraws_type(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    if request.body is not None:
        raise CommandError(Exit.NO, "body: a withdrawal has none: do not approve what is not shown")
    lines = (
        styled("[bold]take no more events of the type[/] {}", asked.path[1]),
        styled("  and forget what is proposed for it"),
    )
    return Act(name, asked.path[1], lines)


def _activates_policies(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    body, digest = _body(asked, _Replacement), asked.path[1]
    if request.policies is None:
        raise CommandError(Exit.NO, "policies: the file does not have them: ask for a new one")
    contents = contents_of(request.policies)
    if len(contents) != len(request.policies) or digest_of(contents) != digest:
        raise CommandError(Exit.NO, "policies: they are others than the request names: ask for a new one")
    if found := problems_of(contents):
        raise CommandError(Exit.NO, f"policies: {found[0]}")
    lines = [
        styled("[bold]decide by the policy set[/] {}", digest),
        styled("  in the place of {}, with these files and no other:", body.replaces),
    ]
    for file in request.policies:
        lines.append(styled("  [bold]{}[/]", file.name))
        lines += [styled("    {}", line) for line in file.text.split("\n")]
    lines.append(styled("  [green]✓[/] they are those that the request names, and valid"))
    return Act(name, digest, tuple(lines))


def _adds_provider(name: str, asked: Asked, _request: ApprovalRequest, _at: datetime) -> Act:
    body = _body(asked, _Provider)
    acr, again = (", ".join(those) or "the provider likes" for those in (body.acr, body.step_up_acr))
    lines = [
        styled("[bold]let people log in at[/] {}, called {}", body.issuer, body.provider),
        styled("  who act for {}, as its claim {} names them", body.member, body.did_claim),
        styled("  with the client {}, for {} s", body.client, body.session_s_max),
        styled(
            "  authenticated as {}, {} s before at most; to step up as {}", acr, body.sign_on_s_max, again
        ),
        *_provider_key_lines(body.keys),
    ]
    return Act(name, body.provider, tuple(lines))


def _replaces_provider_keys(name: str, asked: Asked, _request: ApprovalRequest, _at: datetime) -> Act:
    lines = [styled("[bold]take logins at[/] {}", asked.path[1])]
    return Act(name, asked.path[1], (*lines, *_provider_key_lines(_body(asked, _ProviderKeys).keys)))


def _withdraws_provider(name: str, asked: Asked, request: ApprovalRequest, _at: datetime) -> Act:
    if request.body is not None:
        raise CommandError(Exit.NO, "body: a withdrawal has none: do not approve what is not shown")
    said = styled("[bold]let nobody log in at[/] {}", asked.path[1])
    return Act(name, asked.path[1], (said, styled("  and end the sessions that it gave")))


def _provider_key_lines(keys: tuple[ProviderKey, ...]) -> list[Text]:
    head = styled("  that are signed with one of these keys, and with no other:")
    digests = [sha256(msgspec.json.encode(key)).hexdigest() for key in keys]
    told = zip(keys, digests, strict=True)
    return [head, *(styled("  {} {}, SHA-256 {}", key.alg, key.kid, digest) for key, digest in told)]


_Describe = Callable[[str, Asked, ApprovalRequest, datetime], Act]
_ACTS: Mapping[str, tuple[str, tuple[str | None, ...], _Describe]] = {
    "register": ("POST", ("parties",), _registers),
    "add-key": ("POST", ("parties", None, "keys"), _adds_key),
    "revoke-key": ("POST", ("parties", None, "keys", "revoke"), _revokes_key),
    "grant-role": ("POST", ("parties", None, "roles"), _grants_role),
    "suspend": ("POST", ("parties", None, "suspend"), _changes_standing),
    "reinstate": ("POST", ("parties", None, "reinstate"), _changes_standing),
    "expel": ("POST", ("parties", None, "expel"), _changes_standing),
    "assign-shards": ("POST", ("shards",), _assigns_shards),
    "activate-event-type": ("POST", ("event-types", None, "activate"), _activates_type),
    "withdraw-event-type": ("POST", ("event-types", None, "withdraw"), _withdraws_type),
    "add-provider": ("POST", ("providers",), _adds_provider),
    "replace-provider-keys": ("POST", ("providers", None, "keys"), _replaces_provider_keys),
    "withdraw-provider": ("POST", ("providers", None, "withdraw"), _withdraws_provider),
    "activate-policies": ("POST", ("policies", None, "activate"), _activates_policies),
    "withdraw-role": ("DELETE", ("parties", None, "roles", None), _withdraws_role),
}


def _with_new_keys(
    name: str,
    did: str,
    lines: list[Text],
    keys: tuple[ProvenKey, ...],
    *,
    member: str | None,
    network: str,
    at: datetime,
) -> Act:
    if not keys:
        raise CommandError(Exit.NO, "keys: the request names none")
    ends = []
    for key in keys:
        if key.id.partition("#")[0] != did:
            raise CommandError(Exit.NO, f"keys: {shown(key.id)} is not a key of {shown(did)}")
        ends.append(check_possession(key, member=member, network=network, at=at).until)
        lines.append(styled("  with the key {}", key.id))
        lines.append(styled("    fingerprint {}", fingerprint(key.multibase)))
        lines.append(styled("    signs from {} until {}", shown_moment(key.valid_from), _end(key)))
        lines.append(
            styled("    [green]✓[/] its holder has signed that it joins, for {}", member or "no organisation")
        )
    return Act(name, did, tuple(lines), min(ends))


def _end(key: ProvenKey) -> str:
    return "it is revoked" if key.valid_until is None else shown_moment(key.valid_until)


def _party(asked: Asked, request: ApprovalRequest) -> PartyFacts:
    did = asked.path[1]
    if request.party is None or request.party.did != did:
        raise CommandError(Exit.NO, f"party: the file does not say who {shown(did)} is: ask for a new one")
    return request.party


def _told(party: PartyFacts) -> list[Text]:
    name = f", called {party.name}" if party.name else ""
    return [
        styled("  which is a {}{}, acting for {}", party.kind, name, party.member or "no organisation"),
        styled("  and holds the roles: {}", ", ".join(party.roles) or "none"),
    ]


def key_lines(key: KeyFacts) -> list[Text]:
    """Return the lines that tell of a key what it is and when it signs; raises CommandError if it is none."""
    try:
        shape = fingerprint(key.multibase)
    except ValueError as error:
        raise CommandError(Exit.NO, f"party.keys: {shown(key.id)}: {error}") from None
    return [
        styled("  the key {}", key.id),
        styled("    fingerprint {}", shape),
        styled("    signs from {} until {}", key.valid_from, key.valid_until or "it is revoked"),
    ]


def _fingerprint_line(party: PartyFacts, key_id: str) -> list[Text]:
    held = [key for key in party.signing_keys if key.id == key_id]
    if not held:
        raise CommandError(Exit.NO, f"key_id: the party has no such key that signs: {shown(key_id)}")
    return key_lines(held[0])[1:]


def _body(asked: Asked, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(read_json(asked.body or b""), kind)
    except JsonError as error:
        raise CommandError(Exit.NO, f"body: {error.why}") from None
    except ValueError as error:
        raise CommandError(Exit.NO, f"body: {shown(error)}: do not approve what is not shown") from None
