"""The files of two operators: what is approved is what was shown, and nothing else passes for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.own_types import dataschema, name_of, schema_of
from typer.testing import CliRunner

from salus.cli import network_access
from salus.cli.application import build
from salus.cli.approval_files import (
    FILE_BYTES_MAX,
    ApprovalRequest,
    AskerKey,
    approve_request,
    read_approval,
    read_request,
    write_request,
    written,
)
from salus.cli.callers import json_body
from salus.cli.exits import CommandError
from salus.cli.network_access import KeyFacts, NetworkAccess, PartyFacts
from salus.cli.proven_keys import prove
from salus.cli.request_acts import Act, act_of
from salus.client.auth import RequestLine, make_approval
from salus.crypto.keys import save_ed25519
from salus.devkit.network import NetworkFolder, Plan
from salus.events.bearer import APPROVAL, PROPOSAL, audience_of, read_bearer
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import dataschema_of, schema_file

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIRST, SECOND = LocalSigner.from_seed(b"1" * 32), LocalSigner.from_seed(b"2" * 32)
HOSPITAL, BOSS = "did:web:hospital.example", "did:web:hospital.example%3A8443:boss"
HOLDER = LocalSigner.from_seed(b"3" * 32, f"{BOSS}#1")
KEY = KeyFacts(f"{BOSS}#1", multibase_of(HOLDER.public_key), "2026-01-01T00:00:00Z")
PARTY = PartyFacts(BOSS, "person", (KEY,), ("clinician",), HOSPITAL)
ROLES = "/parties/did:web:hospital.example%253A8443:boss/roles"
GRANT = {"role": "operator", "keys": [KEY.id]}


def request_of(
    body: Any = GRANT, *, method: str = "POST", target: str = ROLES, party: PartyFacts | None = PARTY
) -> ApprovalRequest:
    return ApprovalRequest(
        network="test",
        asked_by=FIRST.did,
        key=AskerKey(FIRST.verification_method, multibase_of(FIRST.public_key)),
        method=method,
        target=target,
        body=None if body is None else json_body(body).decode(),
        party=party,
    )


def file_of(folder: Path, *, signer: LocalSigner = FIRST, request: ApprovalRequest | None = None) -> Path:
    request = request or request_of()
    path = folder / "request"
    line = RequestLine(request.method, request.target, request.line.body or None)
    write_request(path, line, network="test", signer=signer, party=request.party, now=NOW)
    return path


def text_of(act: Act) -> str:
    return "\n".join(line.plain for line in act.lines)


def test_an_approval_binds_method_target_and_body_until_its_end(tmp_path: Path) -> None:
    request = read_request(file_of(tmp_path), network="test", now=NOW).request
    document = approve_request(request, SECOND, now=NOW, lifetime_s=3600)
    audience = audience_of(APPROVAL, "test")
    claims = read_bearer(document.approval, audience=audience, lifetime_s_max=3600).claims

    assert (claims.htm, claims.htu) == ("POST", ROLES)
    assert claims.exp == document.until.timestamp() == (NOW + timedelta(hours=1)).timestamp()
    (tmp_path / "approval").write_bytes(written(document))
    assert read_approval(tmp_path / "approval", request, now=NOW) == document


def test_a_request_file_says_who_asks_and_holds_no_token_that_a_service_takes(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    signature = path.read_text().rpartition("\n\n")[2].strip()
    claims = read_bearer(signature, audience=audience_of(PROPOSAL, "test"), lifetime_s_max=7 * 86_400).claims

    assert claims.iss == read_request(path, network="test", now=NOW).request.asked_by == FIRST.did
    assert (claims.htm, claims.htu) == (None, None)


def test_a_request_is_for_the_service_that_its_maker_named(tmp_path: Path) -> None:
    path, line = tmp_path / "request", RequestLine("POST", "/recalls", b"{}")
    write_request(path, line, network="test", service="coldchain", signer=FIRST, party=None, now=NOW)

    assert read_request(path, network="test", now=NOW).request.service == "coldchain"
    with pytest.raises(CommandError, match="--directory and the URL of coldchain belong together"):
        NetworkAccess.of_service("coldchain", tmp_path, None)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_file_that_was_changed_anywhere_is_refused(tmp_path: Path, at: float, flip: int) -> None:
    content = bytearray(file_of(tmp_path).read_bytes()[:-1])
    content[int(at * len(content))] ^= flip
    (tmp_path / "changed").write_bytes(content)

    with pytest.raises(CommandError):
        read_request(tmp_path / "changed", network="test", now=NOW)


def test_a_body_that_was_changed_is_named_as_such(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    path.write_text(path.read_text().replace("operator", "patient"))

    with pytest.raises(CommandError, match="was changed after it was signed"):
        read_request(path, network="test", now=NOW)


def test_a_file_of_another_network_and_an_old_one_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path)

    with pytest.raises(CommandError, match="of the network test, and this one is other"):
        read_request(path, network="other", now=NOW)
    with pytest.raises(CommandError, match="expired"):
        read_request(path, network="test", now=NOW + timedelta(days=7, seconds=11))


class Liar(LocalSigner):
    """Says that it is the first operator, in one way or another, and signs with a key of its own."""

    says: str

    @property
    def did(self) -> str:
        return FIRST.did

    @property
    def verification_method(self) -> str:
        return super().verification_method if self.says == "did" else FIRST.verification_method

    @property
    def public_key(self) -> Any:
        return FIRST.public_key if self.says == "key" else super().public_key


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("did", "not by who is said to ask"),
        ("id", "not the one that its id names"),
        ("key", "not by the key that the file names"),
    ],
)
def test_nobody_asks_in_the_name_of_another(tmp_path: Path, says: str, why: str) -> None:
    liar = Liar.from_seed(b"9" * 32)
    assert isinstance(liar, Liar)
    liar.says = says

    with pytest.raises(CommandError, match=why):
        read_request(file_of(tmp_path, signer=liar), network="test", now=NOW)


def test_nobody_approves_a_request_of_their_own() -> None:
    with pytest.raises(CommandError, match="of their own"):
        approve_request(request_of(), FIRST, now=NOW, lifetime_s=60)


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (
            make_approval(SECOND, request_of({"role": "patient"}).line, network="test", now=NOW),
            "another request",
        ),
        (make_approval(SECOND, request_of().line, network="test", now=NOW - timedelta(hours=2)), "expired"),
        (make_approval(FIRST, request_of().line, network="test", now=NOW), "of their own"),
        ("a.b.c", "not a compact JWS"),
        (
            make_approval(
                LocalSigner.from_seed(b"9" * 32, SECOND.verification_method),
                request_of().line,
                network="test",
                now=NOW,
            ),
            "not signed by the key that it names",
        ),
    ],
)
def test_an_approval_of_something_else_is_not_sent(tmp_path: Path, approval: str, why: str) -> None:
    document = {
        "format": "salus-approval/v1",
        "network": "test",
        "approved_by": SECOND.did,
        "until": "2026-11-29T20:00:00Z",
        "approval": approval,
    }
    (tmp_path / "approval").write_text(json.dumps(document))

    with pytest.raises(CommandError, match=why):
        read_approval(tmp_path / "approval", request_of(), now=NOW)


def test_an_approval_for_another_network_is_not_sent(tmp_path: Path) -> None:
    document = approve_request(
        msgspec.structs.replace(request_of(), network="other"), SECOND, now=NOW, lifetime_s=60
    )
    (tmp_path / "approval").write_bytes(written(document))

    with pytest.raises(CommandError, match="of the network other"):
        read_approval(tmp_path / "approval", request_of(), now=NOW)


def test_an_endless_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b" " * (FILE_BYTES_MAX + 1))

    with pytest.raises(CommandError, match="longer than"):
        read_request(tmp_path / "long", network="test", now=NOW)


# --- what is shown --------------------------------------------------------------------------------


def registration(**more: Any) -> dict[str, Any]:
    key = msgspec.to_builtins(prove(HOLDER, network="test", member=HOSPITAL, now=NOW))
    return {"did": BOSS, "kind": "person", "member": HOSPITAL, "keys": [key], **more}


SCHEMA = schema_of()
TWICE = b'{"a": 1, "a": 2}'
TYPE = name_of(SCHEMA)


def activation(schema: Any, *, names: Any = None, shows: bytes | None = b"") -> ApprovalRequest:
    """A request to activate a schema; or one that `names` another, or whose file `shows` something else."""
    target = f"/event-types/{TYPE}/activate"
    request = request_of({"dataschema": names or dataschema(schema)}, target=target, party=None)
    text = schema_file(schema) if shows == b"" else shows
    return msgspec.structs.replace(request, schema=None if text is None else text.decode())


ACTS: Mapping[str, tuple[ApprovalRequest, list[str]]] = {
    "register": (
        request_of(registration(roles=["clinician"]), target="/parties", party=None),
        [f"register {BOSS}", f"acting for {HOSPITAL}", "clinician", KEY.id, "fingerprint", "has signed"],
    ),
    "add-key": (
        request_of({"key": registration()["keys"][0]}, target=ROLES.replace("roles", "keys")),
        [f"one more key sign as {BOSS}", KEY.id, "fingerprint", f"for {HOSPITAL}"],
    ),
    "revoke-key": (
        request_of(
            {"key_id": KEY.id, "reason": "compromised", "since": "2026-11-20T12:00:00Z"},
            target=ROLES.replace("roles", "keys/revoke"),
        ),
        [
            f"revoke a key of {BOSS}",
            KEY.id,
            "as compromised",
            "fingerprint",
            "since 2026-11-20 12:00:00 UTC is in doubt",
        ],
    ),
    "grant-role": (
        request_of(),
        [f"grant the role operator to {BOSS}", KEY.id, "fingerprint", "and no others", "clinician"],
    ),
    "assign-shards": (
        request_of(
            {
                "epoch": 7,
                "shards": [{"id": 0, "topics": {}}, {"id": 3, "topics": {"salus.lab.events": [0, 2]}}],
                "added": [{"id": 3, "origin": "test/shard/3", "verifier_key": "test/shard/3+ab+cd"}],
            },
            target="/shards",
            party=None,
        ),
        [
            "assignment 7",
            "new shard 3",
            "test/shard/3+ab+cd",
            "salus.lab.events [0, 2]",
            "shard 0 seals nothing",
        ],
    ),
    "activate-event-type": (
        activation(SCHEMA),
        [f"take events of the type {TYPE}", *schema_file(SCHEMA).decode().splitlines(), dataschema(SCHEMA)],
    ),
    "withdraw-event-type": (
        request_of(None, target=f"/event-types/{TYPE}/withdraw", party=None),
        [f"take no more events of the type {TYPE}", "forget what is proposed"],
    ),
    **{
        act: (
            request_of({"reason": reason}, target=ROLES.replace("roles", act)),
            [f"{act} the member {BOSS}", f"for the reason {reason}", words],
        )
        for act, reason, words in (
            ("suspend", "key-compromised", "nothing is taken from it"),
            ("reinstate", "resolved", "take part again"),
            ("expel", "left", "this cannot be taken back"),
        )
    },
    "withdraw-role": (
        request_of(None, method="DELETE", target=f"{ROLES}/clinician"),
        [f"withdraw the role clinician from {BOSS}"],
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_each_act_is_shown_with_whom_it_concerns(name: str) -> None:
    request, words = ACTS[name]
    about = "assignment 7" if name == "assign-shards" else TYPE if "type" in name else BOSS
    act = act_of(request, at=NOW)

    assert (act.name, act.about) == (name, about)
    assert [word for word in words if word not in text_of(act)] == []


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (request_of({**GRANT, "more": 1}), "unknown field"),
        (request_of({"role": "operator"}), "keys: "),
        (request_of({**GRANT, "keys": []}), "other keys"),
        (request_of({**GRANT, "keys": [f"{BOSS}#2"]}), "other keys"),
        (request_of(party=None), "party: "),
        (request_of(party=msgspec.structs.replace(PARTY, did=HOSPITAL)), "party: "),
        (request_of(target="/shards/x"), "none of the acts"),
        (request_of(target=f"{ROLES}?x=1"), "none of the acts"),
        (request_of(target="/parties/did:web:hospital.example%253A8443:boss%2Froles"), "none of the acts"),
        (request_of(target=ROLES.replace("boss", "%62oss")), "none of the acts"),
        (request_of({}, method="DELETE", target=f"{ROLES}/clinician"), "body: "),
        (request_of(registration(keys=[]), target="/parties"), "keys: "),
        (request_of(registration(member=None), target="/parties"), "another member"),
        (request_of(registration(did=HOSPITAL), target="/parties"), "is not a key of"),
        (request_of({"key_id": "x#1"}, target=ROLES.replace("roles", "keys/revoke")), "no such key"),
        # redA6 5: the schema that is shown is the one that the request names, to the byte.
        (activation(SCHEMA, shows=None), "schema: the file does not have it"),
        (activation(SCHEMA, names="urn:x"), "schema: it is another one"),
        (activation(SCHEMA, shows=schema_file(schema_of(required=()))), "schema: it is another one"),
        (
            activation(SCHEMA, names=dataschema_of(TYPE, b" {}"), shows=b" {}"),
            "schema: it is not in the form",
        ),
        (activation(SCHEMA, names=dataschema_of(TYPE, TWICE), shows=TWICE), "schema: a name is given twice"),
        (activation(SCHEMA, names=dataschema_of(TYPE, b"{"), shows=b"{"), "schema: "),
    ],
)
def test_what_cannot_be_shown_or_is_not_proven_is_not_approved(request_: ApprovalRequest, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        act_of(request_, at=NOW)


@pytest.mark.parametrize("spoil", ["missing", "of another key", "too old"])
def test_a_key_without_a_valid_proof_is_not_approved(spoil: str) -> None:
    key = msgspec.to_builtins(prove(HOLDER, network="test", member=HOSPITAL, now=NOW))
    if spoil == "missing":
        del key["proof"]
    elif spoil == "of another key":
        other = LocalSigner.from_seed(b"4" * 32, f"{BOSS}#1")
        key["proof"] = prove(other, network="test", member=HOSPITAL, now=NOW).proof
    at = NOW + timedelta(days=8) if spoil == "too old" else NOW

    with pytest.raises(CommandError, match="proof"):
        act_of(request_of(registration(keys=[key]), target="/parties"), at=at)


def test_a_schema_is_shown_to_its_last_character_and_steers_nothing() -> None:
    # redA6 6: it may hold what identity would refuse, for the file is its author's.
    evil = {**SCHEMA, "description": "\u009b2J\u202e\u200b\x7f\u2028[red]"}
    text = text_of(act_of(activation(evil), at=NOW))

    assert "\\u009b2J\\u202e\\u200b\\u007f\\u2028[red]" in text
    assert text.isprintable() or set(filter(lambda char: not char.isprintable(), text)) == {"\n"}


def test_keys_that_would_sign_as_an_operator_are_shown_with_their_time() -> None:
    ends = msgspec.structs.replace(KEY, valid_until="2027-01-01T00:00:00Z")
    shown = text_of(act_of(request_of(party=msgspec.structs.replace(PARTY, keys=(ends,))), at=NOW))

    assert f"signs from {KEY.valid_from} until 2027-01-01T00:00:00Z" in shown


def test_text_of_others_is_shown_and_steers_nothing() -> None:
    nasty = "[red]x[/]\u202e\n"
    act = act_of(request_of(registration(name=nasty, kind=nasty, roles=[nasty]), target="/parties"), at=NOW)

    assert text_of(act).count("[red]x[/]\\u202e\\u000a") == 3


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a second operator who is offline, with a request of now."""
    monkeypatch.setenv("SALUS_STATE", str(tmp_path / "nothing"))
    NetworkFolder(tmp_path).create(Plan(origin="test"))
    save_ed25519(tmp_path / "second.pem", Ed25519PrivateKey.from_private_bytes(b"2" * 32))
    line = request_of().line
    write_request(
        tmp_path / "request", line, network="test", signer=FIRST, party=PARTY, now=datetime.now(UTC)
    )
    return tmp_path


