"""Who plays: three organisations and their people, each with a key of its own, and how they call services."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.client import RequestSigner
from salus.client.auth import make_possession
from salus.events.did import LocalSigner, multibase_of

CALL_S_MAX = 60.0


@dataclass(frozen=True)
class Player:
    """A party of the story."""

    title: str
    signer: LocalSigner

    @property
    def did(self) -> str:
        """Its DID."""
        return self.signer.did


def new_player(title: str) -> Player:
    """Return a party with a fresh key."""
    return Player(title, LocalSigner(Ed25519PrivateKey.generate()))


@dataclass(frozen=True)
class Cast:
    """Everyone in the story."""

    hospital: Player
    laboratory: Player
    pharmacy: Player
    treating: Player
    covering: Player
    officer: Player
    analyst: Player
    patient: Player


def new_cast(patient: str) -> Cast:
    """Return the cast; `patient` is the given name of the one the story is about."""
    return Cast(
        hospital=new_player("Harbour General Hospital"),
        laboratory=new_player("Beacon Laboratory"),
        pharmacy=new_player("Copley Pharmacy"),
        treating=new_player("Dr Adeyemi, her cardiologist"),
        covering=new_player("Dr Novak, on call tonight"),
        officer=new_player("Ms Petrov, privacy officer"),
        analyst=new_player("the SOC analyst"),
        patient=new_player(patient),
    )


class Answer:
    """What a service answered."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.content = response.content
        self._response = response

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return self._response.json()

    @property
    def code(self) -> str:
        """The stable code of a problem, or the status if it is none."""
        try:
            return str(self.json["code"])
        except (ValueError, KeyError, TypeError):
            return str(self.status)


class Caller:
    """Calls the services' public HTTP APIs, each time as one party."""

    def __init__(self, http: httpx.AsyncClient, urls: dict[str, str], network: str) -> None:
        self._http = http
        self.network = network
        self._urls = urls

    async def call(  # the parts of a request
        self,
        method: str,
        service: str,
        path: str,
        *,
        by: LocalSigner,
        body: Any = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        **query: str | int,
    ) -> Answer:
        """Send one request as `by` and return the answer, whatever its status."""
        response = await self._http.request(
            method,
            self._urls[service] + path,
            params=query,
            json=body,
            content=content,
            headers=headers,
            # The token stands on the ledger for ever: a digest of what is uploaded would outlive its erasure.
            auth=RequestSigner(by, service, network=self.network, stream=content is not None),
            timeout=CALL_S_MAX,
        )
        return Answer(response)


def registration(
    player: Player, *, network: str, kind: str, roles: list[str], member: Player | None
) -> dict[str, Any]:
    """Return the body that registers a party with identity."""
    key = {
        "id": player.signer.verification_method,
        "multibase": multibase_of(player.signer.public_key),
        "valid_from": (datetime.now(UTC) - timedelta(minutes=1)).isoformat(),
        "proof": make_possession(
            player.signer,
            network=network,
            member=member.did if member else None,
            now=datetime.now(UTC),
        ),
    }
    return {
        "did": player.did,
        "kind": kind,
        "roles": roles,
        "keys": [key],
        **({"member": member.did} if member else {}),
        **({"name": player.title} if kind == "member" else {}),
    }
