"""The text form of a trust policy: logs, witnesses, groups and the quorum (c2sp.org/tlog-policy).

It is a file of octets. What is not ASCII means nothing but itself, so it is kept by `surrogateescape`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from salus.ledger.base import int_of_decimal
from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.errors import KeyTextError, PolicyError
from salus.ledger.note import NoteVerifier, parse_vkey
from salus.ledger.quorum import NO_WITNESS, Group, Quorum, Witness, is_word

# 32 ML-DSA-44 witnesses take 60 kB.
POLICY_BYTES_MAX = 1_000_000
LOGS_MAX = 64
_NOT_ALLOWED = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_SPACE = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is trusted; its key's name is its origin."""

    verifier: NoteVerifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class TlogPolicy:
    """What a policy file says. Without logs it speaks of logs that are known from elsewhere."""

    logs: tuple[Log, ...]
    quorum: Quorum

    def __post_init__(self) -> None:
        if len(self.logs) > LOGS_MAX:
            raise PolicyError("malformed-policy", f"more than {LOGS_MAX} logs")
        if len({parse_vkey(log.verifier.vkey)[2] for log in self.logs}) != len(self.logs):
            raise PolicyError("malformed-policy", "a log has the public key of another")

    def lines(self) -> list[str]:
        """Return the lines of the file: logs, witnesses, groups, quorum.

        Raises:
            PolicyError: `malformed-policy`, if a URL cannot stand in a file.
        """
        quorum = self.quorum
        lines = [_line("log", log.verifier.vkey, url=log.url) for log in self.logs]
        lines += [_line("witness", w.name, w.verifier.vkey, url=w.url) for w in quorum.witnesses]
        lines += [_line("group", g.name, str(g.threshold), *g.members) for g in quorum.groups]
        return [*lines, _line("quorum", quorum.required)]

    def encode(self) -> bytes:
        """Return the file."""
        return "".join(f"{line}\n" for line in self.lines()).encode("utf-8", "surrogateescape")


def parse_tlog_policy(data: bytes) -> TlogPolicy:
    """Read a policy file.

    Raises:
        PolicyError: `malformed-policy`; the detail names the line, counted from 1, and what is wrong there.
    """
    if len(data) > POLICY_BYTES_MAX:
        raise PolicyError("malformed-policy", f"more than {POLICY_BYTES_MAX} bytes")
    *lines, rest = data.split(b"\n")
    if rest:
        raise PolicyError(
            "malformed-policy", f"line {len(lines) + 1}: no newline at the end: was the file cut?"
        )
    draft = _Draft(TlogPolicy((), Quorum()), decided=False)
    for number, line in enumerate(lines, 1):
        try:
            draft = _read(draft, line)
        except (PolicyError, KeyTextError) as error:
            raise PolicyError("malformed-policy", f"line {number}: {error.detail}") from None
    if not draft.decided:
        raise PolicyError("malformed-policy", "no quorum line; 'quorum none' asks for no cosignature")
    return draft.policy


@dataclass(frozen=True, slots=True)
class _Draft:
    """The policy up to some line, and whether its quorum line has come."""

    policy: TlogPolicy
    decided: bool


def _read(draft: _Draft, line: bytes) -> _Draft:
    if (found := _NOT_ALLOWED.search(line)) is not None:
        raise PolicyError("malformed-policy", f"the octet {found[0][0]:#04x}, a control character")
    text = line.decode("utf-8", "surrogateescape").strip(" \t")
    if not text or text.startswith("#"):
        return draft
    keyword, *words = _SPACE.split(text)
    if (read := _KEYWORDS.get(keyword)) is None:
        raise PolicyError("malformed-policy", f"{keyword!r} is none of log, witness, group, quorum")
    return read(draft, words)


def _log(draft: _Draft, words: Sequence[str]) -> _Draft:
    vkey, url = _words(words, 1, "log VKEY [URL]")
    log = Log(NoteVerifier.from_vkey(_unicode(vkey)), url)
    return replace(draft, policy=replace(draft.policy, logs=(*draft.policy.logs, log)))


def _witness(draft: _Draft, words: Sequence[str]) -> _Draft:
    name, vkey, url = _words(words, 2, "witness NAME VKEY [URL]")
    witness = Witness(str(name), CosignatureVerifier.from_vkey(_unicode(vkey)), url)
    quorum = draft.policy.quorum
    return _with(draft, replace(quorum, witnesses=(*quorum.witnesses, witness)))


def _group(draft: _Draft, words: Sequence[str]) -> _Draft:
    if len(words) < 3:
        raise PolicyError("malformed-policy", "not 'group NAME any|all|NUMBER MEMBER…'")
    name, told, *members = words
    try:
        threshold = {"any": 1, "all": len(members)}.get(told) or int_of_decimal(told)
    except ValueError:
        raise PolicyError("malformed-policy", f"{told!r} is none of any, all and a number") from None
    quorum = draft.policy.quorum
    return _with(draft, replace(quorum, groups=(*quorum.groups, Group(name, threshold, tuple(members)))))


def _quorum(draft: _Draft, words: Sequence[str]) -> _Draft:
    if draft.decided:
        raise PolicyError("malformed-policy", "a second quorum line")
    if len(words) != 1:
        raise PolicyError("malformed-policy", f"not 'quorum NAME' or 'quorum {NO_WITNESS}'")
    return replace(_with(draft, replace(draft.policy.quorum, required=words[0])), decided=True)


_KEYWORDS: Mapping[str, Callable[[_Draft, Sequence[str]], _Draft]] = {
    "log": _log,
    "witness": _witness,
    "group": _group,
    "quorum": _quorum,
}


def _with(draft: _Draft, quorum: Quorum) -> _Draft:
    return replace(draft, policy=replace(draft.policy, quorum=quorum))


def _words(words: Sequence[str], needed: int, form: str) -> Sequence[str | None]:
    """Return the words that the form needs and its URL, None if there is none."""
    if not needed <= len(words) <= needed + 1:
        raise PolicyError("malformed-policy", f"not '{form}'")
    return [*words, None][: needed + 1]


def _unicode(vkey: str | None) -> str:
    """Return a key that is UTF-8, as key names are."""
    try:
        return (vkey or "").encode("utf-8").decode("utf-8")
    except UnicodeEncodeError:
        raise PolicyError("malformed-policy", "a key that is not UTF-8") from None


def _line(*words: str, url: str | None = None) -> str:
    if url is not None and not is_word(url):
        raise PolicyError("malformed-policy", f"{url!r} is not a URL")
    return " ".join([*words, *([] if url is None else [url])])
