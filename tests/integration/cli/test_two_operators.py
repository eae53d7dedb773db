"""An act of two operators, from the command line: two machines, two organisations, a real identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.commands import Said, Salus

from salus.cli.exits import Exit
from salus.crypto.keys import save_ed25519
from salus.devkit.platform import Platform

SECOND = "did:web:second.example"
BOSS = "did:web:hospital.example:boss"


@pytest.fixture
async def platform(platform_factory: Any) -> Platform:
    """A platform of which identity alone runs."""
    made: Platform = await platform_factory(start=False)
    await made.start_parts()
    await made.start_services(["identity"])
    return made


@dataclass(frozen=True)
class SecondOperator:
    """The second operator's machine: its key, the public network.json, and no way to the network."""

    folder: Path
    salus: Salus

    async def prove(self, to: Path) -> Said:
        pem = self.folder / "second.pem"
        save_ed25519(pem, Ed25519PrivateKey.generate())
        return await self.salus(
            "party", "prove-key", "--key", pem, "--did", SECOND, "--key-id", f"{SECOND}#1", "--to", to
        )

    async def approve(self, request: Path, *words: str | Path) -> Said:
        key = ("--directory", self.folder, "--key", self.folder / "second.pem", "--key-id", f"{SECOND}#1")
        return await self.salus("approve", request, *key, *words)


@pytest.fixture
def second(platform: Platform, tmp_path: Path) -> SecondOperator:
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "network.json").write_bytes(platform.network.file.read_bytes())
    return SecondOperator(folder, Salus(folder))


async def test_two_operators_of_two_organisations_act_together(
    platform: Platform, second: SecondOperator, tmp_path: Path
) -> None:
    first = Salus(platform.state.folder)
    entry, request, approval = tmp_path / "entry", tmp_path / "request", tmp_path / "approval"
    operator = ("party", "register", "--kind", "person", "--role", "operator")
    # The network's only operator acts alone, for the last time.
    await second.prove(entry)
    joined = await first(*operator, "--entry", entry)
    alone = await first(*operator, "evil")

    # Somebody whose key never leaves its machine joins: the first asks, the second approves, the first sends.
    pem = tmp_path / "boss.pem"
    save_ed25519(pem, Ed25519PrivateKey.generate())
    await first("party", "prove-key", "--key", pem, "--did", BOSS, "--to", entry)
    prepared = await first(*operator, "--entry", entry, "--to-approve", request)
    unasked = await second.approve(request, "--to", approval)
    by_the_first = await first("approve", request, "--as", "operator", "--yes")
    approved = await second.approve(request, "--yes", "--to", approval)
    submitted = await first("party", "submit", request, "--approval", approval, "--json")
    again = await first("party", "submit", request, "--approval", approval)

    assert [joined.code, alone.code, prepared.code, approved.code] == [0, Exit.NO, 0, 0], approved.err
    assert "second-operator-needed" in alone.err
    assert "--to-approve FILE" in alone.err
    # Case "key file left after refused `party register`".
    assert not (platform.network.folder / "keys/parties/evil.pem").exists()
    assert f"register {BOSS}" in approved.err
    assert (unasked.code, unasked.out, by_the_first.code) == (Exit.NO, "", Exit.NO)
    assert "of their own" in by_the_first.err
    assert submitted.json["roles"] == ["operator"], submitted.err
    assert (again.code, "party-exists" in again.err) == (Exit.NO, True)


