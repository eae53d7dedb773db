"""What is wrong with a policy set is named by its place; what would end the engine's process stays out."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import cedarpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from salus.access.cedar import CedarPolicies
from salus.access.law import LAW_REASONS
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_check import POLICY_BYTES_MAX, problems_of, usable
from salus.access.policy_files import read_policies
from salus.access.policy_texts import LEVELS_MAX, POLICIES_MAX, TOKENS_MAX, policies_in, tokens_in

RELEASED = read_policies(files("salus.access").joinpath("policies"))
SCHEMA = {name: data for name, data in RELEASED.items() if name.endswith("schema")}
PERMIT = '@id("a") permit (principal, action, resource)'


def problems(text: str | bytes, **more: bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in problems_of({"a.cedar": data, **SCHEMA, **more})]


def test_the_release_has_no_problem() -> None:
    assert problems_of(RELEASED) == []
    assert usable(RELEASED).digest


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"{PERMIT}\nwhen {{ context.typo }};", "a.cedar:2:16: a: attribute `typo` in context for"),
        ("permit (principal", "a.cedar:1:18: unexpected end of input"),
        (
            f'{PERMIT};\n\n@id("b") permit (principal, action == , resource);',
            "a.cedar:3:39: b: unexpected token `,`",
        ),
        ("permit (principal, action, resource);", "a.cedar:1:1: the policy has no @id"),
        (f"{PERMIT};\n{PERMIT};", "a.cedar:1:1: a: two policies have this @id"),
        (f"{PERMIT};;", "a.cedar:1:47: unexpected token `;`"),
        (f'{PERMIT} when {{"x" == "no end }};', "a.cedar:1:60: a: invalid token"),
        ('@id("a") permit (principal == ?principal, action, resource);', "a.cedar:1:1: a: policy templates"),
        (
            '@id("a") @valid_seconds("901") permit (principal, action, resource);',
            "@valid_seconds is 1 to 900",
        ),
        ("", "there is no policy in the *.cedar files"),
        (b"\xff", "a.cedar:1:1: the file is not UTF-8"),
        # An event could not say who decided.
        (f'@id("{"a" * 65}") permit (principal, action, resource);', "the @id is no name"),
        ('@id("a\\nb") permit (principal, action, resource);', "the @id is no name"),
        ('@id("policy-error") permit (principal, action, resource);', "this @id is the law's"),
        (f'@obligations("{"a" * 65}") {PERMIT};', "a: @obligations: "),
        (f'@obligations("{" ".join(f"o{n}" for n in range(33))}") {PERMIT};', "33 @obligations, at most 32"),
        (f'@reason("{"a" * 501}") {PERMIT};', "a: @reason has more than 500 characters"),
        # Cedar ends a comment at a carriage return too: what stands behind it hid in a line of comment.
        (f"{PERMIT};\n// a remark\r{PERMIT};", "a.cedar:2:1: the file holds the character U+000D"),
        (f"{PERMIT};\n// \u202e", "a.cedar:2:1: the file holds the character U+202E"),
        (
            '@id("patient\\u{2d}reads-own") permit (principal, action, resource);',
            "a.cedar:1:1: patient-reads-own: this @id is the law's",
        ),
        (f"{PERMIT};\n// \0", "a.cedar:2:1: the file holds the character U+0000"),
        ("// " + "x" * POLICY_BYTES_MAX, f"bytes together, at most {POLICY_BYTES_MAX}"),
        (f"{PERMIT};" * (POLICIES_MAX + 1), f"at most {POLICIES_MAX}"),
    ],
)
def test_each_problem_has_its_place(text: str | bytes, named: str) -> None:
    assert named in problems(text)[0]


@pytest.mark.parametrize("reason", sorted(LAW_REASONS))
def test_no_policy_speaks_in_the_name_of_the_law(reason: str) -> None:
    (found,) = problems(PERMIT.replace('"a"', f'"{reason}"') + ";")

    assert found == f"a.cedar:1:1: {reason}: this @id is the law's, which no policy changes"


def test_a_schema_that_this_release_does_not_fill_is_refused() -> None:
    (name,) = SCHEMA
    (found,) = problems(f"{PERMIT};", **{name: SCHEMA[name] + b"\n"})

    assert found.startswith(f"{name}:1:1: this is not a schema that this release fills")
    assert "one *.cedarschema, this one has 2" in problems(f"{PERMIT};", **{"b.cedarschema": b""})[0]
    assert "is not a file's name" in problems(f"{PERMIT};", **{"../a.cedar": b""})[0]


# Of few enough tokens, but for the last: the levels are what is refused.
NESTED = {
    "brackets": "(" * 900 + "true" + ")" * 900,
    "sets": "[" * 900 + "1" + "]" * 900 + " == 1",
    "records": "{a:" * 400 + "1" + "}" * 400 + " == 1",
    "conditionals": "if true then true else " * 300 + "true",
    "attributes": "context" + ".a" * 9000,
}


@pytest.mark.parametrize("kind", sorted(NESTED))
def test_what_is_too_deep_never_reaches_the_engine(kind: str) -> None:
    """Cedar's parser ends the process at some thousand levels; its validator passes what it gives up on."""
    text = f"{PERMIT} when {{ {NESTED[kind]} }};"

    assert ("tokens in a policy" in problems(text)[0]) is (kind == "attributes")
    assert "more than" in problems(text)[0]
    with pytest.raises(PolicySetError):
        usable({"a.cedar": text.encode(), **SCHEMA})


