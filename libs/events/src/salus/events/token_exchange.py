"""The token exchange (RFC 8693) by which a person who logged in gets a session: what it consists of."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  # the name of a kind
SESSION_KEY_TYPE = "urn:salus:token-type:session-key"
"""What is issued: the key that the proof is of may sign requests. There is no bearer token to be stolen."""
EXCHANGE_BYTES_MAX = 12 * 1024
FIELDS_MAX = 8
_COMPACT = re.compile(r"[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+")


class ExchangeError(Exception):
    """A body asks for no session; `error` is a code of RFC 6749, and the message may be shown."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(why)
        self.error = error


class Exchange(NamedTuple):
    """What is exchanged: an ID token, as a compact JWS of which nothing was looked at."""

    id_token: str


def read_exchange(body: bytes) -> Exchange:
    """Return what a form (application/x-www-form-urlencoded) asks to exchange.

    It stands on the ledger, so it has the fields of such an exchange, each once, and nothing else.

    Raises:
        ExchangeError: it does not.
    """
    if len(body) > EXCHANGE_BYTES_MAX:
        raise ExchangeError("invalid_request", f"the body has at most {EXCHANGE_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise ExchangeError("invalid_request", "the body is no form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ExchangeError("invalid_request", "a field stands in the form twice")
    if "grant_type" not in fields:
        raise ExchangeError("invalid_request", "grant_type is missing")
    if fields.pop("grant_type") != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", f"grant_type: only {GRANT_TYPE} is known")
    if fields.pop("subject_token_type", None) != ID_TOKEN_TYPE:
        raise ExchangeError("invalid_request", f"subject_token_type: only {ID_TOKEN_TYPE} is taken")
    if fields.pop("requested_token_type", SESSION_KEY_TYPE) != SESSION_KEY_TYPE:
        raise ExchangeError("invalid_request", f"requested_token_type: only {SESSION_KEY_TYPE} is issued")
    id_token = fields.pop("subject_token", "")
    if _COMPACT.fullmatch(id_token) is None:
        raise ExchangeError("invalid_request", "subject_token: it is no ID token")
    if fields:
        raise ExchangeError("invalid_request", "the form has a field that is not known here")
    return Exchange(id_token)


def is_exchange(body: bytes) -> bool:
    """Tell whether a body asks for a session, and says nothing else."""
    try:
        read_exchange(body)
    except ExchangeError:
        return False
    return True


def form_of(id_token: str) -> bytes:
    """Return the body that exchanges an ID token."""
    fields = {
        "grant_type": GRANT_TYPE,
        "subject_token_type": ID_TOKEN_TYPE,
        "requested_token_type": SESSION_KEY_TYPE,
        "subject_token": id_token,
    }
    return urlencode(fields).encode("ascii")
