"""What events of parties, keys, roles, members, types and logins mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import identity, identity_login
from salus.events.membership import MembershipFact


@describes(identity.PartyRegistered)
def _party_registered(data: identity.PartyRegistered) -> Facts:
    roles = f" with roles {', '.join(data.roles)}" if data.roles else ""
    return Facts(
        activity=Activity.PARTY_CREATED,
        action="C",
        summary=f"The {data.kind} {short(data.did)} belongs to the network{roles}.",
        party=data.did,
        object=data.did,
        object_kind=data.kind,
        privileges=data.roles,
    )


@describes(identity.KeyAdded)
def _key_added(data: identity.KeyAdded) -> Facts:
    return Facts(
        activity=Activity.KEY_ADDED,
        action="C",
        severity=Severity.LOW,
        summary=f"{short(data.did)} may also sign with another key.",
        party=data.did,
        object=data.key.id,
        object_kind="key",
    )


@describes(identity.KeyRevoked)
def _key_revoked(data: identity.KeyRevoked) -> Facts:
    doubted = f" What it signed since {data.since.isoformat()} is in doubt." if data.since else ""
    return Facts(
        activity=Activity.KEY_ENDED,
        action="U",
        severity=Severity.HIGH if data.reason == "compromised" else Severity.LOW,
        summary=f"A key of {short(data.did)} was revoked: {data.reason}.{doubted}",
        party=data.did,
        object=data.key_id,
        object_kind="key",
        doubted_since=data.since,
    )


@describes(identity.RoleGranted)
def _role_granted(data: identity.RoleGranted) -> Facts:
    return _role(data, Activity.ROLE_ADDED, f"{short(data.did)} now holds the role {data.role}.")


@describes(identity.RoleWithdrawn)
def _role_withdrawn(data: identity.RoleWithdrawn) -> Facts:
    return _role(data, Activity.ROLE_ENDED, f"{short(data.did)} no longer holds the role {data.role}.")


@describes(identity.MemberSuspended)
def _member_suspended(data: identity.MemberSuspended) -> Facts:
    return _membership(data, Activity.MEMBER_SUSPENDED, "suspended", Severity.HIGH)


@describes(identity.MemberReinstated)
def _member_reinstated(data: identity.MemberReinstated) -> Facts:
    return _membership(data, Activity.MEMBER_REINSTATED, "reinstated", Severity.MEDIUM)


@describes(identity.MemberExpelled)
def _member_expelled(data: identity.MemberExpelled) -> Facts:
    return _membership(data, Activity.MEMBER_EXPELLED, "expelled", Severity.HIGH)


def _membership(data: MembershipFact, activity: Activity, how: str, severity: Severity) -> Facts:
    return Facts(
        activity=activity,
        action="U",
        severity=severity,
        summary=f"The member {short(data.did)} was {how}: {data.reason}.",
        party=data.did,
        object=data.did,
        object_kind="member",
        rules=(data.reason,),
    )


@describes(identity.ShardsAssigned)
def _shards_assigned(data: identity.ShardsAssigned) -> Facts:
    sealing = sum(1 for shard in data.shards if shard.topics)
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.MEDIUM,
        summary=f"Assignment {data.epoch}: {sealing} shards seal the network's topics.",
        object=str(data.epoch),
        object_kind="assignment",
    )


@describes(identity.EventTypeProposed)
def _event_type_proposed(data: identity.EventTypeProposed) -> Facts:
    return _event_type(data.type, f"{short(data.member)} proposed the event type {data.type}.")


@describes(identity.EventTypeActivated)
def _event_type_activated(data: identity.EventTypeActivated) -> Facts:
    return _event_type(data.type, f"Events of the type {data.type} are taken.", Severity.MEDIUM)


@describes(identity.EventTypeWithdrawn)
def _event_type_withdrawn(data: identity.EventTypeWithdrawn) -> Facts:
    return _event_type(data.type, f"Events of the type {data.type} are not taken any more.", Severity.MEDIUM)


@describes(identity_login.ProviderAdded)
def _provider_added(data: identity_login.ProviderAdded) -> Facts:
    summary = f"People of {short(data.member)} log in at the provider {data.provider}."
    return _provider(data.provider, summary, Severity.HIGH)


@describes(identity_login.ProviderKeysReplaced)
def _provider_keys_replaced(data: identity_login.ProviderKeysReplaced) -> Facts:
    return _provider(data.provider, f"The keys of the provider {data.provider} were replaced.")


@describes(identity_login.ProviderWithdrawn)
def _provider_withdrawn(data: identity_login.ProviderWithdrawn) -> Facts:
    return _provider(data.provider, f"Nobody logs in at the provider {data.provider} any more.")


def _provider(name: str, summary: str, severity: Severity = Severity.MEDIUM) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=severity,
        summary=summary,
        object=name,
        object_kind="login-provider",
    )


@describes(identity_login.SessionOpened)
def _session_opened(data: identity_login.SessionOpened) -> Facts:
    return Facts(
        activity=Activity.KEY_ADDED,
        action="C",
        severity=Severity.INFORMATIONAL,
        summary=f"{short(data.did)} logged in at the provider {data.provider}.",
        party=data.did,
        object=data.key.id,
        object_kind="session",
    )


def _event_type(name: str, summary: str, severity: Severity = Severity.LOW) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=severity,
        summary=summary,
        object=name,
        object_kind="event-type",
    )


def _role(data: identity.RoleGranted | identity.RoleWithdrawn, activity: Activity, summary: str) -> Facts:
    return Facts(
        activity=activity,
        action="U",
        severity=Severity.LOW,
        summary=summary,
        party=data.did,
        object=data.did,
        object_kind="role",
        privileges=(data.role,),
    )
