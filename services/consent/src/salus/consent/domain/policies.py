"""The law of policy sets: what is proposed, what comes into force, and what a start adopts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from salus.access.policy_files import contents_of, digest_of
from salus.access.state import PolicyState
from salus.events.contexts.consent import (
    PolicyFile,
    PolicySetActivated,
    PolicySetAdopted,
    PolicySetProposed,
)
from salus.events.requests import Request
from salus.runtime.refusal import Refusal


@dataclass(frozen=True)
class Founding:
    """What a service has when it starts: the digest of its code, its engine, and the first policy set.

    `is_stated` tells whether the text of the set that is in force is on the ledger.
    """

    contract: str
    engine: str
    files: tuple[PolicyFile, ...]
    is_stated: bool = True

    @property
    def policy_set(self) -> str:
        """The digest of the first policy set."""
        return digest_of(contents_of(self.files))


def adopt(state: PolicyState, founding: Founding, *, service: str) -> PolicySetAdopted:
    """Return the event by which a service, named by its DID, puts its code into force.

    Where no policy set is in force the first one is with it; else the one in force stays, whatever is
    installed here.

    Raises:
        Refusal: `already-adopted`.
    """
    is_first = not state.policy_set
    lacks_text = not founding.is_stated and founding.policy_set == state.policy_set
    if not is_first and not lacks_text and state.contract == founding.contract:
        raise Refusal("already-adopted", "a policy set and this code are in force")
    return PolicySetAdopted(
        policy_set=state.policy_set or founding.policy_set,
        contract=founding.contract,
        files=founding.files if is_first or lacks_text else (),
        engine=founding.engine,
        request=Request.of_service(service),
    )


def propose(state: PolicyState, files: tuple[PolicyFile, ...], *, request: Request) -> PolicySetProposed:
    """Return the event of a proposal; that the files can be used, the caller has looked.

    Raises:
        Refusal: `policy-set-in-force`, or `already-proposed`.
    """
    policy_set = digest_of(contents_of(files))
    if policy_set == state.policy_set:
        raise Refusal("policy-set-in-force", "this policy set is in force")
    if any(proposal.policy_set == policy_set for proposal in state.proposed):
        raise Refusal("already-proposed", "this policy set is proposed already; it can be activated")
    return PolicySetProposed(policy_set=policy_set, files=files, request=request)


def activate(
    state: PolicyState, policy_set: str, *, replaces: str, engine: str, request: Request
) -> PolicySetActivated:
    """Return the event by which a policy set comes into force.

    Raises:
        Refusal: `policy-set-in-force`, `unknown-policy-set`, or `policies-changed`.
    """
    if policy_set == state.policy_set:
        raise Refusal("policy-set-in-force", "this policy set is in force")
    if not state.may_follow(policy_set):
        why = "no such policy set is proposed or was in force lately; propose it first"
        raise Refusal("unknown-policy-set", why, status=404)
    if replaces != state.policy_set:
        why = f"replaces: {state.policy_set} is in force, and another one was approved to be replaced"
        raise Refusal("policies-changed", why)
    return PolicySetActivated(
        policy_set=policy_set,
        replaces=replaces,
        version=state.version + 1,
        engine=engine,
        request=request,
    )