def approve(there: Path, *words: str, typed: str = "") -> Any:
    arguments = [str(there / "request"), "--directory", str(there), *words]
    return CliRunner().invoke(build(["approve"]), ["approve", *arguments], input=typed)


def test_the_second_operator_is_asked_and_a_no_writes_nothing(there: Path) -> None:
    key = str(there / "second.pem")
    refused = approve(there, "--key", key, typed="n\n")
    agreed = approve(there, "--key", key, typed="y\n")

    assert isinstance(refused.exception, CommandError)
    assert (refused.stdout, agreed.exit_code) == ("", 0)
    # Nothing but the document is on stdout, and people are told until when it is good.
    document = json.loads(agreed.stdout)
    assert document["approved_by"] == SECOND.did
    assert agreed.stdout.startswith("{")
    assert f"{datetime.fromisoformat(document['until']):%H:%M:%S} UTC" in agreed.stderr
    request = read_request(there / "request", network="test", now=datetime.now(UTC)).request
    (there / "approval").write_text(agreed.stdout)
    assert read_approval(there / "approval", request, now=datetime.now(UTC)).approval == document["approval"]


@pytest.mark.parametrize("key_id", [None, f"{FIRST.did}#another", f"{HOSPITAL}#1"])
def test_offline_the_command_says_whether_the_asker_is_known_by_its_key(
    there: Path, key_id: str | None
) -> None:
    signer = FIRST if key_id is None else LocalSigner.from_seed(b"9" * 32, key_id)
    line = request_of().line
    write_request(there / "request", line, network="test", signer=signer, party=PARTY, now=datetime.now(UTC))
    told = approve(there, "--key", str(there / "second.pem"), "--yes")

    assert told.exit_code == 0
    assert ("identity alone can tell" in told.stderr) is (key_id is not None)


