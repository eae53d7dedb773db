"""What identity is, and runs it: `python -m salus.identity`."""

from __future__ import annotations

from salus.contracts.service import ContractService, run
from salus.identity.composition import adopt, install, open_world
from salus.identity.folded import EVENT_TYPES, PARTIES, SHARDS
from salus.identity.settings import Settings

SERVICE = ContractService(
    package="salus.identity",
    settings=Settings,
    folds=(PARTIES, SHARDS, EVENT_TYPES),
    open=open_world,
    adopt=adopt,
    install=install,
    approvals=True,
)

if __name__ == "__main__":
    run(SERVICE)
