"""With which keys an event was signed: by its author, by who asked for it, and by who approved that."""

from __future__ import annotations

from collections.abc import Iterator

from salus.events.errors import RejectedError
from salus.events.event_types import EventData
from salus.events.jws import JwsError, split_jws
from salus.events.requests import RequestedData
from salus.events.signature import parse_signature


def signing_keys(signature: bytes | None, data: EventData | None) -> tuple[str, ...]:
    """Return the ids of the keys, each once; of an accepted event the ledger has verified their signatures.

    If any of them was in other hands, nobody knows whether the event is what its party wanted.
    """
    return tuple(dict.fromkeys(_keys(signature, data)))


def _keys(signature: bytes | None, data: EventData | None) -> Iterator[str]:
    if signature is not None and (signer := _signer(signature)) is not None:
        yield signer
    if not isinstance(data, RequestedData):
        return
    for token in (data.request.proof, data.request.approval):
        if token is None:
            continue
        try:
            yield split_jws(token).header.kid
        except JwsError:
            continue


def _signer(signature: bytes) -> str | None:
    try:
        return parse_signature(signature).verification_method
    except RejectedError:
        return None
