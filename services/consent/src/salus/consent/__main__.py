"""What consent is, and runs it: `python -m salus.consent`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

from salus.consent.adapters.folded import DECISIONS, PATIENTS, POLICIES, POLICY_TEXTS, REVIEW, SUBJECTS
from salus.consent.adapters.folded_permits import PERMITS
from salus.consent.composition import adopt, checks, install, open_world, tasks
from salus.consent.settings import Settings
from salus.contracts.service import ContractService, run

SERVICE = ContractService(
    package="salus.consent",
    settings=Settings,
    folds=(PATIENTS, POLICIES, POLICY_TEXTS, SUBJECTS, DECISIONS, PERMITS),
    reactors=(REVIEW,),
    open=open_world,
    adopt=adopt,
    install=install,
    checks=checks,
    tasks=tasks,
    approvals=True,
)

if __name__ == "__main__":
    run(SERVICE)
