"""What consent is, and runs it: `python -m salus.consent`."""

from __future__ import annotations

from salus.consent.adapters.folded import PATIENTS, POLICIES, SUBJECTS
from salus.consent.composition import adopt, install, open_world
from salus.consent.settings import Settings
from salus.contracts.service import ContractService, run

SERVICE = ContractService(
    package="salus.consent",
    settings=Settings,
    folds=(PATIENTS, POLICIES, SUBJECTS),
    open=open_world,
    adopt=adopt,
    install=install,
)

if __name__ == "__main__":
    run(SERVICE)
