"""What opens a session: an ID token of a provider in force, exchanged by who holds the key in its nonce.

Both stand in the event, so everybody who folds identity's topic judges them: the thief of identity's key
opens no session for anybody. The nonce of the login is made of the session key (as in OpenPubkey), so a
stolen ID token is of no use without that key; and the DPoP proof shows that the key's holder wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256

from salus.events.bearer import BearerError, require_current
from salus.events.contexts.identity import PublicKey
from salus.events.contexts.identity_login import ProviderAdded, SessionOpened
from salus.events.did import multibase_of
from salus.events.dpop import PROOF_S_MAX, DpopError, DpopProof, base64url, read_proof, thumbprint_of
from salus.events.id_token import (
    IdClaims,
    IdTokenError,
    claims_of,
    is_claim_name,
    read_id_token,
    verify_id_token,
)
from salus.events.requests import ID_TOKEN, Request
from salus.events.token_exchange import ExchangeError, read_exchange

SESSION = "session"
# A login is exchanged at once; later its ID token is one that somebody found.
LOGIN_S_MAX = 300
# How long after it took an exchange identity may state the session.
STATED_S_MAX = 30


class LoginError(Exception):
    """No session follows from an exchange: `error` is a code of RFC 6749, RFC 8693 or RFC 9449.

    `code` is ours, stable and more exact; the message may be shown.
    """

    def __init__(self, error: str, code: str, why: str) -> None:
        super().__init__(why)
        self.error = error
        self.code = code


def nonce_of(thumbprint: str, *, network: str) -> str:
    """Return the `nonce` of a login for the session key of that thumbprint, in the network of that origin."""
    return base64url(sha256(f"salus:{SESSION}@{network}\n{thumbprint}".encode()).digest())


def session_key_id(did: str, multibase: str) -> str:
    """Return the id of a session key: the key's own, so that none can stand for another."""
    return f"{did}#{SESSION}-{multibase}"


def session_of(  # noqa: PLR0913  # an exchange, and what it is judged by
    *,
    body: bytes,
    proof: str,
    providers: Iterable[ProviderAdded],
    network: str,
    at: datetime,
    late_s: int = 0,
) -> SessionOpened:
    """Return the session that an exchange opens at a moment; `late_s` is how long ago it may have been taken.

    Whether that person may have one is judged with who is who (`salus.events.login_rights`).

    Raises:
        LoginError: the form, the proof or the ID token is not good, or not of now.
    """
    with _reported():
        token = read_id_token(read_exchange(body).id_token)
        held = read_proof(proof)
        provider = _provider_of(token.payload, providers)
        verify_id_token(token, provider.keys)
        did, claims = claims_of(token, did_claim=provider.did_claim)
    _require_meant(claims, provider)
    if claims.nonce != nonce_of(thumbprint_of(held.key), network=network):
        raise _refused("key-not-of-login", "nonce: the login was not for the key of the DPoP proof")
    _require_proof_of_now(held, at=at, late_s=late_s)
    _require_login_of_now(claims, at=at, late_s=late_s)
    multibase = multibase_of(held.key)
    request = Request(
        by=did, authentication=ID_TOKEN, behalf=provider.member, proof=proof, body=body.decode("ascii")
    )
    return SessionOpened(
        did=did,
        key=PublicKey(
            session_key_id(did, multibase),
            multibase,
            _moment(claims.iat),
            _moment(claims.iat + provider.session_s_max),
        ),
        provider=provider.provider,
        authenticated=_authenticated(claims),
        acr=claims.acr,
        request=request,
    )


