"""`salus party`: register members and people, and list who is in the network."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from salus.cli.callers import As, KeyFile, call, did_of, make_party_key, party_key_file, signer_of
from salus.cli.console import Json, emit, out
from salus.cli.state import running_platform
from salus.client.auth import make_possession
from salus.devkit.platform import Platform
from salus.events.did import multibase_of

app = typer.Typer(no_args_is_help=True, help="Members, services, people and devices of the network.")
# The clocks of two machines differ a little, and the key must be valid at once.
CLOCK_SKEW = timedelta(minutes=5)


@app.command()
def register(  # the options of one request
    name: Annotated[str, typer.Argument(help="What the key is called here; `--as NAME` uses it later.")],
    kind: Annotated[str, typer.Option(help="member, person, service or device.")] = "member",
    role: Annotated[list[str] | None, typer.Option(help="Role to begin with; may be repeated.")] = None,
    member: Annotated[
        str | None, typer.Option(help="Organisation that a person acts for: name or DID.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Public name of an organisation.")] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Make a key for a party and register the party with identity."""
    platform = running_platform()
    caller = signer_of(platform, as_name, key)
    signer = make_party_key(platform, name)
    now = datetime.now(UTC)
    member_did = did_of(platform, member) if member else None
    body: dict[str, Any] = {
        "did": signer.did,
        "kind": kind,
        "roles": role or [],
        "keys": [
            {
                "id": signer.verification_method,
                "multibase": multibase_of(signer.public_key),
                "valid_from": (now - CLOCK_SKEW).isoformat(),
                "proof": make_possession(signer, member=member_did, now=now),
            }
        ],
    }
    if member_did:
        body["member"] = member_did
    if kind == "member" or title:
        body["name"] = title or name
    answer = asyncio.run(call(platform, "identity", "POST", "/parties", signer=caller, body=body)).json()
    if as_json:
        emit({**answer, "key_file": str(party_key_file(platform, name))})
    else:
        out.print(f"{name} is registered as {answer['did']}", highlight=False, soft_wrap=True)


@app.command("list")
def list_parties(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    role: Annotated[str | None, typer.Option(help="Only those who hold this role.")] = None,
    as_json: Json = False,
) -> None:
    """List the parties of the network."""
    platform = running_platform()
    parties = asyncio.run(_all_parties(platform, kind=kind, role=role))
    if as_json:
        emit(parties)
        return
    table = Table("kind", "name", "roles", box=None, header_style="bold")
    table.add_column("DID", no_wrap=True)
    table.add_column("keys")
    for party in parties:
        keys = f"{sum(key['revoked'] is None for key in party['keys'])} of {len(party['keys'])}"
        table.add_row(party["kind"], party["name"] or "", ", ".join(party["roles"]), party["did"], keys)
    out.print(table)


async def _all_parties(platform: Platform, *, kind: str | None, role: str | None) -> list[dict[str, Any]]:
    filters = [(name, value) for name, value in (("kind", kind), ("role", role)) if value]
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        query = [*filters, ("limit", "500"), *([("after", after)] if after else [])]
        page = (await call(platform, "identity", "GET", "/parties", query=query)).json()
        found += page["parties"]
        after = page["next"]
        if after is None:
            return found
