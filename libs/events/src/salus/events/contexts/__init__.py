"""Every context of this release, and the catalogue that they make with those of other packages.

A new event type is a class in the module of its context; a new context is a module here and a line below.
"""

from __future__ import annotations

from salus.events.catalogue import Catalogue
from salus.events.contexts import (
    audit,
    clinical,
    consent_oversight,
    consent_permits,
    consent_prohibitions,
    identity_login,
    lab,
    ledger,
    network,
    pharma,
    storage,
)
from salus.events.installed_contexts import installed_contexts

# A context may take several modules, and is whole once each of them is imported.
_MODULES = (
    audit,
    clinical,
    consent_oversight,
    consent_permits,
    consent_prohibitions,
    identity_login,
    lab,
    ledger,
    network,
    pharma,
    storage,
)
CONTEXTS = tuple(dict.fromkeys(module.CONTEXT for module in _MODULES))
CATALOGUE = Catalogue([*CONTEXTS, *installed_contexts()])