def require_form(body: bytes, proof: str, *, opened: SessionOpened) -> None:
    """Raise LoginError unless exchange and proof have the form of such, and say what the session does.

    They stand on the ledger though they open no session: so they tell nobody more than a DID and pseudonyms.
    What the provider's keys say of it, and until when and for whom it is, is judged with the provider.
    """
    did = opened.did
    with _reported():
        held = read_proof(proof)
        token = read_id_token(read_exchange(body).id_token)
        named = [name for name, value in token.payload.items() if value == did and is_claim_name(name)]
        _, claims = claims_of(token, did_claim=named[0] if named else "sub")
    key, multibase = opened.key, multibase_of(held.key)
    if (key.id, key.multibase) != (session_key_id(did, multibase), multibase):
        raise _refused("key-not-of-login", "the key of the session is another than that of the DPoP proof")
    said = (key.valid_from, opened.authenticated, opened.acr)
    if said != (_moment(claims.iat), _authenticated(claims), claims.acr):
        raise _refused("id-token-invalid", "it says another moment or level than the session")


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except ExchangeError as error:
        raise LoginError(error.error, "invalid-exchange", str(error)) from None
    except DpopError as error:
        raise LoginError("invalid_dpop_proof", "invalid-dpop-proof", f"DPoP: {error}") from None
    except IdTokenError as error:
        raise _refused(error.code, str(error)) from None


def _provider_of(payload: dict[str, object], providers: Iterable[ProviderAdded]) -> ProviderAdded:
    issuer, audience = payload.get("iss"), payload.get("aud")
    for provider in providers:
        if provider.issuer == issuer and audience in (provider.client, [provider.client]):
            return provider
    why = "iss and aud: no provider of the network issues such tokens to its client, and to it alone"
    raise IdTokenError("provider-unknown", why)


def _require_meant(claims: IdClaims, provider: ProviderAdded) -> None:
    if claims.azp not in (None, provider.client):
        raise _refused("provider-unknown", "azp: the token was issued to another client")
    if provider.acr and claims.acr not in provider.acr:
        raise _refused("acr-too-low", f"acr: the network wants one of {', '.join(provider.acr)}")
    if claims.auth_time is not None and claims.auth_time > claims.iat:
        raise _refused("id-token-invalid", "auth_time: it is after iat")
    if provider.sign_on_s_max is not None:
        _require_signed_on(claims, sign_on_s_max=provider.sign_on_s_max)


def _require_signed_on(claims: IdClaims, *, sign_on_s_max: int) -> None:
    # Without `auth_time` a token of now may be of a single sign-on of weeks ago.
    if claims.auth_time is None:
        raise _refused("auth-time-missing", "auth_time: ask the provider for it, as with max_age")
    if claims.iat - claims.auth_time > sign_on_s_max:
        why = f"auth_time: she signed on longer ago than {sign_on_s_max} s: log in anew"
        raise _refused("sign-on-too-old", why)


def _require_proof_of_now(proof: DpopProof, *, at: datetime, late_s: int) -> None:
    if proof.method != "POST" or proof.target.rpartition("/")[2] != "token":
        why = "DPoP: htm is not POST, or htu not the token endpoint"
        raise LoginError("invalid_dpop_proof", "invalid-dpop-proof", why)
    try:
        _require_time(proof.issued, proof.issued + PROOF_S_MAX, at=at, late_s=late_s)
    except BearerError:
        why = f"DPoP: iat is not of now; a proof is good for {PROOF_S_MAX} s"
        raise LoginError("invalid_dpop_proof", "dpop-proof-expired", why) from None


def _require_login_of_now(claims: IdClaims, *, at: datetime, late_s: int) -> None:
    try:
        expires = min(claims.exp, claims.iat + LOGIN_S_MAX)
        _require_time(claims.iat, expires, at=at, late_s=late_s, not_before=claims.nbf)
    except BearerError:
        why = f"the ID token is not of now: it is exchanged before it expires and within {LOGIN_S_MAX} s"
        raise _refused("id-token-expired", why) from None


def _require_time(
    issued: int, expires: int, *, at: datetime, late_s: int, not_before: int | None = None
) -> None:
    now = at.timestamp()
    moment = max(min(now, float(expires)), now - late_s)
    require_current(moment, issued=issued, expires=expires, not_before=not_before)


def _refused(code: str, why: str) -> LoginError:
    return LoginError("invalid_grant", code, f"subject_token: {why}")


def _authenticated(claims: IdClaims) -> datetime:
    return _moment(claims.iat if claims.auth_time is None else claims.auth_time)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
