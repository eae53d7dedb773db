"""Where policies begin and end in a text of Cedar, and which texts are not given to the engine at all. Pure.

Cedar's parser descends by calls: a text of a few thousand brackets within each other ends the process. Its
validator passes over what is too deep for it. So each policy is looked at first, by its tokens alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The base policies have 5 levels, 3 dots in a row and 200 tokens; Cedar's parser fails at a thousand levels.
LEVELS_MAX = 32
CONDITIONALS_MAX = 32
TOKENS_MAX = 2000
POLICIES_MAX = 2000
# Cedar ends a comment and a line at either.
_LINE_END = re.compile(r"[\r\n]")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file of policies; lines and columns begin with 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return it as editors read it."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Token:
    """A word, text or sign of a policy, and where it begins in its file."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One policy as it is written, with its tokens; `id` is what @id says, if it says something."""

    file: str
    source: str
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """The policy's own text."""
        return self.source[self.tokens[0].offset : self.end]

    @property
    def end(self) -> int:
        """Where the policy ends in its file."""
        return self.tokens[-1].offset + len(self.tokens[-1].text)

    @property
    def id(self) -> str | None:
        """What its first @id says."""
        words = [token.text for token in self.tokens]
        for at in range(len(words) - 4):
            if words[at : at + 3] == ["@", "id", "("] and words[at + 4] == ")" and words[at + 3][0] == '"':
                return words[at + 3][1:-1]
        return None

    def place(self, offset: int | None = None) -> Place:
        """Return where an offset of the file is; by default where the policy begins."""
        at = self.tokens[0].offset if offset is None else offset
        line = self.source.count("\n", 0, at)
        return Place(self.file, line + 1, at - (self.source.rfind("\n", 0, at) + 1) + 1)


def policies_in(file: str, source: str) -> Iterator[PolicyText]:
    """Yield the policies of a file; what follows the last semicolon is one more, if it is anything."""
    tokens: list[Token] = []
    level = 0
    for token in tokens_in(source):
        tokens.append(token)
        level += (token.text in _OPENING) - (token.text in _CLOSING)
        if token.text == ";" and level <= 0:
            yield PolicyText(file, source, tuple(tokens))
            tokens, level = [], 0
    if tokens:
        yield PolicyText(file, source, tuple(tokens))


def tokens_in(source: str) -> Iterator[Token]:
    """Yield the words, texts and signs of a source, in one pass over it; comments and blanks are none."""
    at, end = 0, len(source)
    while at < end:
        begin, sign = at, source[at]
        if source.startswith("//", at):
            ending = _LINE_END.search(source, at)
            at = ending.end() if ending else end
            continue
        at += 1
        if sign.isspace():
            continue
        if sign == '"':
            at = _end_of_text(source, at)
        elif sign == "_" or sign.isalnum():
            while at < end and (source[at] == "_" or source[at].isalnum()):
                at += 1
        yield Token(source[begin:at], begin)


def _end_of_text(source: str, at: int) -> int:
    """Return where a text ends that begins before `at`; one without an end takes the rest."""
    while at < len(source):
        if source[at] == '"':
            return at + 1
        at += 2 if source[at] == "\\" else 1
    return len(source)


def excess_of(policy: PolicyText) -> tuple[str, Place] | None:
    """Return what in a policy is more than the engine is given, and where; None if nothing is."""
    level = conditionals = 0
    for number, token in enumerate(policy.tokens, start=1):
        level += (token.text in _OPENING) - (token.text in _CLOSING)
        conditionals += token.text == "if"
        if level > LEVELS_MAX:
            return f"more than {LEVELS_MAX} brackets within each other", policy.place(token.offset)
        if conditionals > CONDITIONALS_MAX:
            return f"more than {CONDITIONALS_MAX} conditionals in a policy", policy.place(token.offset)
        if number > TOKENS_MAX:
            return f"more than {TOKENS_MAX} tokens in a policy", policy.place(token.offset)
    return None
