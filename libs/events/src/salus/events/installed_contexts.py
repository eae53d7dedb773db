"""The contexts of other packages: each that is installed and names one joins the catalogue.

A package names it as an entry point of the group `salus.contexts`. Its module imports nothing of
`salus.events.contexts`, which are composed with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from salus.events.context import Context

GROUP = "salus.contexts"


class ContextError(Exception):
    """What a package names as its context is none; the sentence names the package."""


def installed_contexts(points: Iterable[EntryPoint] | None = None) -> list[Context]:
    """Return the contexts that other packages bring, by name and package: the same order everywhere.

    Raises:
        ContextError: one cannot be had. Without it, its events would be unknown here and known elsewhere.
    """
    found = [_loaded(point) for point in (entry_points(group=GROUP) if points is None else points)]
    return sorted(found, key=lambda context: (context.name, context.package))


def _loaded(point: EntryPoint) -> Context:
    package = point.dist.name if point.dist is not None else point.module
    try:
        context = point.load()
        if isinstance(context, Context):
            # Made here, so that a class of which no schema can be made is told as this package's.
            _ = [entry.schema for entry in context.types]
    except Exception as error:
        raise ContextError(f"{package}: {point.value} cannot be loaded: {error}") from error
    if not isinstance(context, Context):
        raise ContextError(f"{package}: {point.value} is no Context")
    if not any(role.kind == "service" for role in context.roles):
        # What is installed decides no verdict: a context holds from when a service of it joined a network.
        raise ContextError(f"{package}: {point.value} has no role of a service, by which it could join")
    context.package = package
    return context
