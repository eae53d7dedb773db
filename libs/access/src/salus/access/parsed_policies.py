"""A policy as Cedar parses it, alone: what it is, how it is called and how deep, no other reader decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from salus.access.policy_texts import PolicyText

Node = Mapping[str, Any]


class PolicySetError(Exception):
    """The policies cannot be used; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class ParsedPolicy:
    """One policy: its text, and the same in Cedar's JSON."""

    text: str
    node: Node

    @property
    def annotations(self) -> Mapping[str, str | None]:
        """What stands at its @ signs, by name."""
        found: Mapping[str, str | None] = self.node.get("annotations", {})
        return found

    @property
    def permits(self) -> bool:
        """Tell whether it permits, and does not forbid."""
        return bool(self.node.get("effect") == "permit")

    @property
    def id(self) -> str | None:
        """What its @id says."""
        return self.annotations.get("id")


def parsed(policy: PolicyText) -> ParsedPolicy:
    """Return a policy whose text is within the bounds of `excess_of`.

    Raises:
        PolicySetError: Cedar does not parse it, or sees a template or several policies; or it is too deep for
            the form in which policies are picked and evaluated, which is Cedar's JSON.
    """
    try:
        document = cedarpy.policies_to_json_str(policy.text)
    except ValueError as error:
        raise PolicySetError(str(error)) from error
    try:
        cedarpy.PolicySet.from_json_str(document)
    except ValueError:
        why = (
            "the policy is too deep: write a long chain of comparisons as a set, [one, other].contains(value)"
        )
        raise PolicySetError(why) from None
    found = json.loads(document)  # noqa: TID251  # Cedar's own
    if found.get("templates") or found.get("templateLinks"):
        raise PolicySetError("policy templates are not used here")
    nodes = list(found["staticPolicies"].values())
    if len(nodes) != 1:
        raise PolicySetError(f"Cedar reads {len(nodes)} policies where one is written")
    return ParsedPolicy(policy.text, nodes[0])


def policy_set_of(policies: Mapping[str, Node]) -> cedarpy.PolicySet:
    """Return what the engine evaluates, of policies by name; raises ValueError if it does not take them."""
    document = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
    return cedarpy.PolicySet.from_json_str(json.dumps(document))
