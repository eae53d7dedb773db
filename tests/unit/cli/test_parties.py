"""`salus party`: what it asks identity for, what it writes for an approval, and which files it leaves."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from salus.cli import network_access, party_commands
from salus.cli.application import build, run
from salus.cli.approval_files import approve_request, read_request, written
from salus.cli.callers import NotSentError, party_key_file, refusal, signer_of
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import PartyFacts
from salus.cli.party_changes import REASONS, ROLES
from salus.cli.refusal_advice import ADVICE
from salus.cli.stdout import OutputError
from salus.crypto.keys import save_ed25519
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.platform import Platform
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, did_key_of, key_of, multibase_of
from salus.events.possession import verify_possession

HOSPITAL, BOSS = "did:web:hospital.example", "did:web:hospital.example%3A8443:boss"
KEYS = [
    {
        "id": f"{BOSS}#{number}",
        "multibase": multibase_of(LocalSigner.from_seed(bytes([number]) * 32).public_key),
        "valid_from": "2026-01-01T00:00:00Z",
        "revoked": revoked,
    }
    for number, revoked in ((1, None), (2, "rotated"), (3, None))
]
PARTY = {"did": BOSS, "kind": "person", "keys": KEYS, "roles": [], "member": HOSPITAL, "name": None}
URL = "/parties/did:web:hospital.example%253A8443:boss"


class Identity:
    """Answers as identity would, remembers what it was asked, and fails as it is told."""

    party: Mapping[str, Any] = PARTY

    def __init__(self) -> None:
        self.commands: list[tuple[str, str, Any, Mapping[str, str]]] = []
        self.failure: Callable[[], BaseException] | None = None

    async def send(self, _service: str, _url: str, method: str, path: str, **request: Any) -> httpx.Response:
        if method == "GET":
            return httpx.Response(200, json=self.party)
        content = request["content"]
        body = None if content is None else json.loads(content)
        self.commands.append((method, path, body, request["headers"]))
        if self.failure is not None:
            raise self.failure()
        return httpx.Response(200, json=PARTY)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkFolder:
    """The network's folder of the first operator."""
    monkeypatch.setenv("SALUS_STATE", str(tmp_path))
    made = NetworkFolder(tmp_path)
    made.create(Plan(origin="test"))
    return made


