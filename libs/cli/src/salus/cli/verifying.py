"""`salus verify`: check a receipt offline, with nothing but a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from salus.cli.console import Json, emit, emit_line, out
from salus.cli.exits import CommandError, Exit
from salus.cli.state import running_folder
from salus.cli.verdicts import OUTCOMES, facts_of, raise_for, show, show_line, show_trusted
from salus.crypto.text_files import read_text_file
from salus.ledger.errors import PolicyError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.policy import Policy
from salus.ledger.tlog_policy import parse_tlog_policy

PolicyFile = Annotated[
    Path | None,
    typer.Option(
        help="Whom to trust: a network.json, or a C2SP tlog-policy file in place of the policy in "
        "--network. The local platform's by default."
    ),
]
NetworkFile = Annotated[
    Path | None,
    typer.Option(help="network.json with the shards' keys, which a tlog-policy file does not have."),
]


class Trusted(NamedTuple):
    """Whom to trust, and the files that say so."""

    policy: Policy
    files: tuple[Path, ...]


def read_policy(path: Path | None, network: Path | None = None) -> Policy:
    """Return what `read_trusted` does, without the files."""
    return read_trusted(path, network).policy


def read_trusted(path: Path | None, network: Path | None = None) -> Trusted:
    """Return the policy of a network.json, or that of a tlog-policy file with the shards of `network`.

    Where nothing is given, the local platform's network.json is meant.

    Raises:
        CommandError: there is no such file, or it is something else.
    """
    keys = network or running_folder() / "network.json"
    if path is None:
        if network is None and not keys.exists():
            raise CommandError(Exit.USAGE, f"there is no {keys}: give the network.json to go by as --policy")
        return Trusted(_policy_of(keys), (keys,))
    data = _read(path)
    try:
        chosen = parse_tlog_policy(data)
    except PolicyError as not_a_policy:
        return Trusted(_policy_in(path, data, network, not_a_policy), (path,))
    try:
        return Trusted(_policy_of(keys).under(chosen), (path, keys))
    except CommandError as error:
        hint = (
            ""
            if network
            else f"{path} is a tlog-policy, which has no shards' keys; name them with --network: "
        )
        raise CommandError(error.code, f"{hint}{error}") from None
    except PolicyError as error:
        raise CommandError(Exit.USAGE, f"{path}: {error}") from None


def _policy_in(path: Path, data: bytes, network: Path | None, not_a_policy: PolicyError) -> Policy:
    """Return the policy of a file that is no tlog-policy; an error is about this file and no other."""
    try:
        read_json(data)
    except JsonError as error:
        why = f"neither a network.json ({error.why}) nor a tlog-policy ({not_a_policy.detail})"
        raise CommandError(Exit.USAGE, f"{path} is {why}") from None
    if network is not None:
        raise CommandError(Exit.USAGE, f"{path} is a network.json: leave out --policy or --network")
    return _policy_of(path)


def _policy_of(network: Path) -> Policy:
    try:
        return Policy.from_network(_read(network))
    except PolicyError as error:
        raise CommandError(Exit.USAGE, f"{network}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_text_file(path)
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{path}: {error.strerror}") from None


def verify(
    receipts: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECEIPT...", help="Receipt files, and folders of files *.salus.", exists=True
        ),
    ],
    policy: PolicyFile = None,
    network: NetworkFile = None,
    event: Annotated[
        Path | None,
        typer.Option(
            help="The event's exact bytes, to check that it is its receipt; with one receipt.", exists=True
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check receipts offline: leaf, block, log, checkpoint, quorum, each against the keys in the policy.

    Ends with 5 if a record was refused by the ledger, which its receipt then proves; with 1 if a receipt
    does not verify. With --json, many receipts give one line each.
    """
    trusted = read_trusted(policy, network)
    files = _files(receipts)
    if event is not None and len(files) > 1:
        raise CommandError(Exit.USAGE, "--event goes with one receipt")
    if len(files) == 1:
        facts = _trusted_facts(trusted) | facts_of(files[0], trusted.policy, event)
        (emit if as_json else show)(facts)
    else:
        facts = _look_at_all(files, trusted, as_json=as_json)
    raise_for(facts)


def _trusted_facts(trusted: Trusted) -> dict[str, Any]:
    """Return whose word the verdicts rest on: a folder that somebody sent may have a `.salus` of its own."""
    logs = sorted({log.name for log in trusted.policy.logs})
    return {"trusted": {"logs": logs, "files": [str(file.absolute()) for file in trusted.files]}}


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*.salus")) if path.is_dir() else [path]
        if not found:
            raise CommandError(Exit.USAGE, f"{path} has no file *.salus")
        # Of a folder from somebody else: to read a pipe would take for ever.
        if path.is_dir() and (odd := [one for one in found if one.exists() and not _is_plain(one)]):
            raise CommandError(Exit.USAGE, f"{odd[0]} is neither a file nor a folder")
        files += found
    return files


def _is_plain(path: Path) -> bool:
    return path.is_file() or path.is_dir()


def _look_at_all(files: Sequence[Path], trusted: Trusted, *, as_json: bool) -> dict[str, Any]:
    """Show each receipt in a line, and return the facts of the one that counts: the first of the worst."""
    counts: Counter[str] = Counter()
    worst: dict[str, Any] = {}
    for file in files:
        facts = _trusted_facts(trusted) | facts_of(file, trusted.policy, None)
        counts[facts["outcome"]] += 1
        if not worst or OUTCOMES.index(facts["outcome"]) > OUTCOMES.index(worst["outcome"]):
            worst = {"file": str(file), **facts}
        if as_json:
            emit_line({"file": str(file), **facts})
        else:
            show_line(file, facts)
    if not as_json:
        show_trusted(worst)
        out.print(", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))
    return worst