async def test_keys_and_roles_change_by_two_operators_and_compared_with_identity(
    platform: Platform, second: SecondOperator, tmp_path: Path
) -> None:
    first = Salus(platform.state.folder)
    entry, request, approval = tmp_path / "entry", tmp_path / "request", tmp_path / "approval"
    await second.prove(entry)
    await first("party", "register", "--kind", "person", "--role", "operator", "--entry", entry)
    identity = ("--identity", platform.service_url("identity"), "--yes", "--to", approval)

    async def together(*words: str | Path) -> Said:
        prepared = await first(*words, "--to-approve", request)
        approved = await second.approve(request, *identity)
        assert (prepared.code, approved.code) == (0, 0), prepared.err + approved.err
        assert "identity tells the same" in approved.err
        return await first("party", "submit", request, "--approval", approval, "--json")

    pem = tmp_path / "next.pem"
    save_ed25519(pem, Ed25519PrivateKey.generate())
    await first("party", "prove-key", "--key", pem, "--did", SECOND, "--key-id", f"{SECOND}#2", "--to", entry)
    stale = await first("party", "grant-role", SECOND, "clinician", "--to-approve", tmp_path / "stale")
    added = await together("party", "add-key", SECOND, "--entry", entry)
    outdated = await second.approve(tmp_path / "stale", *identity)
    revoked = await together("party", "revoke-key", SECOND, "2", "--reason", "rotated")
    granted = await together("party", "grant-role", SECOND, "clinician")
    withdrawn = await together("party", "withdraw-role", SECOND, "clinician")
    shown = await first("party", "show", SECOND)
    await platform.stop_service("identity")
    away = await first("party", "register", "clinic")

    assert stale.code == 0, stale.err
    assert [key["id"] for key in added.json["keys"]] == [f"{SECOND}#1", f"{SECOND}#2"], added.err
    assert [key["revoked"] for key in revoked.json["keys"]] == [None, "rotated"], revoked.err
    assert granted.json["roles"] == ["clinician", "operator"], granted.err
    assert withdrawn.json["roles"] == ["operator"], withdrawn.err
    # What the file says of the party is not so any more.
    assert (outdated.code, "identity tells something else" in outdated.err) == (Exit.NO, True)
    assert "revoked: rotated" in shown.out
    assert away.code == Exit.NOT_RUNNING
    assert not (platform.network.folder / "keys/parties/clinic.pem").exists()


async def test_an_operator_is_made_with_the_keys_that_the_second_one_saw(
    platform: Platform, second: SecondOperator, tmp_path: Path
) -> None:
    # Case "a grant of `operator` does not name the keys that the second operator saw".
    first = Salus(platform.state.folder)
    entry, request, approval = tmp_path / "entry", tmp_path / "request", tmp_path / "approval"
    pem, more = tmp_path / "boss.pem", tmp_path / "more.pem"
    for file in (pem, more):
        save_ed25519(file, Ed25519PrivateKey.generate())
    prove = ("party", "prove-key", "--did", BOSS)
    await first(*prove, "--key", pem, "--key-id", f"{BOSS}#1", "--to", entry)
    joined = await first("party", "register", "--kind", "person", "--entry", entry)
    await second.prove(entry)
    await first("party", "register", "--kind", "person", "--role", "operator", "--entry", entry)
    await first(*prove, "--key", more, "--key-id", f"{BOSS}#2", "--to", entry)

    async def ask() -> Said:
        await first("party", "grant-role", BOSS, "operator", "--to-approve", request)
        return await second.approve(request, "--yes", "--to", approval)

    seen = await ask()
    own = ("--key", pem, "--key-id", f"{BOSS}#1")
    added = await first("party", "add-key", BOSS, "--entry", entry, *own)
    outdated = await first("party", "submit", request, "--approval", approval)
    seen_again = await ask()
    granted = await first("party", "submit", request, "--approval", approval, "--json")

    assert (joined.code, added.code) == (0, 0), joined.err + added.err
    assert (f"{BOSS}#1" in seen.err, f"{BOSS}#2" in seen.err, f"{BOSS}#2" in seen_again.err) == (
        True,
        False,
        True,
    )
    assert (outdated.code, "keys-not-named" in outdated.err) == (Exit.NO, True), outdated.err
    assert granted.json["roles"] == ["operator"], granted.err
