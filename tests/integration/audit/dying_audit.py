"""Audit in a process that is killed after it published and before it noted so; run by `test_detectors.py`."""

from __future__ import annotations

import asyncio

from tests.integration.audit.conftest import unjudged
from tests.integration.storage.dying_storage import dying

from salus.audit import __main__ as audit
from salus.audit.adapters.sql import SqlTrail
from salus.audit.settings import Settings


def main() -> None:
    dying(SqlTrail, "set_published", before=True)
    # As the conftest does for audit in its own process.
    vars(audit)["identity_topic_of"] = unjudged(audit.identity_topic_of)
    asyncio.run(audit.main(Settings()))


if __name__ == "__main__":
    main()
