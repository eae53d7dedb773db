"""Who asked a service for what its event states, and the proof of it: the same in every event of a service.

A caller with a key signs each request that makes an event: its bearer token names the method, the target and
the SHA-256 of the body. The token, and the body where it is a command of our own API, travel in the event,
so that not even the service can invent a request or alter one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from salus.events.event_types import EventData
from salus.events.fields import Did
from salus.events.names import Name
from salus.events.step_up import StepUp

# The ways in which a caller was authenticated. A new way is a new value, and no new schema.
SIGNED = "did-jwt"
"""The caller signed the request with a key of its DID; `proof` is the token."""
ID_TOKEN = "id-token"  # noqa: S105  # the name of a way
"""The caller logged in: `body` is the token exchange with the provider's ID token, and `proof` the DPoP proof
(RFC 9449) of the key that signs for the caller from then on. An event `session-opened` is asked for so."""
SERVICE = "service"
"""Nobody asked: the service states it of its own accord, as when it starts."""

PROOF_CHARS_MAX = 8192
BODY_CHARS_MAX = 262_144
_PROOF = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+\Z", max_length=PROOF_CHARS_MAX),
]
_Method = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]+\Z", min_length=1, max_length=32)]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Who asked (`by`), how they were authenticated, on whose behalf, under which decision.

    `behalf` is the member that the caller acts for. `proof` is the caller's bearer token, a compact JWS that
    names method, target and digest of the body; `body` is that body, as it was sent, where it holds nothing
    but a command of the Salus API. Of an uploaded object or a FHIR resource only the digest is kept.
    `approval` is the signature of a second party over the same request, where one person alone may not ask.
    """

    by: Did
    authentication: _Method
    behalf: Did | None = None
    decision: Name | None = None
    proof: _PROOF | None = None
    body: Annotated[str, msgspec.Meta(max_length=BODY_CHARS_MAX)] | None = None
    approval: _PROOF | None = None

    @classmethod
    def of_service(cls, did: str) -> Request:
        """Return what an event says that the service states of its own accord."""
        return cls(by=did, authentication=SERVICE)


class RequestedData(EventData, frozen=True, kw_only=True):
    """Base of the data of an event that a service states because somebody asked."""

    request: Request

    @property
    def part(self) -> str:
        """Which part of its request it states, where one asks for many facts; empty if it asks for one."""
        return ""

    @property
    def step_up(self) -> StepUp | None:
        """What it is that a session asks for only right after a login; None: it asks for it at any time."""
        return None
