"""Which version of Salus made a state folder: the schemas of its events, and the form of its ledger.

Another version refuses those events, so its services would begin without what they state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from salus.devkit.errors import NotInstalledError, OtherPackageError, OtherVersionError
from salus.events.context import OWN_PACKAGE
from salus.events.contexts import CATALOGUE
from salus.ledger.block import LEAF_ORIGIN
from salus.ledger.leaf_grammar import LEAF_LINE
from salus.runtime.manifests import services

TYPES_NAMED_MAX = 3
_SCHEMA = "urn:salus:schema:"


class ContextProvider(msgspec.Struct, frozen=True):
    """Which package beside the release brings a context, and which service states its events."""

    package: str
    service: str


class StateVersion(msgspec.Struct, frozen=True):
    """What may lie in a state folder: leaves of this form, and events by these schemas (`dataschema`).

    `providers`: by context, who brings the types that are not of the release.
    """

    leaf_form: str
    dataschemas: frozenset[str]
    providers: dict[str, ContextProvider] = {}

    @classmethod
    def current(cls) -> StateVersion:
        """Return what this version writes."""
        form = sha256(LEAF_ORIGIN + LEAF_LINE.pattern).hexdigest()
        return cls(form, frozenset(entry.dataschema for entry in CATALOGUE.types()), _providers())

    def continued(self, folder: Path, *, ran: Collection[str] = ()) -> StateVersion:
        """Return what may lie in the folder once this version writes there too; `ran`: services that did.

        Raises:
            OtherVersionError: this version does not read what is there.
            NotInstalledError: a service that ran there is not installed here.
        """
        current = StateVersion.current()
        if self.leaf_form != current.leaf_form:
            raise OtherVersionError(folder, "the leaves of its ledger have another form")
        older = (one for entry in CATALOGUE.types() for one in entry.older_dataschemas)
        unknown = defaultdict[ContextProvider | None, set[str]](set)
        for dataschema in sorted(self.dataschemas.difference(current.dataschemas, older)):
            unknown[self.providers.get(_context_of(_type_of(dataschema)))].add(dataschema)
        if release := unknown.pop(None, None):
            raise OtherVersionError(folder, f"events of {_types_of(release)} have another schema")
        installed = {provider.package for provider in current.providers.values()}
        for provider, dataschemas in unknown.items():
            if provider is not None and provider.service in ran:
                if provider.package not in installed:
                    raise NotInstalledError(provider.service, provider.package)
                raise OtherPackageError(folder, provider.package, _types_of(dataschemas))
        return StateVersion(
            current.leaf_form, self.dataschemas | current.dataschemas, self.providers | current.providers
        )


def _providers() -> dict[str, ContextProvider]:
    named = {manifest.context: manifest.name for manifest in services()}
    contexts = {_context_of(entry.name): CATALOGUE.package_of(entry.name) for entry in CATALOGUE.types()}
    return {
        context: ContextProvider(package, named.get(context, context))
        for context, package in contexts.items()
        if package not in {None, OWN_PACKAGE}
    }


def _type_of(dataschema: str) -> str:
    return dataschema.removeprefix(_SCHEMA).partition(":")[0]


def _context_of(name: str) -> str:
    return name.split(".")[1]


def _types_of(dataschemas: Iterable[str]) -> str:
    names = sorted(set(map(_type_of, dataschemas)))
    more = len(names) - TYPES_NAMED_MAX
    return ", ".join(names[:TYPES_NAMED_MAX]) + (f" and {more} more types" if more > 0 else "")
