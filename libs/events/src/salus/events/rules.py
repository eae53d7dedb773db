"""Which rules a service decides by: the event that a context has of it."""

from __future__ import annotations

from salus.events.context import Context
from salus.events.event_types import Retention
from salus.events.fields import Sha256
from salus.events.requests import RequestedData


class RulesAdopted(RequestedData):
    """Decisions of the service from here on follow this version of its contract's code."""

    contract: Sha256


def rules_event(context: Context, *, owner: str) -> type[RulesAdopted]:
    """Declare the event type `salus.<context>.rules-adopted.v1` of a service, and return its class."""
    cls = type(RulesAdopted.__name__, (RulesAdopted,), {"__doc__": RulesAdopted.__doc__})
    name = f"salus.{context.name}.rules-adopted.v1"
    return context.event(name, owner=owner, retention=Retention.NETWORK, changes=True, unasked=True)(cls)
