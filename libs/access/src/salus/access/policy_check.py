"""Whether a policy set can be used, and if not, what is wrong: file, policy, line and column of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice, pairwise

import cedarpy

from salus.access.cedar import HUMAN, NAME_RULE, CedarPolicies, is_name
from salus.access.decisions import WORDS
from salus.access.law import LAW_REASONS
from salus.access.parsed_policies import PolicySetError, parsed
from salus.access.policy_files import POLICIES_SUFFIX, SCHEMA_SUFFIX
from salus.access.policy_texts import POLICIES_MAX, Place, PolicyText, excess_of, policies_in
from salus.events.contexts.consent import POLICY_CHARS_MAX, POLICY_FILES_MAX

# An event of 1 MiB holds it, with every line end written as two characters.
POLICY_BYTES_MAX = POLICY_CHARS_MAX
PROBLEMS_MAX = 32
# Where a parser may have stopped: it is tried with what stands before.
PLACES_TRIED_MAX = 16
_INCOMPLETE = "unexpected end of input"
_UNEXPECTED = "unexpected token `"
# What Cedar's own signs are made of.
_SIGNS = frozenset("@(){}[]<>=!&|+-*/.,:;?")
_NUMBERED = re.compile(r"\[?policy(\d+)\]? ?")
_FOR_POLICY = re.compile(r"^for policy `policy\d+`, ")
_QUOTED = re.compile(r"`([A-Za-z_]\w*)`")
# Whoever reads a file sees what Cedar reads: but for tabs and line ends it has no control character (C0, C1),
# nothing that turns the direction of what follows, and nothing that some readers alone take for a line end.
_ODD = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]|\\r(?!\\n)"
)
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*[.](cedar|cedarschema)")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a policy set, and where; `policy` is the @id of the policy, if it has one."""

    why: str
    place: Place | None = None
    policy: str | None = None

    def __str__(self) -> str:
        """Return one line: the place, the policy, the sentence."""
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.policy + ': ' if self.policy else ''}{self.why}"


def known_schemas() -> tuple[bytes, ...]:
    """Return the schemas that this release fills: a policy set has one of them, to the byte.

    A release that knows more of a patient adds a schema, and goes on filling those that policy sets in force
    have.
    """
    return (files("salus.access").joinpath("policies", "salus.cedarschema").read_bytes(),)


def problems_of(contents: Mapping[str, bytes]) -> list[Problem]:
    """Return what is wrong with the files of a policy set, at most PROBLEMS_MAX; none: it can be used."""
    found = _checked(contents)
    return [] if isinstance(found, CedarPolicies) else found[:PROBLEMS_MAX]


def usable(contents: Mapping[str, bytes]) -> CedarPolicies:
    """Return the policy set of these files; raises PolicySetError with all that is wrong with them."""
    found = _checked(contents)
    if isinstance(found, CedarPolicies):
        return found
    raise PolicySetError("; ".join(map(str, found[:PROBLEMS_MAX])))


def _checked(contents: Mapping[str, bytes]) -> CedarPolicies | list[Problem]:
    """Return the policy set, or what is wrong with it."""
    if found := [*_problems_of_files(contents)]:
        return found
    schema = next(data for name, data in contents.items() if name.endswith(SCHEMA_SUFFIX))
    policies = policies_of(contents)
    if found := [*_problems_of_texts(policies)]:
        return found
    faults = (problem for policy in policies if (problem := _syntax_problem(policy)) is not None)
    if found := [*islice(faults, PROBLEMS_MAX)]:
        return found
    found = [*_problems_of_ids(policies), *_problems_of_reviews(policies)]
    if found := [*found, *_validation_problems(policies, schema.decode())]:
        return found
    try:
        return CedarPolicies(contents)
    except PolicySetError as error:
        return [Problem(str(error))]


def policies_of(contents: Mapping[str, bytes]) -> list[PolicyText]:
    """Return the policies of a set in the order in which the engine numbers them; the files are UTF-8."""
    return [
        policy
        for name in sorted(contents)
        if name.endswith(POLICIES_SUFFIX)
        for policy in policies_in(name, contents[name].decode())
    ]


def _problems_of_files(contents: Mapping[str, bytes]) -> Iterator[Problem]:
    for name, data in contents.items():
        if _FILE_NAME.fullmatch(name) is None:
            why = "is not a file's name: small letters and digits, then .cedar or .cedarschema"
            yield Problem(f"{name!r} {why}")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            yield Problem("the file is not UTF-8", Place(name, data.count(b"\n", 0, error.start) + 1, 1))
        else:
            if (odd := _ODD.search(text)) is not None:
                line = text.count("\n", 0, odd.start()) + 1
                why = f"the file holds the character U+{ord(odd.group()):04X}, which editors do not show"
                yield Problem(why, Place(name, line, 1))
    size = sum(map(len, contents.values()))
    if size > POLICY_BYTES_MAX:
        yield Problem(f"the files have {size} bytes together, at most {POLICY_BYTES_MAX}")
    if len(contents) > POLICY_FILES_MAX:
        yield Problem(f"there are {len(contents)} files, at most {POLICY_FILES_MAX}")
    schemas = [name for name in sorted(contents) if name.endswith(SCHEMA_SUFFIX)]
    if len(schemas) != 1:
        yield Problem(f"a policy set has one *.cedarschema, this one has {len(schemas)}")
    elif contents[schemas[0]] not in known_schemas():
        why = "this is not a schema that this release fills; take the release's as it is"
        yield Problem(why, Place(schemas[0], 1, 1))


