"""The two files of an act of two operators: the request that waits for an approval, and the approval.

A request file is JSON text, a blank line, and the signature of who asks, by which a changed file is known. It
holds no secret: the asker's own token is made when the request is sent. An approval is one JSON document.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import msgspec

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import PartyFacts
from salus.client.auth import RequestLine, make_approval, make_proposal
from salus.devkit.public_files import write_public
from salus.events.bearer import (
    APPROVAL,
    APPROVAL_LIFETIME_S_MAX,
    PROPOSAL,
    PROPOSAL_LIFETIME_S_MAX,
    Bearer,
    BearerError,
    Signed,
    audience_of,
    read_bearer,
    require_current,
)
from salus.events.contexts.consent import PolicyFile
from salus.events.did import LocalSigner, key_of, multibase_of
from salus.ledger.json_reader import JsonError, read_json
from salus.runtime.manifests import Name

FILE_BYTES_MAX = 1_048_576
_DID_KEY = "did:key:"
_BLANK = b"\n\n"
_REQUEST = "a request that waits for an approval"
_T = TypeVar("_T")


class AskerKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key by which who asks has signed the file."""

    id: str
    multibase: str


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request to a contract service that waits for an approval.

    `body` is sent to the byte as it is here. `party` is what identity told the asker about whom it concerns.
    `schema` is the file that the body's `dataschema` names, where an event type is activated, and `policies`
    are the files of the policy set that the target names.
    """

    format: Literal["salus-request/v1"] = "salus-request/v1"
    network: str
    service: Name = "identity"
    asked_by: str
    key: AskerKey
    method: str
    target: str
    body: str | None
    party: PartyFacts | None
    schema: str | None = None
    policies: tuple[PolicyFile, ...] | None = None

    @property
    def names_its_key(self) -> bool:
        """Whether the asker's DID is the very key that signed the file; else identity alone can tell."""
        return self.asked_by == f"{_DID_KEY}{self.key.multibase}"

    @property
    def line(self) -> RequestLine:
        """What the approval is about: `body` is what is sent, and empty where nothing is."""
        return RequestLine(self.method, self.target, (self.body or "").encode("utf-8"))


class ApprovalDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A second operator's approval of one request."""

    format: Literal["salus-approval/v1"] = "salus-approval/v1"
    network: str
    approved_by: str
    until: datetime
    approval: str


@dataclass(frozen=True)
class ReadRequest:
    """A request file whose signature is verified, and until when it may be approved."""

    request: ApprovalRequest
    until: datetime


def write_request(
    path: Path,
    line: RequestLine,
    *,
    network: str,
    service: str = "identity",
    signer: LocalSigner,
    party: PartyFacts | None,
    schema: bytes | None = None,
    policies: tuple[PolicyFile, ...] | None = None,
    now: datetime,
) -> None:
    """Write a request for whoever is to approve it, signed by who asks."""
    request = ApprovalRequest(
        network=network,
        service=service,
        asked_by=signer.did,
        key=AskerKey(signer.verification_method, multibase_of(signer.public_key)),
        method=line.method,
        target=line.target,
        body=None if line.body is None else line.body.decode("utf-8"),
        party=party,
        schema=None if schema is None else schema.decode("utf-8"),
        policies=policies,
    )
    text = msgspec.json.format(msgspec.json.encode(request), indent=2)
    signature = make_proposal(signer, text, network=network, now=now).encode("ascii")
    write_public(path, text + _BLANK + signature + b"\n")


def read_request(path: Path, *, network: str, now: datetime) -> ReadRequest:
    """Return the request in a file, as who asks has signed it.

    Raises:
        CommandError: it is no such file, was changed, is too old, or is of another network.
    """
    content = _bytes_of(path)
    text, blank, signature = content.rpartition(_BLANK)
    if not blank:
        _unfit(path, _REQUEST, _told_instead(content))
    request = _parse(path, text, ApprovalRequest, _REQUEST)
    _require_network(path, request.network, network)
    try:
        signed = read_bearer(
            signature.strip().decode("ascii"),
            audience=audience_of(PROPOSAL, network),
            lifetime_s_max=PROPOSAL_LIFETIME_S_MAX,
        )
        _require_by(signed, request)
        require_current(now.timestamp(), issued=signed.claims.iat, expires=signed.claims.exp)
    except (BearerError, ValueError) as error:
        raise CommandError(Exit.NO, f"{path}: the signature of who asks: {error}") from None
    if signed.claims.dig != sha256(text).hexdigest():
        raise CommandError(Exit.NO, f"{path} was changed after it was signed: ask for a new one")
    return ReadRequest(request, datetime.fromtimestamp(signed.claims.exp, UTC))


