"""What identity is, and runs it: `python -m salus.identity`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

from salus.contracts.service import ContractService, run
from salus.identity.composition import adopt, install, open_world
from salus.identity.folded import EVENT_TYPES, PARTIES, PROVIDERS, SHARDS
from salus.identity.settings import Settings
from salus.identity.token_api import TOKEN_PATH

SERVICE = ContractService(
    package="salus.identity",
    settings=Settings,
    folds=(PARTIES, SHARDS, EVENT_TYPES, PROVIDERS),
    open=open_world,
    adopt=adopt,
    install=install,
    approvals=True,
    # Who exchanges an ID token has no key yet that a bearer could be signed with.
    open_bodies=(TOKEN_PATH,),
)

if __name__ == "__main__":
    run(SERVICE)
