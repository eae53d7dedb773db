"""`salus provider`: at which OpenID providers people of which member log in."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from salus.cli.console import Json, emit, out
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.openid import keys_of, metadata_of
from salus.cli.party_commands import PartyCommand, identity_command, target_of
from salus.cli.service_answers import read_answer
from salus.events.contexts.identity_login import ProviderKey

app = typer.Typer(no_args_is_help=True, help="OpenID providers at which people of members log in.")
HOURS_8 = 8 * 3600

Provider = Annotated[str, typer.Argument(metavar="NAME", help="What the network calls the provider.")]
Jwks = Annotated[
    str | None, typer.Option(help="URL of its keys, where they are at another host than the issuer.")
]


class ProviderFacts(msgspec.Struct, frozen=True):
    """A provider in force, as identity tells it."""

    provider: str
    member: str
    issuer: str
    client: str
    did_claim: str
    acr: tuple[str, ...]
    session_s_max: int
    keys: tuple[ProviderKey, ...]
    sign_on_s_max: int | None = None
    step_up_acr: tuple[str, ...] = ()


class _Providers(msgspec.Struct, frozen=True):
    providers: tuple[ProviderFacts, ...]


async def provider_facts(network: NetworkAccess, name: str) -> ProviderFacts:
    """Return a provider in force; raises CommandError."""
    return read_answer("identity", await network.ask(target_of("providers", name)), ProviderFacts)


@app.command()
@identity_command
def add(
    command: PartyCommand,
    name: Provider,
    member: Annotated[str, typer.Option(help="Whose people log in there: a DID, or a name.")],
    issuer: Annotated[str, typer.Option(help="The provider's issuer, a URL.")],
    client: Annotated[str, typer.Option(help="The network's client id there, a client of its own.")],
    did_claim: Annotated[
        str, typer.Option(help="The claim of its ID tokens that has a person's DID.")
    ] = "salus_did",
    acr: Annotated[
        list[str] | None, typer.Option(help="A level of authentication that is enough; give each.")
    ] = None,
    session_s_max: Annotated[
        int, typer.Option("--session-s-max", min=60, max=86_400, help="How long a session lasts.")
    ] = HOURS_8,
    sign_on_s_max: Annotated[
        int,
        typer.Option(
            "--sign-on-s-max", min=0, max=2_592_000, help="Who signed on there longer ago logs in anew."
        ),
    ] = HOURS_8,
    step_up_acr: Annotated[
        list[str] | None,
        typer.Option(help="A level that is enough for what takes a fresh login; give each. None: any is."),
    ] = None,
    jwks: Jwks = None,
) -> None:
    """Let people of a member log in at an OpenID provider; two operators do this.

    Its keys are read from the provider now and stand in the request, so that everybody judges logins alike.
    When it changes them, its member runs `salus provider keys`.
    """
    body = {
        "provider": name,
        "member": command.network.did_of(member),
        "issuer": issuer,
        "client": client,
        "did_claim": did_claim,
        "acr": acr or [],
        "session_s_max": session_s_max,
        "sign_on_s_max": sign_on_s_max,
        "step_up_acr": step_up_acr or [],
        "keys": msgspec.to_builtins(asyncio.run(_keys(issuer, jwks))),
    }
    command.run(f"people of {body['member']} log in at {name}", target=target_of("providers"), body=body)


@app.command("list")
def list_providers(directory: Directory = None, identity: IdentityUrl = None, as_json: Json = False) -> None:
    """List the providers at which people log in."""
    network = NetworkAccess.of(directory, identity)
    told = read_answer("identity", asyncio.run(network.ask("/providers")), _Providers).providers
    if as_json:
        emit(msgspec.to_builtins(told))
        return
    table = Table(
        "name", "issuer", "client", "levels", "signed on", "step up", "keys", box=None, header_style="bold"
    )
    table.add_column("member", no_wrap=True)
    for one in told:
        kids = ", ".join(key.kid for key in one.keys)
        fresh = ("never", "never") if one.sign_on_s_max is None else _freshness(one)
        levels = ", ".join(one.acr) or "any"
        table.add_row(one.provider, one.issuer, one.client, levels, *fresh, kids, one.member)
    out.print(table)


@app.command("keys")
@identity_command
def replace_keys(
    command: PartyCommand,
    name: Provider,
    jwks: Jwks = None,
) -> None:
    """Take the keys that the provider has now in the place of the ones before; its member does this.

    Run it now and then, as from cron: it sends nothing if they are the same.
    """
    known = asyncio.run(provider_facts(command.network, name))
    keys = asyncio.run(_keys(known.issuer, jwks))
    if set(keys) == set(known.keys):
        if command.as_json:
            emit(msgspec.to_builtins(known))
        else:
            out.print(f"the keys of {name} are the same", highlight=False, soft_wrap=True)
        return
    body = {"keys": msgspec.to_builtins(keys)}
    command.run(f"the keys of {name} are replaced", target=target_of("providers", name, "keys"), body=body)


@app.command()
@identity_command
def withdraw(
    command: PartyCommand,
    name: Provider,
) -> None:
    """Let nobody log in there any more, and end the sessions that it gave, at once."""
    command.run(f"nobody logs in at {name} any more", target=target_of("providers", name, "withdraw"))


def _freshness(provider: ProviderFacts) -> tuple[str, str]:
    return f"{provider.sign_on_s_max} s", ", ".join(provider.step_up_acr) or "any"


async def _keys(issuer: str, jwks: str | None) -> tuple[ProviderKey, ...]:
    return await keys_of(await metadata_of(issuer), jwks)
