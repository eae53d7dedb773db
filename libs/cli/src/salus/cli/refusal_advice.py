"""What to do next when a service refuses a command, by the code of its refusal."""

from __future__ import annotations

from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "already-expelled": "an organisation that comes back registers under another DID: `salus party register`",
    "already-suspended": "there is nothing to do; `salus member list` says why",
    "approval-invalid": "the approval is not of this request, has ended, or its key signs no more: "
    "ask for a new one",
    "did-lookalike": "write the DID as it is registered",
    "did-not-of-member": "let an operator register it, or choose a DID below the member's own",
    "insufficient-user-authentication": "`salus login PROVIDER --step-up`, with the --name of the session, "
    "and the command again",
    "key-in-use": "a key belongs to one party: make a new one",
    "key-not-proven": "the new key's holder runs `salus party prove-key` again, with the same --member "
    "and the --network of this one",
    "keys-not-named": "the party's keys have changed since: run the command again",
    "last-key": "first add a key: `salus party add-key`; as compromised or left it may go all the same",
    "last-operators": "two operators of other members grant that role in another organisation first: "
    "`salus party grant-role`",
    "last-operator": "first grant the role operator to somebody else who can sign",
    "member-expelled": "`salus member list` says why; an expulsion is final",
    "member-suspended": "`salus member list` says why; two operators of other members reinstate it",
    "name-taken": "it has taken effect before, or somebody was faster: look with `salus party show`",
    "not-a-member": "`salus member list` shows the members; of others `salus party revoke-key`",
    "not-permitted": "docs/rights.md says who may; say who asks with --as or --key",
    "not-suspended": "`salus member list` shows who is; an expulsion begins with `salus member suspend`",
    "not-the-steward": "with --purpose a decision to write is asked for, which rests on a consent",
    "party-exists": "look with `salus party show`; `salus party add-key` gives it one more key",
    "policies-changed": "another policy set came into force: look with `salus policy list`, and ask again",
    "policies-invalid": "`salus policy check FOLDER` names what is wrong, and where",
    "policy-set-in-force": "there is nothing to do",
    "provider-exists": "`salus provider list` shows it; `salus provider withdraw` ends it first",
    "role-held": "there is nothing to do",
    "role-not-for-kind": "docs/rights.md says which kind of party holds which role",
    "role-not-held": "there is nothing to do",
    "unknown-role": "docs/rights.md has the roles",
    "second-operator-needed": "run the command again with --to-approve FILE, give FILE to an operator of "
    "another organisation for `salus approve FILE`, then run `salus party submit FILE --approval APPROVAL`",
    "too-many-requests": "wait a minute",
    "unauthenticated": "is the key of a party of this network and not revoked, and is the clock right? "
    "For a key that was added later, and a holder that is no did:key, give --key-id",
    "unknown-key": "`salus party show` lists the keys",
    "session-key": "sign with a key of your own: --as or --key",
    "unknown-provider": "`salus provider list` shows those in force",
    "unknown-member": "--member: register the organisation first, as `--kind member`",
    "wrong-epoch": "somebody assigned partitions since: run the command again",
    "unknown-party": "`salus party list` shows who is registered",
}
