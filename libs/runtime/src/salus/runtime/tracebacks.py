"""How an error is written into a log: where it came from and of which kinds it is, without others' messages.

A message of a library may quote a value, as pydantic's and SQLAlchemy's do, and a value may be somebody's
data. Messages of this project's own errors quote none, and those of the system are known by their number.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

OWN_PACKAGE = "salus."
# Longer chains are cut off at their beginning.
CHAIN_MAX = 8


def described(error: BaseException) -> str:
    """Return the traceback of an error and of what led to it, the first cause first."""
    return "\nwhich led to\n".join(_one(each) for each in reversed(list(_chain(error))))


def _one(error: BaseException) -> str:
    lines = "".join(traceback.format_tb(error.__traceback__))
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    message = _message(error)
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    inner = "".join(f"\nin the group:\n{described(each)}" for each in grouped)
    return f"{lines}{kind}{': ' if message else ''}{message}{inner}"


def _message(error: BaseException) -> str:
    if type(error).__module__.startswith(OWN_PACKAGE):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or ""
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, what caused it, what caused that, and so on."""
    each: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if each is None:
            return
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
