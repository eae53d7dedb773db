"""A login provider for tests, as its ID tokens say, and the exchange of one for a session."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from tests.asking import NETWORK, UNASKED

from salus.client.dpop import make_proof
from salus.events.contexts.identity_login import ProviderAdded, ProviderKey, SessionOpened
from salus.events.dpop import thumbprint_of
from salus.events.sessions import nonce_of, session_of
from salus.events.token_exchange import form_of

ISSUER, CLIENT, DID_CLAIM = "https://login.north.example", "salus", "salus_did"
TOKEN_URL = "https://identity.example/token"


@lru_cache(maxsize=8)
def _key(alg: str, number: int) -> RSAKey | ECKey:  # noqa: ARG001  # one of each number
    return ECKey.generate_key("P-256") if alg == "ES256" else RSAKey.generate_key(2048)


@dataclass
class Login:
    """Somebody's login at a provider whose key is here: what it says can be changed before it is signed."""

    did: str
    member: str
    at: datetime
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    alg: str = "ES256"
    number: int = 0
    network: str = NETWORK
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def provider_key(self) -> ProviderKey:
        """The public key that signs."""
        public = _key(self.alg, self.number).as_dict(private=False)
        members = {name: str(public[name]) for name in ("n", "e", "x", "y") if name in public}
        return ProviderKey(kid=f"{self.alg}-{self.number}", alg=self.alg, **members)  # type: ignore[arg-type]  # as read

    def provider(self, **more: Any) -> ProviderAdded:
        """Return the provider as it was added."""
        facts: dict[str, Any] = {
            "provider": "north-login",
            "member": self.member,
            "issuer": ISSUER,
            "client": CLIENT,
            "did_claim": DID_CLAIM,
            "acr": (),
            "session_s_max": 3600,
            "keys": (self.provider_key,),
            "sign_on_s_max": 7200,
            "request": UNASKED,
        }
        return ProviderAdded(**(facts | more))

    def id_token(self) -> str:
        """Return the ID token; a claim or header of None is left out."""
        seconds = int(self.at.timestamp())
        claims = {
            "iss": ISSUER,
            "sub": "7f3e",
            "aud": CLIENT,
            "iat": seconds,
            "exp": seconds + 120,
            "auth_time": seconds - 5,
            "nonce": nonce_of(thumbprint_of(self.key.public_key()), network=self.network),
            DID_CLAIM: self.did,
        }
        header = {"alg": self.alg, "kid": self.provider_key.kid, "typ": "JWT"} | self.header
        given = {name: value for name, value in (claims | self.claims).items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return jws.serialize_compact(
                {name: value for name, value in header.items() if value is not None},
                msgspec.json.encode(given),
                _key(self.alg, self.number),
                algorithms=[self.alg],
            )

    def proof(self, **claims: Any) -> str:
        """Return the DPoP proof."""
        asked: dict[str, Any] = {"method": "POST", "url": TOKEN_URL, "now": self.at} | claims
        return make_proof(self.key, **asked)

    def session(self, *, provider: ProviderAdded | None = None) -> SessionOpened:
        """Return the session that is opened; raises LoginError."""
        return session_of(
            body=form_of(self.id_token()),
            proof=self.proof(),
            providers=[provider or self.provider()],
            network=NETWORK,
            at=self.at,
        )
