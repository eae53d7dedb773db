"""Cedar through cedarpy: policies are checked against their schema when loaded, fail closed when asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import cedarpy

from salus.access.decisions import TOKEN_SECONDS, WORDS, Inputs, Rule, Verdict
from salus.access.grant_use import misused_grants
from salus.access.known_verdicts import VERDICTS_KEPT_MAX, KnownVerdicts
from salus.access.law import LAW_REASONS
from salus.access.parsed_policies import ParsedPolicy, PolicySetError, parsed, policy_set_of
from salus.access.policy_files import POLICIES_SUFFIX, SCHEMA_SUFFIX, digest_of
from salus.access.policy_slices import PolicySlices
from salus.access.policy_texts import excess_of, policies_in

VALID_SECONDS_MAX = 900
# An event takes 64 of them, and the law adds its own.
OBLIGATIONS_MAX = 32
REASON_CHARS_MAX = 500
NAME_RULE = "letters, digits and - . _, at most 64"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ENGINE = f"cedarpy {version('cedarpy')}"
"""What evaluates policies: events that state a policy set name it."""


@dataclass(frozen=True)
class CedarAnswer:
    """Cedar's own answer, before anything is closed: the ids of the determining policies, and errors."""

    allowed: bool
    determining: tuple[str, ...]
    errors: tuple[str, ...]


# What @review says of a policy that leaves to a person what it permits.
HUMAN = "human"


class CedarEngine:
    """A parsed policy set with its schema; evaluates, and adds nothing to what Cedar says."""

    def __init__(self, policies: str, schema: str | None) -> None:
        """Parse both.

        Raises:
            PolicySetError: they do not parse.
        """
        try:
            self._policies = cedarpy.PolicySet.from_str(policies)
            self._schema = cedarpy.Schema.from_str(schema) if schema is not None else None
        except ValueError as error:
            raise PolicySetError(str(error)) from error

    def ask(self, inputs: Inputs, policies: cedarpy.PolicySet | None = None) -> CedarAnswer:
        """Evaluate one request by all policies, or by these of them.

        One that does not fit the schema is an error and no decision.
        """
        request = {
            "principal": inputs.principal,
            "action": inputs.action,
            "resource": inputs.resource,
            "context": inputs.context,
        }
        entities = inputs.encoded_entities.decode()
        try:
            result = cedarpy.is_authorized(request, policies or self._policies, entities, self._schema)
        except Exception as error:  # noqa: BLE001  # whatever fails inside the engine is a denial
            return CedarAnswer(allowed=False, determining=(), errors=(type(error).__name__,))
        diagnostics = result.diagnostics
        errors = tuple(diagnostics.errors)
        if result.decision is cedarpy.Decision.NoDecision:
            errors = errors or ("no decision",)
        return CedarAnswer(result.allowed, tuple(diagnostics.reasons), errors)


class CedarPolicies:
    """The policy set in force: deny by default, and deny when anything at all went wrong."""

    def __init__(self, files: Mapping[str, bytes], *, verdicts_kept_max: int = VERDICTS_KEPT_MAX) -> None:
        """Take the files of a policy folder by name: `*.cedar`, and one `*.cedarschema`.

        Raises:
            PolicySetError: they do not parse, are more than the engine is given, do not fit the schema, or
                lack a unique @id each.
        """
        schemas = [_text(files[name]) for name in sorted(files) if name.endswith(SCHEMA_SUFFIX)]
        policies = _policies_of(files)
        if len(schemas) != 1 or not policies:
            raise PolicySetError("a policy folder holds *.cedar files and exactly one *.cedarschema")
        text = "\n".join(policy.text for policy in policies.values())
        self._engine = CedarEngine(text, schemas[0])
        checked = cedarpy.validate_policies(text, schemas[0])
        if not checked.validation_passed:
            raise PolicySetError("; ".join(str(error) for error in checked.errors))
        self._rules = _rules(policies)
        self._words = {**WORDS, **LAW_REASONS, **{rule.id: rule.reason for rule in self._rules.values()}}
        self._slices = _slices(policies)
        nodes = [policy.node for policy in policies.values()]
        self._known = KnownVerdicts(nodes, kept_max=verdicts_kept_max)
        self.digest = digest_of(files)

    def evaluate(self, inputs: Inputs) -> Verdict:
        """Return the verdict; one failing policy is an error even if others could decide."""
        try:
            key = self._known.key(inputs)
            if (known := self._known.get(key)) is not None:
                return known
            slice_ = self._slices.of(inputs)
        except Exception as error:  # noqa: BLE001  # whatever fails before the engine is a denial, too
            return Verdict(allowed=False, errors=(type(error).__name__,))
        verdict = self._asked(inputs, slice_)
        self._known.keep(key, verdict)
        return verdict

    def _asked(self, inputs: Inputs, slice_: cedarpy.PolicySet | None) -> Verdict:
        answer = self._engine.ask(inputs, slice_)
        known = tuple(self._rules[name] for name in answer.determining if name in self._rules)
        if answer.errors or len(known) != len(answer.determining):
            return Verdict(allowed=False, errors=answer.errors or ("a determining policy has no @id",))
        return Verdict(allowed=answer.allowed, rules=known)

    def words(self, reasons: Iterable[str]) -> tuple[str, ...]:
        """Return what a person is told of reasons, one sentence for each."""
        return tuple(self._words.get(reason) or _unexplained(reason) for reason in reasons)


