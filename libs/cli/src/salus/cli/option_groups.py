"""Options that many commands have in common: declared once, and given to a command as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, get_type_hints

Value = TypeVar("Value")
Result = TypeVar("Result")
Own = ParamSpec("Own")


def option_group(
    make: Callable[..., Value],
) -> Callable[[Callable[Concatenate[Value, Own], Result]], Callable[..., Result]]:
    """Return a decorator that adds the parameters of `make` to a command as options.

    The command's first parameter takes what `make` returns for them; typer sees its other parameters, and
    behind them those of `make`, all of which have defaults. A group may itself be made of another one.
    """
    shared = _parameters(make)

    def add(command: Callable[Concatenate[Value, Own], Result]) -> Callable[..., Result]:
        own = _parameters(command)[1:]
        names = {parameter.name for parameter in shared}

        @wraps(command)
        def run(**given: object) -> Result:
            value = make(**{name: given.pop(name) for name in names})
            return command(value, **given)  # type: ignore[call-arg, arg-type]  # typer gives all by name

        parameters = [*own, *shared]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return add


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters of a function with their annotations as values."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
