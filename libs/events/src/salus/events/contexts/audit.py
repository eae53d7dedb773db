"""The audit trail: no facts of its own, for it is a projection of the ledger."""

from __future__ import annotations

from salus.events.context import Context

CONTEXT = Context("audit")
AUDIT = CONTEXT.role("audit", "service", "makes the searchable trail of the ledger")
CONTEXT.role("soc-analyst", "person", "reads the trail of the whole network")
