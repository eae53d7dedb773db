"""The headers of every answer: not stored, not guessed at, not framed, unless a route says otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Message, Send

Header = tuple[bytes, bytes]

# An answer of an API may carry personal data or a decision, so no cache keeps one (RFC 9111,
# section 5.2.2.5). A route whose answer is public says so by a Cache-Control of its own.
DEFAULTS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def complete(headers: Iterable[Header]) -> list[Header]:
    """Return the headers with each default that they do not set themselves."""
    there = list(headers)
    names = {name.lower() for name, _ in there}
    return there + [default for default in DEFAULTS if default[0] not in names]


def completing(send: Send) -> Send:
    """Return a `send` that completes the headers of an answer."""

    async def complete_and_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": complete(message.get("headers", ()))}
        await send(message)

    return complete_and_send