@pytest.mark.parametrize(("opening", "closing"), ["()", "[]"])
def test_what_is_let_through_does_not_end_the_process(opening: str, closing: str) -> None:
    levels = LEVELS_MAX - 2
    text = f'{PERMIT} when {{ {opening * levels}"x"{closing * levels} == "x" }};'
    program = (
        "import sys; from salus.access.policy_check import problems_of; "
        "from salus.access.policy_files import read_policies; from importlib.resources import files; "
        "s = read_policies(files('salus.access').joinpath('policies')); "
        "n = next(x for x in s if x.endswith('schema')); "
        "problems_of({'a.cedar': sys.stdin.read().encode(), n: s[n]})"
    )
    done = subprocess.run([sys.executable, "-c", program], input=text.encode(), check=False)

    assert done.returncode == 0


CHAINS = {
    "or": " || ".join(["true"] * 600),
    "sums": " + ".join(["1"] * 900) + " == 1",
    "attributes": "context" + ".a" * 950,
    "negations": "!" * 900 + "true",
}


@pytest.mark.parametrize("kind", sorted(CHAINS))
def test_what_the_engine_cannot_evaluate_later_is_refused_now(kind: str) -> None:
    """Policies are picked in Cedar's JSON, which goes less deep than texts: such sets answered nothing."""
    text = f"{PERMIT} when {{ {CHAINS[kind]} }};"

    assert problems(text)
    with pytest.raises(PolicySetError):
        CedarPolicies({"a.cedar": text.encode(), **SCHEMA})


FRAGMENTS = [f"{PERMIT};", "// a remark", "permit (principal, action, resource)", "when { true", '@id("b")']
SIGNS = ["\n", "\r\n", "\r", " ", "}", ";", '"', "\\", "(", "\t", "\x85", "\u2028"]


@example(text=f"// a remark\r{PERMIT};")
@given(text=st.lists(st.sampled_from([*FRAGMENTS, *SIGNS]), max_size=12).map("".join))
def test_cedar_sees_the_policies_that_we_see(text: str) -> None:
    try:
        seen = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    except ValueError:
        return

    assert len(seen) == len(list(policies_in("a.cedar", text)))


def test_long_chains_are_bounded() -> None:
    assert "tokens in a policy" in problems(f"{PERMIT} when {{ true{' && true' * TOKENS_MAX} }};")[0]


def test_brackets_in_texts_and_comments_do_not_count() -> None:
    text = f'{PERMIT} when {{ context.purpose == "{"(" * 99}" }}; // {"(" * 99}\n'

    assert problems(text) == []


@given(text=st.text(alphabet='ab@id(){}[]";,.:/\\\n ?=&', max_size=200))
def test_the_policies_of_a_text_are_the_text(text: str) -> None:
    """Nothing but blanks and comments stands between them, and each begins where it says."""
    found = list(policies_in("a.cedar", text))
    for policy in found:
        place = policy.place()

        assert text.split("\n")[place.line - 1][place.column - 1 :].startswith(policy.tokens[0].text[:1])
        assert policy.text in text
    assert sum(len(policy.tokens) for policy in found) == len([t for p in found for t in p.tokens])


def test_a_text_without_an_end_is_read_once() -> None:
    """Each quotation mark of it could begin a text that is looked for to the end of the file."""
    found = list(tokens_in('"' + '\\"' * 100_000))

    assert len(found) == 1


@given(text=st.text(max_size=60))
def test_any_text_is_judged_without_a_failure(text: str) -> None:
    for written in (text, f"{PERMIT} when {{ {text} }};"):
        data = written.encode("utf-8", "replace")

        assert isinstance(problems_of({"a.cedar": data, **SCHEMA}), list)