def test_without_a_key_the_request_is_shown_and_nothing_is_signed(there: Path) -> None:
    told = approve(there)

    assert "grant the role operator" in told.stderr
    assert isinstance(told.exception, CommandError)
    assert "nothing was signed" in str(told.exception)


def test_an_approval_never_outlives_the_proofs_that_it_is_about(there: Path) -> None:
    made = datetime.now(UTC) - timedelta(days=6, hours=22)
    key = msgspec.to_builtins(prove(HOLDER, network="test", member=HOSPITAL, now=made))
    line = request_of(registration(keys=[key]), target="/parties").line
    write_request(there / "request", line, network="test", signer=FIRST, party=None, now=datetime.now(UTC))
    told = approve(there, "--key", str(there / "second.pem"), "--yes", "--hours", "24")

    until = datetime.fromisoformat(json.loads(told.stdout)["until"])
    assert until <= made + timedelta(days=7)


def operator(signer: LocalSigner, **more: Any) -> PartyFacts:
    key = KeyFacts(signer.verification_method, multibase_of(signer.public_key), "2026-01-01T00:00:00Z")
    return PartyFacts(signer.did, "person", (key,), **{"roles": ("operator",), **more})


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ([operator(FIRST), operator(SECOND), PARTY], None),
        ([operator(FIRST), operator(SECOND), msgspec.structs.replace(PARTY, roles=())], "party: "),
        ([operator(FIRST), operator(SECOND), msgspec.structs.replace(PARTY, keys=())], "party: "),
        ([msgspec.structs.replace(operator(FIRST), keys=()), operator(SECOND), PARTY], "key: "),
        ([operator(FIRST), msgspec.structs.replace(operator(SECOND), keys=()), PARTY], "--key-id: "),
        ([operator(FIRST), operator(SECOND, roles=()), PARTY], "is no operator"),
        ([operator(FIRST, member=HOSPITAL), operator(SECOND, member=HOSPITAL), PARTY], "your organisation"),
    ],
)
def test_where_identity_can_be_asked_the_file_and_the_approver_are_compared(
    there: Path, monkeypatch: pytest.MonkeyPatch, known: list[PartyFacts], why: str | None
) -> None:
    async def party(_: NetworkAccess, did: str) -> PartyFacts:
        return next(one for one in known if one.did == did)

    monkeypatch.setattr(network_access.NetworkAccess, "party", party)
    words = ["--key", str(there / "second.pem"), "--yes", "--identity", "http://identity"]
    told = approve(there, *words)

    assert (told.exit_code == 0) is (why is None), told.exception
    assert why is None or why in str(told.exception)


def test_without_a_network_file_nothing_is_approved(there: Path) -> None:
    (there / "network.json").unlink()
    told = approve(there, "--key", str(there / "second.pem"), "--yes")

    assert isinstance(told.exception, CommandError)
    assert "--directory: " in str(told.exception)
