"""`salus party resolve`: what a DID's own host says of its keys, before somebody vouches for them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

import typer

from salus.cli.console import Json, emit, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, KeyFacts, NetworkAccess
from salus.cli.proven_keys import fingerprint, read_proven_key
from salus.client.did_documents import DidDocument
from salus.client.did_resolver import DidResolver
from salus.client.errors import DidError
from salus.events.did import multibase_of
from salus.ledger.times import read_time


def resolve(
    did: Annotated[str, typer.Argument(help="A did:web, which is read at its host, or a did:key.")],
    entry: Annotated[
        list[Path] | None,
        typer.Option(
            help="What the key's holder had from `salus party prove-key`: is it the DID's own key? "
            "May be repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    registered: Annotated[
        bool,
        typer.Option("--registered", help="Compare with the keys that sign for it in the network now."),
    ] = False,
    inside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="Connect to addresses of this network (10.2.0.0/16) too, besides those of the Internet. "
            "May be repeated.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of authorities whose certificates are good too.", exists=True, dir_okay=False
        ),
    ] = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Show the keys that a DID's own document names, and whether they are the ones that are to join.

    Who vouches for a did:web runs it: identity connects to no address that somebody else named. It ends with
    1 if the DID does not resolve, or its document lacks a key.
    """
    entries = [read_proven_key(file) for file in entry or []]
    resolver = DidResolver(inside=[_network(text) for text in inside or []], tls=_trust(ca))
    try:
        found = asyncio.run(resolver.resolve(did))
    except DidError as error:
        raise CommandError(Exit.NO, f"{shown(did)}: {error} ({error.code})") from None
    lacking = [key.id for key in entries if not found.names(key.id, key.multibase)]
    unlike = _unlike(found, NetworkAccess.of(directory, identity)) if registered else []
    if as_json:
        keys = [{"id": key_id, "multibase": text} for key_id, text in _multibases(found).items()]
        emit({"did": did, "keys": keys, "lacking": lacking, "unlike": unlike})
    else:
        _show(found)
    if lacking:
        raise CommandError(Exit.NO, f"the DID's own document has no such key: {_list(lacking)}")
    if unlike:
        raise CommandError(Exit.NO, f"the network and the DID's own document differ in {_list(unlike)}")


def _show(found: DidDocument) -> None:
    if not found.keys:
        out.print("the document names no key that is known here", soft_wrap=True)
    for key_id, multibase in _multibases(found).items():
        out.print(styled("[bold]{}[/]", key_id), soft_wrap=True, highlight=False)
        out.print(styled("  fingerprint {}", fingerprint(multibase)), soft_wrap=True, highlight=False)


def _multibases(found: DidDocument) -> dict[str, str]:
    return {key_id: multibase_of(key.public_key) for key_id, key in found.keys.items()}


def _list(key_ids: Iterable[str]) -> str:
    return ", ".join(shown(key_id) for key_id in key_ids)


def _unlike(found: DidDocument, network: NetworkAccess) -> list[str]:
    """Return the ids of keys that sign in the network and are not in the document, or the other way round."""
    held = asyncio.run(network.party(found.did)).signing_keys
    signing = {key.id: key.multibase for key in held if _signs_now(key)}
    there = _multibases(found)
    return sorted(key_id for key_id in signing.keys() | there if signing.get(key_id) != there.get(key_id))


def _signs_now(key: KeyFacts) -> bool:
    now = datetime.now(UTC)
    return read_time(key.valid_from) <= now and (key.valid_until is None or now < read_time(key.valid_until))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise CommandError(Exit.USAGE, f"--inside: {shown(text)} is no network, as 10.2.0.0/16") from None


def _trust(ca: Path | None) -> ssl.SSLContext:
    trust = ssl.create_default_context()
    if ca is not None:
        try:
            trust.load_verify_locations(ca)
        except ssl.SSLError:
            raise CommandError(Exit.USAGE, f"--ca: {ca} has no certificate in PEM") from None
    return trust
