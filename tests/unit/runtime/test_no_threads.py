"""No request waits for a thread: the framework gives each dependency and route that is not `async` to one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from tools.openapi_documents import apps

APPS = apps()


def routes_of(routes: Iterable[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from routes_of(route.original_router.routes)


def calls_of(dependant: Dependant) -> Iterator[Any]:
    if dependant.call is not None:
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from calls_of(dependency)


def is_in_the_loop(call: Any) -> bool:
    return iscoroutinefunction(call) or isasyncgenfunction(call)


def in_threads(app: FastAPI) -> list[tuple[str, Any]]:
    routes = [*routes_of(app.routes)]
    assert routes
    return [
        (route.path, call)
        for route in routes
        for call in calls_of(route.dependant)
        if not is_in_the_loop(call) and not is_in_the_loop(type(call).__call__)
    ]


@pytest.mark.parametrize("service", APPS)
def test_every_route_and_dependency_runs_in_the_event_loop(service: str) -> None:
    assert in_threads(APPS[service]) == []


def test_those_that_do_not_are_found() -> None:
    def dependency() -> None: ...

    def held() -> Iterator[None]:
        yield

    async def held_in_the_loop() -> AsyncIterator[None]:
        yield

    def endpoint(
        _: None = Depends(dependency), a: None = Depends(held), b: None = Depends(held_in_the_loop)
    ) -> None: ...

    app, router = FastAPI(), APIRouter()
    router.add_api_route("/people", endpoint)
    app.include_router(router)

    assert in_threads(app) == [("/people", endpoint), ("/people", dependency), ("/people", held)]
