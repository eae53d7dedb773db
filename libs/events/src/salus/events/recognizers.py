"""Compiles each event type, from its class, into the program by which `native/canonical_events.c` knows it.

A program is literals, runs of characters and few more kinds of steps, in the order in which an encoder writes
an event. It is never laxer than the class; where a class asks for something that no step can tell, its type
gets no program.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import starmap
from typing import Any, NamedTuple

from msgspec import inspect

from salus.events.bearer import JTI_PATTERN
from salus.events.envelope import Envelope
from salus.events.event_types import EventType
from salus.events.fields import PLAIN_PATTERN, Sealed, Sha256
from salus.events.requests import BODY_CHARS_MAX, PROOF_CHARS_MAX, Request


class Op(IntEnum):
    """The kinds of steps, as `canonical_events.c` numbers and explains them."""

    LITERAL = 0
    RUN = 1
    MARK = 2
    SAME = 3
    TIME = 4
    NUMBER = 5
    ONE_OF = 6
    OPTIONAL = 7
    LIST = 8
    TYPE = 9
    QUOTING = 10


class Mark(IntEnum):
    """The places in an event that are kept; from VALUE on stands what is to be the same as another part."""

    ID = 0
    ID_END = 1
    SOURCE = 2
    SOURCE_END = 3
    SUBJECT = 4
    SUBJECT_END = 5
    PROOF = 6
    PROOF_END = 7
    VALUE = 8


class Step(ctypes.Structure):
    """A step and what it needs to know."""

    _fields_ = (
        ("op", ctypes.c_uint32),
        ("a", ctypes.c_uint32),
        ("b", ctypes.c_uint32),
        ("c", ctypes.c_uint32),
    )


class NotCompilableError(Exception):
    """A class asks for something that no step can tell."""


class Piece(NamedTuple):
    """Some characters in a row: so many of `chars`, at least; `most` None says that there is no bound."""

    chars: frozenset[int]
    least: int
    most: int | None


# What an encoder does not escape, of ASCII. No run goes beyond it.
_PRINTABLE = frozenset(range(0x20, 0x7F)) - set(b'"\\')
# Its end is written as in a schema, or as in Python.
_PATTERN = re.compile(r"\^(.*)(?:\$|\\Z)")
_PIECE = re.compile(r"([\w:#-]+)|(\[[^\]]+\]|=)(?:([+*])|\{(\d+)(?:,(\d+))?\})?")
_CLASSES_MAX = 16


def pieces_of(pattern: str) -> list[str | Piece]:
    """Return what a pattern consists of: literals, and pieces.

    Raises:
        NotCompilableError: it has more in it than characters and classes with a count.
    """
    whole = _PATTERN.fullmatch(pattern)
    if whole is None or _PIECE.sub("", whole[1]):
        raise NotCompilableError(pattern)
    return list(starmap(_piece, _PIECE.findall(whole[1])))


def _piece(literal: str, chars: str, sign: str, least: str, most: str) -> str | Piece:
    if literal:
        return literal
    allowed = frozenset(code for code in _PRINTABLE if re.fullmatch(chars, chr(code)))
    if sign:
        return Piece(allowed, 1 if sign == "+" else 0, None)
    return Piece(allowed, int(least or 1), int(most or least or 1))


@dataclass
class Compiler:
    """Puts programs together; it keeps the literals and the classes of characters that steps name."""

    literals: bytearray = field(default_factory=bytearray)
    classes: list[frozenset[int]] = field(default_factory=list)

    def event(self, entry: EventType) -> list[Step]:
        """Return the program of a type: what follows its name in an event.

        Raises:
            NotCompilableError: a field of its data cannot be told.
        """
        return [
            *self.literal('","subject":"'),
            *self._marked(Mark.SUBJECT, self._attribute("subject")),
            *self.literal('","time":'),
            Step(Op.TIME, 1),
            *self.literal(f',"datacontenttype":"application/json","dataschema":"{entry.dataschema}","data":'),
            *self.struct(inspect.type_info(entry.data), repeats=entry.subject_field),
            *([*self.literal(',"expectedversion":'), Step(Op.NUMBER)] if entry.changes else []),
            *self.literal("}"),
        ]

    def opening(self) -> list[Step]:
        """Return the program of what is before the type's name in every event, and of that name."""
        return [
            *self.literal('{"specversion":"1.0","id":"'),
            *self._marked(Mark.ID, self._attribute("id")),
            *self.literal('","source":"'),
            *self._marked(Mark.SOURCE, self._attribute("source")),
            *self.literal('","type":"'),
            Step(Op.TYPE),
        ]

    def claims(self) -> list[Step]:
        """Return the program of a bearer's claims, `salus.events.bearer.Bearer`; `iss` is its SUBJECT."""
        words = Step(Op.RUN, self._class(_PRINTABLE), 0, PROOF_CHARS_MAX)
        (fresh,) = pieces_of(JTI_PATTERN)
        if isinstance(fresh, str) or fresh.most is None:
            raise NotCompilableError(JTI_PATTERN)
        text = [*self.literal('"'), words, *self.literal('"')]
        return [
            *self.literal('{"iss":"'),
            *self._marked(Mark.SUBJECT, [words]),
            *self.literal('","sub":"'),
            Step(Op.MARK, Mark.VALUE),
            words,
            Step(Op.SAME, Mark.VALUE, Mark.SUBJECT, Mark.SUBJECT_END),
            *self.literal('","aud":"'),
            words,
            *self.literal('","iat":'),
            Step(Op.NUMBER),
            *self.literal(',"exp":'),
            Step(Op.NUMBER),
            *self.literal(',"jti":"'),
            Step(Op.RUN, self._class(fresh.chars), fresh.least, fresh.most),
            *self.literal('"'),
            *self._optional(',"nbf":', [Step(Op.NUMBER)]),
            *self._optional(',"htm":', text),
            *self._optional(',"htu":', text),
            *self._optional(',"dig":', self.value(inspect.type_info(Sha256))),
            *self.literal("}"),
        ]

    def literal(self, text: str) -> list[Step]:
        """Return the step that takes this text."""
        encoded = text.encode("ascii")
        at = self.literals.find(encoded)
        if at < 0:
            at = len(self.literals)
            self.literals += encoded
        return [Step(Op.LITERAL, at, len(encoded))]

    def struct(self, info: inspect.Type, *, repeats: str | None = None) -> list[Step]:
        """Return the steps that take an object of a class; the field `repeats` is the subject once more."""
        # What a class of its own checks in Python is unknown here, but for what `Sealed` does: its pattern.
        if (
            not isinstance(info, inspect.StructType)
            or info.tag is not None
            or info.array_like
            or (hasattr(info.cls, "__post_init__") and info.cls is not Sealed)
        ):
            raise NotCompilableError(info)
        steps = self.literal("{")
        for index, each in enumerate(info.fields):
            name = f'{"," if index else ""}"{each.encode_name}":'
            value = self._field(info.cls, each, is_subject=each.name == repeats)
            if each.required:
                steps += [*self.literal(name), *value]
            elif index:
                steps += self._optional(name, value)
            else:
                raise NotCompilableError(each)
        return steps + self.literal("}")

    def _field(self, of: type, each: inspect.Field, *, is_subject: bool) -> list[Step]:
        if (of, each.name) == (Sealed, "key"):
            return self._key_of_subject(each.type)
        if (of, each.name) == (Request, "body"):
            # It is JSON as a rule, so there are quotation marks in it.
            return [Step(Op.QUOTING, self._class(_PRINTABLE), BODY_CHARS_MAX)]
        value = self.value(each.type, is_subject=is_subject)
        if (of, each.name) == (Request, "proof"):
            opening, *text, closing = value
            return [opening, *self._marked(Mark.PROOF, text), closing]
        return value

    def value(self, info: inspect.Type, *, is_subject: bool = False) -> list[Step]:  # noqa: PLR0911  # one per kind
        """Return the steps that take a value of this kind."""
        match info:
            case inspect.Metadata(type=inspect.StrType() as inner, extra_json_schema=extra):
                return self._quoted(inner, (extra or {}).get("pattern"), is_subject=is_subject)
            case inspect.Metadata(type=inner):
                return self.value(inner)
            case inspect.StrType():
                return self._quoted(info, None, is_subject=is_subject)
            case inspect.LiteralType(values=values) if _PRINTABLE.issuperset(
                "".join(map(str, values)).encode()
            ):
                return self._one_of([f'"{value}"' for value in values])
            case inspect.BoolType():
                return self._one_of(["true", "false"])
            case inspect.DateTimeType(tz=True):
                return [Step(Op.TIME, 0)]
            case inspect.IntType(gt=None, ge=0, lt=None, le=int(most), multiple_of=None) if most >= 10**15:
                return [Step(Op.NUMBER)]
            case inspect.UnionType(types=types):
                kinds = [kind for kind in types if not isinstance(kind, inspect.NoneType)]
                return self.value(*kinds) if len(kinds) == 1 else _refuse(info)
            case inspect.VarTupleType(item_type=item, max_length=int(most)):
                body = self.value(item)
                return [Step(Op.LIST, info.min_length or 0, most, len(body)), *body]
        return self.struct(info)

    def _quoted(self, info: inspect.StrType, pattern: str | None, *, is_subject: bool) -> list[Step]:
        if pattern is not None and info.pattern is not None:
            raise NotCompilableError(info)
        text = self._text(pieces_of(pattern or info.pattern or PLAIN_PATTERN), info)
        if is_subject:
            same = Step(Op.SAME, Mark.VALUE, Mark.SUBJECT, Mark.SUBJECT_END)
            text = [Step(Op.MARK, Mark.VALUE), *text, same]
        return [*self.literal('"'), *text, *self.literal('"')]

    def _key_of_subject(self, info: inspect.Type) -> list[Step]:
        """Return the steps of the id of a key of the subject: the subject itself, and what names the key."""
        opening, *text, closing = self.value(info)
        at = next(place for place, step in enumerate(text) if self._takes(step, "#"))
        same = Step(Op.SAME, Mark.VALUE, Mark.SUBJECT, Mark.SUBJECT_END)
        return [opening, Step(Op.MARK, Mark.VALUE), *text[:at], same, *text[at:], closing]

    def _takes(self, step: Step, literal: str) -> bool:
        return step.op == Op.LITERAL and self.literals[step.a : step.a + step.b] == literal.encode()

    def _text(self, pieces: list[str | Piece], info: inspect.StrType) -> list[Step]:
        """Return the steps of a text; what its pieces may be long in all is shared out among them."""
        runs = [piece for piece in pieces if isinstance(piece, Piece)]
        shared = sum(run.most is None for run in runs)
        fixed = sum(len(piece) for piece in pieces if isinstance(piece, str))
        if info.max_length is None:
            raise NotCompilableError(info)
        room = info.max_length - fixed - sum(run.most or 0 for run in runs)
        least = info.min_length or 0
        # What its pieces leave open of the least length, the one without a bound has to have.
        open_ = max(0, least - fixed - sum(run.least for run in runs))
        if room < 0 or (len(pieces) > 1 and open_ and shared != 1):
            raise NotCompilableError(info)
        steps = []
        for piece in pieces:
            if isinstance(piece, str):
                steps += self.literal(piece)
            else:
                fewest = piece.least + (open_ if len(pieces) == 1 or piece.most is None else 0)
                most = room // shared if piece.most is None else piece.most
                steps.append(Step(Op.RUN, self._class(piece.chars), fewest, most))
        return steps

    def classes_of_bytes(self) -> list[int]:
        """Return, for each byte, a bit for each class that it belongs to."""
        return [sum(1 << i for i, chars in enumerate(self.classes) if byte in chars) for byte in range(256)]

    def _class(self, chars: frozenset[int]) -> int:
        if chars not in self.classes:
            if len(self.classes) == _CLASSES_MAX:
                raise NotCompilableError(chars)
            self.classes.append(chars)
        return self.classes.index(chars)

    def _attribute(self, name: str) -> list[Step]:
        """Return the steps of an attribute's text, without its quotes."""
        (info,) = (each for each in inspect.type_info(Envelope).fields if each.name == name)  # type: ignore[attr-defined]
        return self.value(info.type)[1:-1]

    def _one_of(self, texts: Iterable[str]) -> list[Step]:
        choices = [step for text in texts for step in self.literal(text)]
        return [Step(Op.ONE_OF, 0, len(choices)), *choices]

    def _optional(self, name: str, value: list[Step]) -> list[Step]:
        (literal,) = self.literal(name)
        return [Step(Op.OPTIONAL, literal.a, literal.b, len(value)), *value]

    @staticmethod
    def _marked(begin: Mark, steps: list[Step]) -> list[Step]:
        return [Step(Op.MARK, begin), *steps, Step(Op.MARK, begin + 1)]


def _refuse(info: Any) -> Any:
    raise NotCompilableError(info)