def _policies_of(files: Mapping[str, bytes]) -> dict[str, ParsedPolicy]:
    """Return the policies by the names that the engine gives them."""
    found: dict[str, ParsedPolicy] = {}
    for name in sorted(files):
        if not name.endswith(POLICIES_SUFFIX):
            continue
        for policy in policies_in(name, _text(files[name])):
            if (excess := excess_of(policy)) is not None:
                raise PolicySetError(excess[0])
            found[f"policy{len(found)}"] = parsed(policy)
    return found


def _slices(policies: Mapping[str, ParsedPolicy]) -> PolicySlices:
    nodes = {name: policy.node for name, policy in policies.items()}
    try:
        policy_set_of(nodes)
    except ValueError as error:
        raise PolicySetError(str(error)) from error
    return PolicySlices(nodes)


def _rules(policies: Mapping[str, ParsedPolicy]) -> dict[str, Rule]:
    """Return the rules by the names that the engine gives them."""
    rules = {name: _rule(name, policy) for name, policy in policies.items()}
    names = [rule.id for rule in rules.values()]
    if len(set(names)) != len(names):
        raise PolicySetError(f"two policies share an @id among {sorted(names)}")
    obligations = {each for rule in rules.values() for each in rule.obligations}
    if len(obligations) > OBLIGATIONS_MAX:
        raise PolicySetError(f"there are {len(obligations)} @obligations, at most {OBLIGATIONS_MAX}")
    return rules


def is_name(text: str) -> bool:
    """Tell whether an @id or an obligation is so written that events and people can name it."""
    return _NAME.fullmatch(text) is not None


def _rule(name: str, policy: ParsedPolicy) -> Rule:
    annotations, identifier = policy.annotations, policy.id
    if not identifier:
        raise PolicySetError(f"{name} has no @id; reasons could not name it")
    seconds = annotations.get("valid_seconds") or str(TOKEN_SECONDS)
    if not seconds.isascii() or not seconds.isdigit() or not 1 <= int(seconds) <= VALID_SECONDS_MAX:
        raise PolicySetError(f"{identifier}: @valid_seconds is 1 to {VALID_SECONDS_MAX}")
    reason, obligations = annotations.get("reason") or "", (annotations.get("obligations") or "").split()
    if len(reason) > REASON_CHARS_MAX:
        raise PolicySetError(f"{identifier}: @reason has more than {REASON_CHARS_MAX} characters")
    if odd := [word for word in obligations if not is_name(word)]:
        raise PolicySetError(f"{identifier}: @obligations: {odd[0]!r} is none: {NAME_RULE}")
    if (misused := misused_grants(policy.node)) is not None:
        raise PolicySetError(f"{identifier}: {misused}")
    return Rule(
        id=identifier,
        reason=reason or _unexplained(identifier),
        obligations=tuple(obligations),
        valid_seconds=int(seconds),
        breaks_glass=annotations.get("break_glass") == "yes",
        needs_person=annotations.get("review") == HUMAN,
    )


def _unexplained(policy: str) -> str:
    return f"The policy {policy} says so."


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicySetError("a policy file is not UTF-8") from error
