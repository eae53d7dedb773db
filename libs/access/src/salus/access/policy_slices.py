"""Which policies of a set a request can match, so that a thousand of them cost what those few cost.

A policy is left out only where its scope, or what its first `when` begins with, is false for the request.
Cedar evaluates both before anything else of the policy, so such a policy neither decides nor fails: with and
without it the engine answers the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cedarpy

from salus.access.decisions import Inputs
from salus.access.parsed_policies import Node, policy_set_of

# What is kept has so many policies in all, of some 5 KB each. There is a slice for each action, and each
# organisation and purpose that policies name.
POLICIES_KEPT_MAX = 10_000
# To make a larger one takes longer than to ask all policies.
SLICE_MAX = 256
Facts = tuple[str | None, ...]
_PRINCIPAL = {"Var": "principal"}
_PATIENT = {".": {"left": {"Var": "resource"}, "attr": "patient"}}
# What a policy may begin with: attributes that are always there, and those of which `has` is asked before.
_ALWAYS = {
    "did": {".": {"left": _PRINCIPAL, "attr": "did"}},
    "kind": {".": {"left": _PRINCIPAL, "attr": "kind"}},
    "purpose": {".": {"left": {"Var": "context"}, "attr": "purpose"}},
}
_OPTIONAL = {
    "member": {".": {"left": _PRINCIPAL, "attr": "member"}},
    "steward": {".": {"left": _PATIENT, "attr": "steward"}},
}
_HAS = {
    "member": {"has": {"left": _PRINCIPAL, "attr": "member"}},
    "steward": {"has": {"left": _PATIENT, "attr": "steward"}},
}
_ROLES = {".": {"left": _PRINCIPAL, "attr": "roles"}}
_SCOPES = ("principal", "action", "resource")
FACTS = (*_SCOPES, "did", "kind", "purpose", "member", "steward")


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy in Cedar's JSON, and the values that a request needs to match it, by fact."""

    name: str
    node: Node
    needs: Mapping[str, frozenset[str]]

    def may_match(self, facts: Mapping[str, str | None]) -> bool:
        return all(facts[name] in values for name, values in self.needs.items())


class PolicySlices:
    """The policies of a set by what they need of a request."""

    def __init__(self, policies: Mapping[str, Node], *, kept_max: int = POLICIES_KEPT_MAX) -> None:
        """`policies` are the policies of a set by name, in Cedar's JSON."""
        self._policies = [_Policy(name, node, dict(_needs(node))) for name, node in policies.items()]
        # A value that no policy names is like any other.
        self._named: dict[str, set[str]] = {name: set() for name in FACTS}
        for policy in self._policies:
            for name, values in policy.needs.items():
                self._named[name] |= values
        self._kept: OrderedDict[Facts, cedarpy.PolicySet] = OrderedDict()
        self._kept_max = kept_max
        self._weight = 0

    def of(self, inputs: Inputs) -> cedarpy.PolicySet | None:
        """Return the policies that the request can match; None: all of them are to be asked.

        Those can be very many, or the request is not one that `inputs_of` makes.
        """
        if (facts := _facts(inputs)) is None:
            return None
        key = tuple(value if value in self._named[name] else None for name, value in facts.items())
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        matching = {policy.name: policy.node for policy in self._policies if policy.may_match(facts)}
        if len(matching) > SLICE_MAX:
            return None
        made = policy_set_of(matching)
        self._kept[key] = made
        self._weight += 1 + len(made)
        while self._weight > self._kept_max:
            _, dropped = self._kept.popitem(last=False)
            self._weight -= 1 + len(dropped)
        return made


def _facts(inputs: Inputs) -> dict[str, str | None] | None:
    """Return what policies may need, in the order of FACTS."""
    try:
        party, patient, _ = (entity["attrs"] for entity in inputs.entities)
        return {
            "principal": _uid(inputs.principal),
            "action": _uid(inputs.action),
            "resource": _uid(inputs.resource),
            "did": party["did"],
            "kind": party["kind"],
            "purpose": inputs.context["purpose"],
            "member": party.get("member"),
            "steward": patient.get("steward"),
        }
    except (KeyError, ValueError):
        # The engine says what is wrong with it.
        return None


def _uid(entity: Mapping[str, str]) -> str:
    return f"{entity['type']}::{entity['id']}"


def _needs(policy: Node) -> Iterator[tuple[str, frozenset[str]]]:
    needs: dict[str, frozenset[str]] = {}
    for name in _SCOPES:
        scope = policy[name]
        if scope["op"] == "==" and "entity" in scope:
            needs[name] = frozenset({_uid(scope["entity"])})
    guarded: set[str] = set()
    for conjunct in _first_conjuncts(policy):
        guards = {name for name, has in _HAS.items() if conjunct == has}
        guarded |= guards
        if guards or _is_about_roles(conjunct):
            continue
        found = _needed(conjunct, guarded)
        if found is None:
            break
        name, values = found
        needs[name] = needs.get(name, values) & values
    yield from needs.items()


def _first_conjuncts(policy: Node) -> Iterator[Node]:
    """Yield what the first clause is made of, in the order in which Cedar evaluates it."""
    conditions = policy.get("conditions", [])
    if conditions and conditions[0]["kind"] == "when":
        yield from _conjuncts(conditions[0]["body"])


def _conjuncts(node: Node) -> Iterator[Node]:
    if "&&" in node:
        yield from _conjuncts(node["&&"]["left"])
        yield from _conjuncts(node["&&"]["right"])
    else:
        yield node


def _needed(node: Node, guarded: set[str]) -> tuple[str, frozenset[str]] | None:
    """Return the fact that a conjunct compares with texts, and those; None for any other conjunct."""
    if "==" in node:
        sides = node["=="]["left"], node["=="]["right"]
        for one, other in (sides, sides[::-1]):
            fact, value = _fact_of(one, guarded), _text(other)
            if fact is not None and value is not None:
                return fact, frozenset({value})
    if "contains" in node and "Set" in node["contains"]["left"]:
        fact = _fact_of(node["contains"]["right"], guarded)
        values = [_text(each) for each in node["contains"]["left"]["Set"]]
        if fact is not None and None not in values:
            return fact, frozenset(value for value in values if value is not None)
    return None


def _is_about_roles(node: Node) -> bool:
    """Tell whether a conjunct asks for a role by name: that cannot fail, so what follows may be looked at."""
    contains = node.get("contains")
    return contains is not None and contains["left"] == _ROLES and _text(contains["right"]) is not None


def _fact_of(node: Node, guarded: set[str]) -> str | None:
    allowed = {**_ALWAYS, **{name: _OPTIONAL[name] for name in guarded}}
    return next((name for name, path in allowed.items() if path == node), None)


def _text(node: Node) -> str | None:
    value = node.get("Value")
    return value if isinstance(value, str) else None
