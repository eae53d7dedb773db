"""Verdicts that a policy set has given: what it would see the same way again, it is not asked again.

A policy reads nothing of the id of a record or a patient. It compares them with each other, which stays the
same under other names, and with those that a policy names. So where no policy of the set names one, questions
that differ in these ids alone have the same verdict: what is known of one patient who allows an organisation
something goes for the next one who allows it the same.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from salus.access.decisions import Inputs, Verdict, encoded
from salus.access.parsed_policies import Node

# Each takes some 300 bytes. An organisation has one for each way in which patients allow it something.
VERDICTS_KEPT_MAX = 10_000
# Principals are not among them: texts say their names as well.
_UNNAMED = frozenset({"Salus::Record", "Salus::Patient"})


class KnownVerdicts:
    """The verdicts of one policy set on what was asked last; those with an error are never kept."""

    def __init__(self, policies: Iterable[Node], *, kept_max: int = VERDICTS_KEPT_MAX) -> None:
        """`policies` are those of the set, in Cedar's JSON."""
        self._names_some = any(named in _UNNAMED for policy in policies for named in _named(policy))
        self._kept_max = kept_max
        self._kept: OrderedDict[bytes, Verdict] = OrderedDict()

    def key(self, inputs: Inputs) -> bytes:
        """Return what is the same for all inputs of which the set says the same."""
        text = inputs.encoded
        if not self._names_some:
            for place, entity in enumerate(inputs.entities):
                if entity["uid"]["type"] in _UNNAMED:
                    # In no text of JSON does a quotation mark stand without a backslash, so it is nothing
                    # but the entity's name that is replaced; and what takes its place is no JSON.
                    text = text.replace(encoded(entity["uid"]), b"#%d" % place)
        return hashlib.sha256(text).digest()

    def get(self, key: bytes) -> Verdict | None:
        """Return the verdict that is known for a key."""
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
        return known

    def keep(self, key: bytes, verdict: Verdict) -> None:
        """Keep a verdict; the one that was asked for longest ago makes room."""
        if verdict.errors:
            return
        self._kept[key] = verdict
        while len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)


def _named(node: Any) -> Iterator[str]:
    """Yield the types of the entities that a policy names, each as {"type": …, "id": …} somewhere in it."""
    if isinstance(node, Mapping):
        if "type" in node and "id" in node:
            yield str(node["type"])
        for part in node.values():
            yield from _named(part)
    elif isinstance(node, list):
        for part in node:
            yield from _named(part)