def _problems_of_texts(policies: Sequence[PolicyText]) -> Iterator[Problem]:
    if not policies:
        yield Problem("there is no policy in the *.cedar files")
    if len(policies) > POLICIES_MAX:
        yield Problem(f"there are {len(policies)} policies, at most {POLICIES_MAX}")
        return
    for policy in policies:
        excess = excess_of(policy)
        if excess is not None:
            yield Problem(excess[0], excess[1], policy.id)


def _problems_of_ids(policies: Sequence[PolicyText]) -> Iterator[Problem]:
    named = [(policy, _id_of(policy)) for policy in policies]
    ids = Counter(name for _, name in named)
    for policy, name in named:
        if not name:
            yield Problem("the policy has no @id; reasons could not name it", policy.place())
        elif name in LAW_REASONS or name in WORDS:
            yield Problem("this @id is the law's, which no policy changes", policy.place(), name)
        elif not is_name(name):
            yield Problem(f"the @id is no name: {NAME_RULE}", policy.place(), name[:64])
        elif ids[name] > 1:
            yield Problem("two policies have this @id", policy.place(), name)


def _problems_of_reviews(policies: Sequence[PolicyText]) -> Iterator[Problem]:
    """Yield each @review that would go unread; a set that was in force before it was read goes on."""
    for policy in policies:
        read = parsed(policy)
        review = read.annotations.get("review")
        breaks_glass = read.annotations.get("break_glass") == "yes"
        if review not in {None, HUMAN} or (review and (breaks_glass or not read.permits)):
            yield Problem('@review is "human", of a permit that breaks no glass', policy.place(), read.id)


def _id_of(policy: PolicyText) -> str | None:
    """Return what Cedar reads as the policy's @id, which may be written with escapes."""
    return parsed(policy).id


def _syntax_problem(policy: PolicyText) -> Problem | None:
    """Return where the parser stops: it names what it did not expect, and not where that is."""
    try:
        parsed(policy)
    except PolicySetError as error:
        why = str(error)
    else:
        return None
    if why == _INCOMPLETE:
        return Problem(why, policy.place(policy.end), policy.id)
    begin, is_named = policy.tokens[0].offset, why.startswith(_UNEXPECTED)
    named = why.removeprefix(_UNEXPECTED).removesuffix("`")
    tried = (token for token in policy.tokens if (token.text == named if is_named else not _fits(token.text)))
    # What was read up to a token that does not fit is refused like the whole, however it goes on.
    for token in islice(tried, PLACES_TRIED_MAX):
        until = token.offset + len(token.text)
        if _refusal(policy.source[begin:until] + " ;") == why:
            return Problem(why, policy.place(token.offset), policy.id)
    return Problem(why, policy.place(), policy.id)


def _fits(token: str) -> bool:
    """Tell whether a token may be one of Cedar's."""
    is_text = token[0] == '"' and len(token) > 1 and token[-1] == '"'
    return is_text or token in _SIGNS or token.replace("_", "").isalnum()


def _refusal(text: str) -> str | None:
    """Return why the engine does not parse a text, None if it does."""
    try:
        cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        return str(error)
    return None


def _validation_problems(policies: Sequence[PolicyText], schema: str) -> Iterator[Problem]:
    # One line end between files, so that a comment at the end of one does not swallow the next.
    checked = cedarpy.validate_policies("\n".join(policy.text for policy in policies), schema)
    seen = set()
    for error in sorted(map(str, checked.errors)):
        number = _NUMBERED.match(error)
        why = _FOR_POLICY.sub("", _NUMBERED.sub("", error, count=1))
        policy = policies[int(number.group(1))] if number else None
        # The validator says it once for each action.
        kind = policy, why.replace('Salus::Action::"write"', 'Salus::Action::"read"')
        if kind not in seen:
            seen.add(kind)
            yield Problem(why, _place_of(policy, why), policy.id if policy else None)


def _place_of(policy: PolicyText | None, why: str) -> Place | None:
    """Return where the first name that a sentence quotes stands in the policy, or where the policy begins."""
    if policy is None:
        return None
    for name in _QUOTED.findall(why):
        for before, token in pairwise(policy.tokens):
            if token.text.strip('"') == name and before.text in {".", "has"}:
                return policy.place(token.offset)
    return policy.place()
