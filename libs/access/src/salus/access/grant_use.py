"""Whether a policy looks at a patient's grants as they are given: those of the asked action and purpose.

A policy that looked for another grant, or at all of them, would find less than she granted, and a `forbid`
could stay silent. So such a policy is refused when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PURPOSE = {".": {"left": {"Var": "context"}, "attr": "purpose"}}


def misused_grants(policy: Mapping[str, Any]) -> str | None:
    """Return what is wrong with how a policy, in Cedar's JSON, looks at `grants`; None if nothing is."""
    scope = policy["action"]
    action = scope["entity"]["id"] if scope["op"] == "==" and "entity" in scope else None
    uses = sum(_mentions(condition["body"]) for condition in policy.get("conditions", []))
    fitting = sum(
        1
        for condition in policy.get("conditions", [])
        for looked_for in _looked_for(condition["body"])
        if looked_for.get("purpose") == _PURPOSE and looked_for.get("action") == {"Value": action}
    )
    if uses == fitting:
        return None
    return (
        "grants are looked at by contains({ grantee: …, action: the one action of the policy's scope, "
        "purpose: context.purpose }) only"
    )


def _mentions(node: Any) -> int:
    """Return how often `.grants` is read."""
    return sum(1 for each in _nodes(node) if isinstance(each.get("."), dict) and _is_grants(each))


def _looked_for(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the record that each `.grants.contains({…})` looks for."""
    for each in _nodes(node):
        contains = each.get("contains")
        if isinstance(contains, dict) and _is_grants(contains["left"]) and "Record" in contains["right"]:
            yield contains["right"]["Record"]


def _is_grants(node: Mapping[str, Any]) -> bool:
    read = node.get(".")
    return isinstance(read, dict) and read.get("attr") == "grants"


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from _nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value)