@pytest.fixture
def party(identity: Identity, folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what runs `salus party`, which speaks to this identity."""
    monkeypatch.setattr(network_access, "send", identity.send)

    def run_(*words: object) -> Any:
        where = ["--directory", str(folder.folder), "--identity", "http://identity"]
        away = words[0] == "prove-key"
        arguments = ["party", *map(str, words), *([] if away else where)]
        return CliRunner().invoke(build(["party"]), arguments)

    return run_


def refused(code: str, status: int = 403) -> Callable[[], BaseException]:
    return lambda: refusal("identity", httpx.Response(status, json={"code": code, "detail": "no"}))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["grant-role", BOSS, "clinician"], ("POST", f"{URL}/roles", {"role": "clinician"})),
        (
            ["grant-role", BOSS, "operator"],
            ("POST", f"{URL}/roles", {"role": "operator", "keys": [f"{BOSS}#1", f"{BOSS}#3"]}),
        ),
        (["withdraw-role", BOSS, "operator"], ("DELETE", f"{URL}/roles/operator", None)),
        (
            ["revoke-key", BOSS, "#3", "--reason", "left"],
            ("POST", f"{URL}/keys/revoke", {"key_id": f"{BOSS}#3", "reason": "left"}),
        ),
        (
            ["revoke-key", BOSS, "#2", "--reason", "compromised", "--since", "2026-11-20T12:00:00Z"],
            (
                "POST",
                f"{URL}/keys/revoke",
                {"key_id": f"{BOSS}#2", "reason": "compromised", "since": "2026-11-20T12:00:00+00:00"},
            ),
        ),
        (
            ["revoke-key", BOSS, f"{BOSS}#1"],
            ("POST", f"{URL}/keys/revoke", {"key_id": f"{BOSS}#1", "reason": "unspecified"}),
        ),
    ],
)
def test_a_command_asks_for_what_it_says(
    words: list[str], line: tuple[Any, ...], party: Callable[..., Any], identity: Identity
) -> None:
    told = party(*words)

    assert (told.exit_code, identity.commands) == (0, [(*line, {})]), told.output
    # What is signed for an approval is what the HTTP client sends.
    assert httpx.Request(line[0], f"http://identity{line[1]}").url.raw_path.decode() == line[1]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["grant-role", BOSS, "king"], "ROLE"),
        (["revoke-key", BOSS, "1", "--reason", "x"], "--reason"),
        (["revoke-key", BOSS, "1", "--since", "yesterday"], "--since"),
        (["register", "x", "--key-kind", "rsa"], "--key-kind"),
        (["register", "x", "--kind", "king"], "--kind"),
        (["register", "x", "--role", "king"], "--role"),
        (["list", "--role", "king"], "--role"),
        (["revoke-key", BOSS, "2"], "KEY: "),
        (["register"], "NAME"),
        (["prove-key", "--key", "nowhere.pem", "--did", BOSS, "--key-id", f"{HOSPITAL}#1"], "nowhere.pem"),
    ],
)
def test_what_cannot_be_asked_for_is_named_and_nothing_is_sent(
    words: list[str], field: str, party: Callable[..., Any], identity: Identity
) -> None:
    told = party(*words)

    assert told.exit_code != 0
    assert field in told.output + str(told.exception)
    assert identity.commands == []


def test_who_revokes_a_key_is_told_of_those_that_it_brought(
    party: Callable[..., Any], identity: Identity
) -> None:
    # case R13-F5: the thief of a key went on by one that he added with it, and one that this one added.
    asked_by = {1: None, 2: f"{BOSS}#1", 3: f"{BOSS}#2"}
    keys = [{**key, "asked_by": asked_by[number]} for number, key in enumerate(KEYS, 1)]
    identity.party = {**PARTY, "keys": keys}

    told = party("revoke-key", BOSS, "1", "--reason", "compromised")
    assert told.exit_code == 0, told.output
    assert f"{BOSS}#3" in told.stderr
    assert "revoke those that you did not add" in told.stderr
    # The second is revoked already, and nothing came by the third.
    assert f"{BOSS}#2" not in told.stderr
    assert "came by it" not in party("revoke-key", BOSS, "3").stderr


# --- keys that are made, and keys that are held elsewhere -------------------------------------------


@pytest.mark.parametrize(
    ("failure", "stays"),
    [
        (refused("second-operator-needed"), False),
        (refused("unknown-member", 422), False),
        (lambda: NotSentError(Exit.NOT_RUNNING, "identity does not answer: ConnectError"), False),
        # An earlier attempt, of which the answer was lost, may have registered this very key.
        (refused("party-exists", 409), True),
        (refused("service-key-invalid", 503), True),
        (lambda: CommandError(Exit.NOT_RUNNING, "identity does not answer: ReadTimeout"), True),
        (KeyboardInterrupt, True),
    ],
)
def test_the_key_of_a_party_that_is_certainly_not_registered_does_not_stay(
    failure: Callable[[], BaseException],
    stays: bool,  # noqa: FBT001
    party: Callable[..., Any],
    identity: Identity,
    folder: NetworkFolder,
) -> None:
    # "Key file left after refused `party register`".
    identity.failure = failure
    told = party("register", "clinic")

    assert isinstance(told.exception, CommandError)
    assert party_key_file(folder, "clinic").exists() is stays
    unknown = stays and "party-exists" not in str(told.exception)
    assert ("The party may be registered, so its key stays in" in str(told.exception)) is unknown


def test_the_key_of_a_registration_that_cannot_be_printed_stays(
    party: Callable[..., Any], identity: Identity, folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Red team: `salus party register clinic >/dev/full` registered the clinic and removed its only key.
    def emit(_: object) -> None:
        raise OutputError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(party_commands, "emit", emit)
    told = party("register", "clinic", "--json")

    assert isinstance(told.exception, CommandError)
    assert told.exception.code is Exit.NOT_WRITTEN
    assert len(identity.commands) == 1
    assert party_key_file(folder, "clinic").exists()


def test_a_party_registers_with_a_key_of_p256_and_asks_with_it(
    party: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    told = party("register", "phone", "--kind", "person", "--key-kind", "p256")
    assert told.exit_code == 0, told.output
    (_, _, body, _), *_ = identity.commands

    assert body["did"].startswith("did:key:zDn")
    assert body["keys"][0]["multibase"] == body["did"].removeprefix("did:key:")
    assert party("grant-role", BOSS, "clinician", "--key", party_key_file(folder, "phone")).exit_code == 0


def test_a_key_that_was_there_before_a_refusal_stays(
    party: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    party("register", "clinic")
    before = party_key_file(folder, "clinic").read_bytes()
    identity.failure = refused("not-permitted")
    party("register", "clinic")

    assert party_key_file(folder, "clinic").read_bytes() == before


@pytest.mark.parametrize("name", ["operator", "audit", "shard-0"])
def test_no_party_takes_the_name_of_a_key_of_the_network(
    name: str, party: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    # "`--as operator` was somebody else after `party register operator`".
    told = party("register", name, "--kind", "person")

    assert getattr(told.exception, "code", None) == Exit.USAGE
    assert not party_key_file(folder, name).exists()
    assert identity.commands == []


@pytest.mark.parametrize(
    ("mode", "why"), [(None, "cannot be read"), (0o600, "not"), (0o644, "others may read")]
)
def test_a_key_file_that_cannot_be_used_is_a_mistake_in_usage(
    mode: int | None, why: str, tmp_path: Path, party: Callable[..., Any], identity: Identity
) -> None:
    key = tmp_path / "given.pem"
    if mode is not None:
        key.write_text("no key")
        key.chmod(mode)
    for words in (("grant-role", BOSS, "clinician"), ("prove-key",)):
        told = party(*words, "--key", key)

        assert getattr(told.exception, "code", None) == Exit.USAGE
        assert why in str(told.exception)
    assert identity.commands == []


@pytest.mark.parametrize("option", ["--did", "--member"])
def test_a_proof_names_dids_and_no_names(option: str, tmp_path: Path, party: Callable[..., Any]) -> None:
    save_ed25519(tmp_path / "key.pem", Ed25519PrivateKey.generate())
    told = party("prove-key", "--key", tmp_path / "key.pem", option, "hospital")

    assert str(told.exception) == f"{option}: hospital is no DID"


@pytest.mark.parametrize("member", [None, HOSPITAL])
def test_a_holder_proves_a_key_and_its_private_half_does_not_travel(
    tmp_path: Path, member: str | None, party: Callable[..., Any], identity: Identity
) -> None:
    pem, entry = tmp_path / "boss.pem", tmp_path / "boss.json"
    private = Ed25519PrivateKey.generate()
    save_ed25519(pem, private)
    as_member = [] if member is None else ["--member", member]
    proven = party("prove-key", "--key", pem, "--did", BOSS, *as_member, "--to", entry)
    told = party("register", "--entry", entry, "--kind", "person", *as_member)

    assert (proven.exit_code, told.exit_code) == (0, 0), told.exception
    [(_, _, body, _)] = identity.commands
    [key] = body["keys"]
    assert (body["did"], body.get("member")) == (BOSS, member)
    assert key == json.loads(entry.read_text())
    at = datetime.now(UTC)
    public = PublicKey(id=key["id"], multibase=key["multibase"], valid_from=at)
    verify_possession(key["proof"], key=public, member=member, network="test", at=at)
    assert key_of(key["multibase"]).public_key == private.public_key()
    assert "PRIVATE" not in entry.read_text()


def test_a_proof_for_another_member_is_refused_before_anything_is_sent(
    tmp_path: Path, party: Callable[..., Any], identity: Identity
) -> None:
    pem, entry = tmp_path / "boss.pem", tmp_path / "boss.json"
    save_ed25519(pem, Ed25519PrivateKey.generate())
    party("prove-key", "--key", pem, "--did", BOSS, "--to", entry)
    registered = party("register", "--entry", entry, "--kind", "person", "--member", HOSPITAL)
    added = party("add-key", BOSS, "--entry", entry)

    assert "another member" in str(registered.exception)
    assert "another member" in str(added.exception)
    assert identity.commands == []


def test_a_proof_for_another_network_is_refused_before_anything_is_sent(
    tmp_path: Path, party: Callable[..., Any], identity: Identity
) -> None:
    pem, entry = tmp_path / "boss.pem", tmp_path / "boss.json"
    save_ed25519(pem, Ed25519PrivateKey.generate())
    party("prove-key", "--key", pem, "--did", BOSS, "--network", "salus.example/other", "--to", entry)
    registered = party("register", "--entry", entry, "--kind", "person")

    assert "aud is not salus:possession@test" in str(registered.exception)
    assert identity.commands == []


def test_a_key_of_another_did_is_added_to_nobody(
    tmp_path: Path, party: Callable[..., Any], identity: Identity
) -> None:
    pem, entry = tmp_path / "other.pem", tmp_path / "other.json"
    save_ed25519(pem, Ed25519PrivateKey.generate())
    party("prove-key", "--key", pem, "--did", HOSPITAL, "--member", HOSPITAL, "--to", entry)
    told = party("add-key", BOSS, "--entry", entry)

    assert "--entry: " in str(told.exception)
    assert identity.commands == []


def test_a_proof_by_default_is_of_the_keys_own_did(tmp_path: Path, party: Callable[..., Any]) -> None:
    private = Ed25519PrivateKey.generate()
    save_ed25519(tmp_path / "x.pem", private)
    entry = json.loads(party("prove-key", "--key", tmp_path / "x.pem", "--days", "2").stdout)

    assert entry["id"] == f"{did_key_of(private.public_key())}#{multibase_of(private.public_key())}"
    assert "valid_until" in entry


def test_who_makes_an_operator_sees_the_keys_that_would_sign_as_one(party: Callable[..., Any]) -> None:
    """redA6 5, sibling: where there is one operator, nobody else looks."""
    told = party("grant-role", BOSS, "operator")

    shown = [held.id for held in msgspec.convert(PARTY, PartyFacts).signing_keys]
    assert [key for key in shown if f"the key {key}" not in told.stderr] == []
    assert told.stderr.count("fingerprint ") == len(shown) > 0
    assert "fingerprint" not in party("grant-role", BOSS, "clinician").stderr


# --- two operators -----------------------------------------------------------------------------------


def test_the_first_operator_is_told_what_to_do_next(party: Callable[..., Any], identity: Identity) -> None:
    identity.failure = refused("second-operator-needed")
    told = party("grant-role", BOSS, "operator")

    assert isinstance(told.exception, CommandError)
    assert told.exception.code == Exit.NO
    for words in ("second-operator-needed", "--to-approve FILE", "salus approve", "salus party submit"):
        assert words in str(told.exception)


def test_a_request_to_approve_is_written_and_not_sent_and_submitted_to_the_byte(
    tmp_path: Path, party: Callable[..., Any], identity: Identity, folder: NetworkFolder
) -> None:
    request, approval = tmp_path / "request", tmp_path / "approval"
    told = party("grant-role", BOSS, "operator", "--to-approve", request, "--json")
    assert (told.exit_code, identity.commands) == (0, [])
    now = datetime.now(UTC)
    asked = read_request(request, network="test", now=now).request
    second = LocalSigner.from_seed(b"2" * 32)
    approval.write_bytes(written(approve_request(asked, second, now=now, lifetime_s=60)))
    other = party("submit", request, "--approval", approval, "--as", "consent")
    sent = party("submit", request, "--approval", approval)

    assert asked.asked_by == folder.signer("operator").did
    assert "asked for it" in str(other.exception)
    assert sent.exit_code == 0, sent.exception
    [(method, path, body, headers)] = identity.commands
    assert (method, path, json.dumps(body, separators=(",", ":"))) == ("POST", asked.target, asked.body)
    assert headers == {"Salus-Approval": json.loads(approval.read_text())["approval"]}


def test_a_lost_answer_is_said_to_be_no_answer(party: Callable[..., Any], identity: Identity) -> None:
    identity.failure = lambda: CommandError(Exit.NOT_RUNNING, "identity does not answer: ReadTimeout")
    told = party("grant-role", BOSS, "clinician")

    assert "it is not known whether it took effect" in str(told.exception)


def test_a_registration_without_a_network_file_leaves_no_key(
    tmp_path: Path, party: Callable[..., Any], folder: NetworkFolder
) -> None:
    folder.file.unlink()
    told = party("register", "nurse", "--to-approve", tmp_path / "request")

    assert str(told.exception) == f"--directory: there is no {folder.file}: name the folder that has it"
    assert not party_key_file(folder, "nurse").exists()


def test_the_key_of_a_registration_that_waits_for_an_approval_stays(
    tmp_path: Path, party: Callable[..., Any], folder: NetworkFolder
) -> None:
    told = party("register", "nurse", "--kind", "person", "--to-approve", tmp_path / "request")

    assert told.exit_code == 0
    assert party_key_file(folder, "nurse").exists()
    assert "the new key is in" in told.stdout.replace("\n", " ")


def test_the_key_of_a_request_that_cannot_be_written_does_not_stay(
    tmp_path: Path, party: Callable[..., Any], folder: NetworkFolder
) -> None:
    (tmp_path / "file").write_text("")
    told = party("register", "nurse", "--to-approve", tmp_path / "file" / "request")

    assert isinstance(told.exception, OSError)
    assert not party_key_file(folder, "nurse").exists()


def test_advice_is_on_codes_that_a_service_refuses_with() -> None:
    root = Path(__file__).parents[3]
    places = ("services/identity", "services/consent", "services/storage", "libs/events", "libs/runtime")
    sources = [path.read_text() for place in places for path in (root / place / "src").rglob("*.py")]

    assert [code for code in ADVICE if not any(f'"{code}"' in source for source in sources)] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("salus party grant-role x ", set(ROLES.values)),
        ("salus party revoke-key x y --reason ", set(REASONS.values)),
        ("salus party show cl", {"clinic"}),
        ("salus approve x --as op", {"operator"}),
        ("salus consent grant x cl", {"clinic"}),
        ("salus audit search --who cl", {"clinic"}),
        ("salus publish x --as cl", {"clinic"}),
        ("salus publish salus.clinical.doc", {"salus.clinical.document-registered.v1"}),
        ("salus object get x --break-glass pub", {"public-health"}),
        ("salus party register x --role pri", {"privacy-officer"}),
    ],
)
def test_the_shell_completes_roles_reasons_and_names(
    line: str,
    words: set[str],
    folder: NetworkFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_ed25519(party_key_file(folder, "clinic"), Ed25519PrivateKey.generate())
    monkeypatch.setenv("_SALUS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    run([])

    assert set(capsys.readouterr().out.split()) == words


def test_a_key_that_was_added_signs_as_its_party(tmp_path: Path, folder: NetworkFolder) -> None:
    save_ed25519(tmp_path / "key.pem", Ed25519PrivateKey.generate())
    signer = signer_of(Platform(folder.folder), "operator", tmp_path / "key.pem", f"{BOSS}#2")

    assert (signer.did, signer.verification_method) == (BOSS, f"{BOSS}#2")
