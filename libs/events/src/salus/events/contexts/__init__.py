"""Every context of this release, and the catalogue that they make with those of other packages.

A new event type is a class in the module of its context; a new context is a module here and a line below.
"""

from __future__ import annotations

from salus.events.catalogue import Catalogue
from salus.events.contexts import (
    audit,
    clinical,
    consent_oversight,
    identity_login,
    lab,
    ledger,
    network,
    pharma,
    storage,
)
from salus.events.installed_contexts import installed_contexts

# What `identity_login` declares belongs to identity's context, which is whole with it; so with consent's.
CONTEXTS = tuple(
    module.CONTEXT
    for module in (audit, clinical, consent_oversight, identity_login, lab, ledger, network, pharma, storage)
)
CATALOGUE = Catalogue([*CONTEXTS, *installed_contexts()])