def require_another(request: ApprovalRequest, signer: LocalSigner) -> None:
    """Raise CommandError if the signer is who asks."""
    if signer.did == request.asked_by:
        sentence = "nobody approves a request of their own: an operator of another organisation does"
        raise CommandError(Exit.NO, sentence)


def approve_request(
    request: ApprovalRequest, signer: LocalSigner, *, now: datetime, lifetime_s: int
) -> ApprovalDocument:
    """Return the approval of a request, which lives so long; raises as `require_another`."""
    require_another(request, signer)
    return ApprovalDocument(
        network=request.network,
        approved_by=signer.did,
        until=datetime.fromtimestamp(int(now.timestamp()) + lifetime_s, UTC),
        approval=make_approval(signer, request.line, network=request.network, now=now, lifetime_s=lifetime_s),
    )


def written(document: ApprovalDocument) -> bytes:
    """Return the bytes of an approval's file."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_approval(path: Path, request: ApprovalRequest, *, now: datetime) -> ApprovalDocument:
    """Return the approval in a file, which is of this request and has not ended.

    Identity verifies by whom it is; here the signature is verified if the approver's DID is its key.

    Raises:
        CommandError: it is not.
    """
    content = _bytes_of(path)
    if b'"salus-request/v1"' in content:
        _unfit(path, "an approval", "it is the request, which comes first: FILE --approval APPROVAL")
    document = _parse(path, content, ApprovalDocument, "an approval")
    _require_network(path, document.network, request.network)
    try:
        audience = audience_of(APPROVAL, request.network)
        signed = read_bearer(document.approval, audience=audience, lifetime_s_max=APPROVAL_LIFETIME_S_MAX)
        claims = signed.claims
        require_current(now.timestamp(), issued=claims.iat, expires=claims.exp, not_before=claims.nbf)
        _require_own_key(signed)
    except BearerError as error:
        raise CommandError(Exit.NO, f"{path}: the approval: {error}; ask for a new one") from None
    if _named(claims) != _named_by(request):
        raise CommandError(Exit.NO, f"{path} approves another request: ask for an approval of this one")
    if request.asked_by in (claims.iss, document.approved_by) or claims.iss != document.approved_by:
        raise CommandError(Exit.NO, f"{path}: nobody approves a request of their own")
    return document


def _named(claims: Bearer) -> tuple[str | None, str | None, str | None]:
    return claims.htm, claims.htu, claims.dig


def _named_by(request: ApprovalRequest) -> tuple[str, str, str]:
    line = request.line
    return line.method, line.target, sha256(line.body or b"").hexdigest()


def _require_by(signed: Signed, request: ApprovalRequest) -> None:
    if signed.claims.iss != request.asked_by or signed.kid != request.key.id:
        raise BearerError("it is not by who is said to ask")
    _require_key_of_did(request.key.id, request.key.multibase)
    if not signed.is_by(key_of(request.key.multibase)):
        raise BearerError("it is not by the key that the file names")


def _require_key_of_did(key_id: str, multibase: str) -> None:
    did, _, name = key_id.partition("#")
    # Identity may know more keys of a did:key than the one that it names; those it alone can tell.
    if did.startswith(_DID_KEY) and did == f"{_DID_KEY}{name}" and name != multibase:
        raise BearerError("the key is not the one that its id names")


def _require_own_key(signed: Signed) -> None:
    did, _, name = signed.kid.partition("#")
    if did != f"{_DID_KEY}{name}":
        return
    try:
        own = key_of(name)
    except ValueError:
        raise BearerError("its key id names no key of a kind that is known here") from None
    if not signed.is_by(own):
        raise BearerError("it is not signed by the key that it names")


def _require_network(path: Path, told: str, ours: str) -> None:
    if told != ours:
        raise CommandError(Exit.NO, f"{path} is of the network {shown(told)}, and this one is {ours}")


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise CommandError(Exit.USAGE, f"{path} is longer than {FILE_BYTES_MAX} bytes")
    return content


def _parse(path: Path, text: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.convert(read_json(text), kind)
    except JsonError as error:
        _unfit(path, what, f"{error.why}, in {error.place}")
    except ValueError as error:
        _unfit(path, what, str(error))


def _told_instead(content: bytes) -> str:
    """Return what is to be said of a file that has not the parts of a request."""
    if b'"salus-approval/v1"' in content:
        return "it is an approval, which `salus party submit` takes with --approval"
    return "it is no file that --to-approve wrote"


def _unfit(path: Path, what: str, why: str) -> NoReturn:
    raise CommandError(Exit.USAGE, f"{path} is not {what}: {shown(why)}")
