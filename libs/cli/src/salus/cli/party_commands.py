"""How a command about a party is carried out: sent to identity, or written to a file for an approval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from salus.cli.approval_files import write_request
from salus.cli.callers import As, KeyFile, KeyId, json_body
from salus.cli.console import Json, emit, err, out
from salus.cli.display import styled
from salus.cli.network_access import ConsentUrl, Directory, IdentityUrl, NetworkAccess, PartyFacts
from salus.cli.option_groups import option_group
from salus.client.auth import RequestLine
from salus.devkit.network import OPERATOR
from salus.events.contexts.consent import PolicyFile
from salus.events.did import LocalSigner

ToApprove = Annotated[
    Path | None,
    typer.Option(
        help="Write the request here for a second operator, who runs `salus approve` on it; send nothing.",
        dir_okay=False,
    ),
]


def target_of(*segments: str) -> str:
    """Return the path of these segments, as it is sent and signed."""
    return "".join(f"/{quote(segment, safe=':')}" for segment in segments)


def ask_for_approval(
    file: Path,
    line: RequestLine,
    *,
    network: NetworkAccess,
    signer: LocalSigner,
    party: PartyFacts | None = None,
    schema: bytes | None = None,
    policies: tuple[PolicyFile, ...] | None = None,
    key_file: Path | None = None,
    as_json: bool,
) -> None:
    """Write a request to the file, and say what to do with it; nothing is sent."""
    now = datetime.now(UTC)
    write_request(
        file,
        line,
        network=network.origin,
        service=network.service,
        signer=signer,
        party=party,
        schema=schema,
        policies=policies,
        now=now,
    )
    if as_json:
        made = {} if key_file is None else {"key_file": str(key_file)}
        emit({"to_approve": str(file), "asked_by": signer.did, **made})
    else:
        kept = "" if key_file is None else f"; the new key is in {key_file}"
        out.print(f"the request is in {file}, and nothing was sent{kept}", highlight=False, soft_wrap=True)
    steps = styled(
        "[dim]an operator of another organisation:[/] salus approve {} --as NAME --to APPROVAL\n"
        "[dim]then you:[/] salus party submit {} --approval APPROVAL",
        file,
        file,
    )
    err.print(steps, soft_wrap=True)


@dataclass(frozen=True)
class PartyCommand:
    """A command of `signer` to a network's identity service; `to_approve` is where it is written instead."""

    network: NetworkAccess
    signer: LocalSigner
    to_approve: Path | None
    as_json: bool

    def run(
        self,
        done: str | Callable[[Mapping[str, Any]], str],
        *,
        method: str = "POST",
        target: str,
        body: Any = None,
        party: PartyFacts | None = None,
        schema: bytes | None = None,
        policies: tuple[PolicyFile, ...] | None = None,
        key_file: Path | None = None,
    ) -> None:
        """Send the command and print `done`, or write it to the file and print what to do with that.

        `done` may follow from identity's answer. `party` is whom it concerns, if it exists. `schema` is of
        the event type that it activates, `policies` the files of the policy set. `key_file` is where a key is
        that was made here.

        Raises:
            NotSentError: identity cannot be reached.
            RefusedError: identity refused.
            UnknownOutcomeError: there was no answer that says.
        """
        line = RequestLine(method, target, None if body is None else json_body(body))
        if self.to_approve is not None:
            ask_for_approval(
                self.to_approve,
                line,
                network=self.network,
                signer=self.signer,
                party=party,
                schema=schema,
                policies=policies,
                key_file=key_file,
                as_json=self.as_json,
            )
            return
        answer = asyncio.run(self.network.command(line, signer=self.signer))
        if self.as_json:
            emit(answer if key_file is None else {**answer, "key_file": str(key_file)})
        else:
            out.print(done if isinstance(done, str) else done(answer), highlight=False, soft_wrap=True)


@option_group
def identity_request(
    as_name: As = OPERATOR,
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> PartyCommand:
    """Return a command to identity that needs nobody's approval."""
    network = NetworkAccess.of(directory, identity)
    return PartyCommand(network, network.signer(as_name, key, key_id), None, as_json)


@option_group
def consent_request(
    as_name: As = OPERATOR,
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    consent: ConsentUrl = None,
    as_json: Json = False,
) -> PartyCommand:
    """Return a command, or a question, to consent that needs nobody's approval."""
    network = NetworkAccess.of_consent(directory, consent)
    return PartyCommand(network, network.signer(as_name, key, key_id), None, as_json)


def _to_approve(request: PartyCommand, to_approve: ToApprove = None) -> PartyCommand:
    """Return the command, which a second operator may have to approve."""
    return replace(request, to_approve=to_approve)


identity_command = option_group(identity_request(_to_approve))
consent_command = option_group(consent_request(_to_approve))
