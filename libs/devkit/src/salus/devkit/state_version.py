"""Which version of Salus made a state folder: the schemas of its events, and the form of its ledger.

Another version refuses those events, so its services would begin without what they state.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from salus.devkit.errors import OtherVersionError
from salus.events.contexts import CATALOGUE
from salus.ledger.block import LEAF_ORIGIN
from salus.ledger.leaf_grammar import LEAF_LINE

TYPES_NAMED_MAX = 3
_SCHEMA = "urn:salus:schema:"


class StateVersion(msgspec.Struct, frozen=True):
    """What may lie in a state folder: leaves of this form, and events by these schemas (`dataschema`)."""

    leaf_form: str
    dataschemas: frozenset[str]

    @classmethod
    def current(cls) -> StateVersion:
        """Return what this version writes."""
        form = sha256(LEAF_ORIGIN + LEAF_LINE.pattern).hexdigest()
        return cls(form, frozenset(entry.dataschema for entry in CATALOGUE.types()))

    def continued(self, folder: Path) -> StateVersion:
        """Return what may lie in the folder once this version writes there too.

        Raises:
            OtherVersionError: this version does not read what is there.
        """
        current = StateVersion.current()
        if self.leaf_form != current.leaf_form:
            raise OtherVersionError(folder, "the leaves of its ledger have another form")
        older = (one for entry in CATALOGUE.types() for one in entry.older_dataschemas)
        if unknown := self.dataschemas.difference(current.dataschemas, older):
            raise OtherVersionError(folder, f"events of {_types_of(unknown)} have another schema")
        return StateVersion(current.leaf_form, self.dataschemas | current.dataschemas)


def _types_of(dataschemas: Iterable[str]) -> str:
    names = sorted({dataschema.removeprefix(_SCHEMA).partition(":")[0] for dataschema in dataschemas})
    more = len(names) - TYPES_NAMED_MAX
    return ", ".join(names[:TYPES_NAMED_MAX]) + (f" and {more} more types" if more > 0 else "")
