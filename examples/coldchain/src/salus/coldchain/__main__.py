"""What coldchain is, and runs it: `python -m salus.coldchain`."""

from __future__ import annotations

from salus.coldchain.api import install, open_batches
from salus.coldchain.context import RulesAdopted
from salus.coldchain.domain import BATCHES
from salus.contracts.rules import Rules
from salus.contracts.service import ContractService, run
from salus.contracts.settings import ContractSettings

SERVICE = ContractService(
    package="salus.coldchain",
    settings=ContractSettings,
    folds=(BATCHES,),
    rules=Rules(RulesAdopted, code=("domain.py",)),
    open=open_batches,
    install=install,
)

if __name__ == "__main__":
    run(SERVICE)
