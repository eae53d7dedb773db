"""Writes docs/rights.md from the tables that the identity and the consent service decide by."""

from __future__ import annotations

from pathlib import Path

from tools import consent_rights

from salus.events.contexts import CATALOGUE
from salus.events.rights import RIGHTS, Act, Relation, Target

FILE = Path(__file__).resolve().parent.parent / "docs" / "rights.md"
HEAD = """# Who may do what to whom

Generated from [`rights.py`](../libs/events/src/salus/events/rights.py) by `make generate`; each
cell is a test ([`test_rights.py`](../tests/unit/identity/test_rights.py)).

**No right is gained without that right.** What gives somebody power needs two operators of different
organisations: one sends the request, the other signs an approval of the same request (header
`Salus-Approval`). What takes power away needs one, so that a stolen key goes at once; except from an
operator, or one operator could remove the other and then act alone. Why:
[decisions/two-operators.md](decisions/two-operators.md).

An operator's organisation is the member that it acts for, or the operator itself if it acts for none. While
no operator of another organisation has a key that signs (not revoked, not past its end), as in a
development network, *two operators* means one. Whoever is to become an operator counts as one, and so does
whoever is to lose that role.
"""
ROLES = """
## Roles

A role is a name that a context declares; the rules above say who gives it. A new one changes no schema. A
name that no context declares is `unknown-role`. Those of a package beside the release can be given once it is
installed, to people once a service of it [joined](decisions/a-service-joins-by-its-registration.md).

| role | held by a | who holds it |
|---|---|---|
"""
TAIL = """
Besides:

- The founding parties of `network.json` need no right: whoever holds the network file agrees to them.
- Every new key comes with a proof that its holder wants it registered under that id, for that member
  (`key-not-proven`).
- Identity, and the last operator that can sign, keep one key that signs now and has no end (`last-key`),
  and the last operator keeps its role (`last-operator`): nobody else could help them.
- A member registers people by `did:key`, or by `did:web` below its own (`did-not-of-member`). Any other
  `did:web` needs two operators.
- Who may revoke a key says since when it was in other hands (`since`, of `compromised`), up to 31 days back;
  more, or the key of another member, is for two operators ([why](decisions/a-stolen-key-leaves-doubt.md)).
- A grant of `operator` names, in `keys`, all the party's keys that are not revoked, as the second operator
  saw them (`keys-not-named`).
- Whoever folds identity's topic judges all this again: without the right an event has no effect
  ([why](decisions/rights-are-judged-by-everybody.md)).
- A role needs the kind of party that can hold it (`role-not-for-kind`); a member holds none. Only people
  and devices act for a member (`member-not-for-kind`).
- A member's event type is below that member's prefix (`invalid-schema`), and its schema compatible with the
  one that was active (`incompatible-schema`). *Itself* is the member whose type it is
  ([event types of your own](own-event-types.md)).
- Nobody of a member suspends, reinstates or expels it: its operators are neither the first nor the second
  one. A member that has operators is suspended only if two other organisations keep one each with a key that
  signs now and has no end (`last-operators`); only a suspended one is reinstated or expelled
  (`not-suspended`).
- Of a suspended or expelled member nobody asks for or approves anything (`member-suspended`,
  `member-expelled`), but a patient as such. Nobody joins it or gets a role there. Keys are revoked and roles
  withdrawn as the tables say; a key is added while it is suspended, and later to a patient alone
  ([why](decisions/a-suspended-member-is-silent.md)).
- A login provider speaks for the people of one member (*itself* in its tables), who are no operators. A
  session that it gives signs requests and asks for no fact of identity but the end of a session
  (`session-key`; [why](decisions/a-login-is-judged-by-everybody.md)).
- Adding a shard needs two operators, for it brings a key that the ledger is believed by. Moving partitions
  needs one.
"""


def render() -> str:
    """Return the document."""
    lines = [HEAD.rstrip("\n")]
    for act in Act:
        lines += [
            "",
            f"## {act.value.capitalize()}",
            "",
            f"| to | {' | '.join(Relation)} |",
            "|---" * 5 + "|",
        ]
        lines += [
            f"| {target} | {' | '.join(RIGHTS[act, target, relation] for relation in Relation)} |"
            for target in Target
            if (act, target, Relation.ITSELF) in RIGHTS
        ]
    roles = [f"| `{role.name}` | {role.kind} | {role.meaning} |\n" for role in CATALOGUE.roles()]
    return "\n".join(lines) + "\n" + TAIL + ROLES + "".join(roles) + consent_rights.section()


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
