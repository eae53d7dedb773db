"""A network that commands about parties speak to: the platform that runs here, or one elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

import msgspec
import typer

from salus.cli.callers import (
    NotSentError,
    RefusedError,
    advised,
    origin_of,
    send,
    signer_in,
    signing,
)
from salus.cli.exits import CommandError, Exit
from salus.cli.service_answers import AnswerError, read_answer
from salus.cli.state import require_service, running_platform
from salus.client.auth import RequestLine
from salus.devkit.network import NetworkFolder
from salus.events.did import LocalSigner

APPROVAL_HEADER = "Salus-Approval"
PAGE_SIZE = "500"

Directory = Annotated[
    Path | None,
    typer.Option(help="Folder of network.json and keys/, where no platform runs.", file_okay=False),
]
IdentityUrl = Annotated[
    str | None, typer.Option("--identity", help="URL of the identity service, where no platform runs here.")
]


ConsentUrl = Annotated[
    str | None, typer.Option("--consent", help="URL of the consent service, where no platform runs here.")
]


class UnknownOutcomeError(CommandError):
    """A command was sent, and no answer of identity says whether it took effect."""


class KeyFacts(msgspec.Struct, frozen=True):
    """A key of a party, as identity tells it."""

    id: str
    multibase: str
    valid_from: str
    valid_until: str | None = None
    revoked: str | None = None
    asked_by: str | None = None


class PartyFacts(msgspec.Struct, frozen=True):
    """A party, as identity tells it."""

    did: str
    kind: str
    keys: tuple[KeyFacts, ...]
    roles: tuple[str, ...] = ()
    member: str | None = None
    name: str | None = None
    membership: str | None = None
    standing_reason: str | None = None

    @property
    def organisation(self) -> str:
        """The member that it acts for, or itself."""
        return self.member or self.did

    @property
    def signing_keys(self) -> tuple[KeyFacts, ...]:
        """The keys that are not revoked."""
        return tuple(key for key in self.keys if key.revoked is None)

    def brought_by(self, key_id: str) -> tuple[KeyFacts, ...]:
        """Return the keys that still sign, and came by requests of this key or of others that came so."""
        brought = {key_id}
        while more := {key.id for key in self.keys if key.asked_by in brought} - brought:
            brought |= more
        return tuple(key for key in self.signing_keys if key.id in brought - {key_id})


class _Page(msgspec.Struct, frozen=True):
    parties: tuple[PartyFacts, ...]
    next: str | None


@dataclass(frozen=True)
class NetworkAccess:
    """A network's folder, and where its identity service is, or another one that is spoken to."""

    folder: NetworkFolder
    url: str
    service: str = "identity"

    @classmethod
    def of(cls, directory: Path | None, identity: str | None) -> Self:
        """Return the network of these options, or that which runs here; raises as `of_service`."""
        return cls.of_service("identity", directory, identity)

    @classmethod
    def of_consent(cls, directory: Path | None, consent: str | None) -> Self:
        """Return the same with its consent service; raises as `of_service`."""
        return cls.of_service("consent", directory, consent)

    @classmethod
    def of_service(cls, service: str, directory: Path | None, url: str | None) -> Self:
        """Return the network of this folder and the service at this URL, or those that run here.

        Raises:
            CommandError: only one of the two is given, or the service was not started.
            NotRunningError: none is, and no platform runs.
        """
        if (url is None) != (directory is None):
            raise CommandError(Exit.USAGE, f"--directory and the URL of {service} belong together")
        if url is not None and directory is not None:
            return cls(NetworkFolder(directory), url, service)
        platform = running_platform()
        return cls(platform.network, require_service(platform, service), service)

    @property
    def origin(self) -> str:
        """The network's name."""
        return origin_of(self.folder)

    def signer(self, name: str, key_file: Path | None, key_id: str | None) -> LocalSigner:
        """Return the signer that a command was told to act as; raises as `signer_in`."""
        return signer_in(self.folder, name, key_file, key_id)

    def did_of(self, name: str) -> str:
        """Return the DID that a name stands for; a DID stands for itself."""
        return name if name.startswith("did:") else signer_in(self.folder, name, None).did

    async def party(self, did: str) -> PartyFacts:
        """Return a party, with its revoked keys.

        Raises:
            CommandError: there is none, or identity does not answer.
        """
        return read_answer("identity", await self.ask(f"/parties/{quote(did, safe=':')}"), PartyFacts)

    async def parties(self, filters: Sequence[tuple[str, str]]) -> list[PartyFacts]:
        """Return all parties that the filters of `GET /parties` let through."""
        found: list[PartyFacts] = []
        after: str | None = None
        while True:
            query = [*filters, ("limit", PAGE_SIZE), *([("after", after)] if after else [])]
            page = read_answer("identity", await self.ask("/parties", query=query), _Page)
            found += page.parties
            if page.next is not None and page.next == after:
                raise AnswerError("identity", "$.next: it is the cursor that it was given")
            after = page.next
            if after is None:
                return found

    async def command(
        self, line: RequestLine, *, signer: LocalSigner, approval: str | None = None
    ) -> dict[str, Any]:
        """Send a command, with its body as it is, and return identity's answer.

        Raises:
            NotSentError: identity cannot be reached.
            RefusedError: identity refused; the sentence says what to do next.
            UnknownOutcomeError: there was no answer that says.
        """
        headers = {} if approval is None else {APPROVAL_HEADER: approval}
        content = line.body or None
        try:
            answer = await send(
                self.service,
                self.url,
                line.method,
                line.target,
                auth=signing(signer, self.service, self.folder),
                content=content,
                headers=headers,
            )
        except RefusedError as error:
            raise advised(error, approved=approval is not None) from None
        except NotSentError:
            raise
        except CommandError as error:
            sentence = f"{error}; it is not known whether it took effect"
            raise UnknownOutcomeError(error.code, sentence) from error
        try:
            return read_answer(self.service, answer.content, dict[str, Any])
        except AnswerError as error:
            raise UnknownOutcomeError(error.code, f"{error}; it may have taken effect") from None

    async def ask(
        self, path: str, *, query: Sequence[tuple[str, str]] = (), signer: LocalSigner | None = None
    ) -> bytes:
        """Return the service's answer to a question; identity needs not know who asks.

        Raises:
            CommandError: it refused, or gave none.
        """
        try:
            auth = None if signer is None else signing(signer, self.service, self.folder)
            return (await send(self.service, self.url, "GET", path, auth=auth, query=query)).content
        except RefusedError as error:
            raise advised(error) from None
