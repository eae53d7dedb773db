"""What storage is, and runs it: `python -m salus.storage`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

from salus.contracts.service import ContractService, run
from salus.storage.adapters.facts import EPOCHS, ERASURE, OBJECTS, SUBJECTS
from salus.storage.composition import checks, close_world, install, open_world, tasks
from salus.storage.settings import Settings
from salus.storage.stores import open_buckets
from salus.storage.transfers import OBJECTS_PATH, UPLOADS_PATH

SERVICE = ContractService(
    package="salus.storage",
    settings=Settings,
    folds=(SUBJECTS, OBJECTS, EPOCHS),
    reactors=(ERASURE,),
    needs={"object store": open_buckets},
    open=open_world,
    close=close_world,
    checks=checks,
    tasks=tasks,
    install=install,
    streams=(OBJECTS_PATH, UPLOADS_PATH),
)

if __name__ == "__main__":
    run(SERVICE)
