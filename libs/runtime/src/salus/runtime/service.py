"""The skeleton of a service: health, readiness, metrics, problem details and a graceful stop."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from http import HTTPMethod
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from salus.runtime import api_page, openapi, problems
from salus.runtime.bodies import Admit, guard_bodies
from salus.runtime.http_protocol import BoundedHttpProtocol
from salus.runtime.operator_paths import guard_operator_paths
from salus.runtime.problems import ProblemError
from salus.runtime.request_headers import guard_headers
from salus.runtime.response_headers import completing
from salus.runtime.settings import ProcessSettings
from salus.runtime.supervisor import Supervisor, failed

Check = Callable[[], Awaitable[str | None]]
"""Raises when the thing it looks at is not there; the sentence of the error is shown in /readyz.

What it returns, if anything, is shown there as well, after "ok": somebody should look, and the service can do
its work.
"""

Application = Callable[..., Awaitable[None]]
"""An ASGI application."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]] | Callable[[FastAPI], AsyncIterator[None]]

OK = "ok"
CHECK_TIMEOUT_S = 5
STOP_TIMEOUT_S = 10
# Longer than clients and load balancers keep an idle connection (httpx 5 s, most balancers 60 s): if both
# ends give up at the same moment, a request that is just being sent is lost.
KEEP_ALIVE_S = 75
RETRY_S = 1.0

_log = structlog.get_logger()


class _App(FastAPI):
    """An app whose every answer has the headers of `response_headers`, also that to an unforeseen error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await super().__call__(scope, receive, completing(send) if scope["type"] == "http" else send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi())
        return self.openapi_schema


class Readiness(BaseModel):
    """Whether the service can do its work: "ok" for each part that it needs, or what is wrong with it.

    After "ok: " stands what somebody should look at although the part works.
    """

    ready: bool
    checks: dict[str, str]


def create_app(  # noqa: PLR0913  # what a service says of itself
    settings: ProcessSettings,
    *,
    title: str,
    checks: Mapping[str, Check],
    lifespan: Lifespan | None = None,
    streams: tuple[str, ...] = (),
    away: tuple[type[Exception], ...] = (),
    supervisor: Supervisor | None = None,
    admit: Admit | None = None,
    open_bodies: tuple[str, ...] = (),
    values_max: Mapping[str, int] = MappingProxyType({}),
) -> FastAPI:
    """Return an app that answers /healthz, /readyz and /metrics; the service adds its own routes.

    Bodies are limited and their JSON is read strictly, but those of paths that begin with one of `streams`:
    there the service does it. No other body is read before `admit`, if there is one, has passed its sender
    and said what is parsed of it, but those of the paths `open_bodies`, which anybody may send. For these,
    and without it, `values_max` tells which paths take more values than others.
    `away` are the errors that mean that the database is away; who has none need not load its library.
    The tasks of `supervisor` are checks as well: who has stopped working beside the requests is not ready.
    """
    app = _App(
        title=title,
        version=version(f"salus-{settings.service_name}"),
        lifespan=lifespan,  # type: ignore[arg-type]  # FastAPI takes both forms
        # A redirect would name scheme and host as this process sees them: behind a proxy that ends TLS, a
        # client would send its bearer again, in clear.
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
        # Ours is below, and leaves out what a caller sent; the framework's own is looked for at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # FastAPI's own pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app, away=away)
    app.include_router(api_page.routes(name=settings.service_name, version=app.version))
    guard_bodies(app, streams=streams, admit=admit, open_bodies=open_bodies, values_max=values_max)
    guard_headers(app, streams=streams)
    guard_operator_paths(app)
    looks = _Looks(checks, supervisor)

    @app.get("/healthz", tags=["operations"], summary="Is the process alive?")
    async def get_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="Can it do its work? One line per part it needs.",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not now."}},
    )
    async def get_readiness() -> JSONResponse:
        results = await looks.results()
        ready = all(map(_is_ok, results.values()))
        return JSONResponse({"ready": ready, "checks": results}, status_code=200 if ready else 503)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics.", response_class=PlainTextResponse)
    async def get_metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    if settings.otlp_endpoint:
        FastAPIInstrumentor.instrument_app(
            app, excluded_urls="healthz,readyz,metrics", exclude_spans=["receive", "send"]
        )
    return app


class _Looks:
    """Looks at every part, once for all who ask meanwhile: anybody may ask, and each look costs the parts."""

    def __init__(self, checks: Mapping[str, Check], supervisor: Supervisor | None) -> None:
        self._checks = checks
        self._supervisor = supervisor
        self._look: asyncio.Task[dict[str, str]] | None = None

    async def results(self) -> dict[str, str]:
        """Return for each part what `Readiness` says of it."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._run_all())
        # Who goes away does not end it for the others.
        return await asyncio.shield(self._look)

    async def _run_all(self) -> dict[str, str]:
        tasks = self._supervisor.pulses if self._supervisor is not None else {}
        looked_at = {**self._checks, **{f"task {name}": pulse.check for name, pulse in tasks.items()}}
        return dict(zip(looked_at, await asyncio.gather(*map(_run, looked_at.values())), strict=True))


async def _run(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            note = await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S} s"
    except Exception as error:  # noqa: BLE001  # a failing check is the answer
        return f"{type(error).__name__}: {error}"
    return f"{OK}: {note}" if note else OK


def _is_ok(answer: str) -> bool:
    return answer == OK or answer.startswith(f"{OK}: ")


class _Server(uvicorn.Server):
    """A server that returns on a signal; uvicorn's own raises it again, which ends the process at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the signals ask for the stop while the context lasts."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.handle_exit, signum, None)
        try:
            yield
        finally:
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(signum)


def _server(app: Application, settings: ProcessSettings) -> _Server:
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        http=BoundedHttpProtocol,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    return _Server(config)


async def serve(app: FastAPI, settings: ProcessSettings, *, front: Application | None = None) -> None:
    """Serve until SIGTERM or SIGINT, let running requests end, close the lifespan, and return.

    `front` is what answers instead, and calls the app for what it does not answer itself.
    """
    _log.info("serving", host=settings.http_host, port=settings.http_port)
    server = _server(front or app, settings)
    # Streams that never end by themselves ask this, so that they do not hold up the stop.
    app.state.stopping = lambda: server.should_exit
    await server.serve()
    _log.info("stopped")


class StartingError(Exception):
    """The service has not begun its work yet."""


async def _starting() -> None:
    raise StartingError("it begins once everything it needs is there")


async def _not_yet(_: Request) -> Response:
    """Answer whatever is asked: that nothing is there would not be true."""
    detail = "the service has not begun its work yet; /readyz says what it waits for"
    raise ProblemError(503, "starting", detail, headers={"Retry-After": str(math.ceil(RETRY_S))})


async def until_passes(name: str, check: Check, *, tell: Callable[[str], None]) -> None:
    """Return once the check passes; until then it is tried again and again, and `tell` hears why it does not.

    For a task beside an app that is served already, and says what it hears in its own /readyz.
    """
    while not _is_ok(answer := await _run(check)):
        _log.warning("waiting for a part", part=name, answer=answer)
        tell(answer)
        failed(f"{name}: {answer}")
        await asyncio.sleep(RETRY_S)


async def wait_for(settings: ProcessSettings, name: str, check: Check) -> None:
    """Return once the check passes; until then /healthz answers, and /readyz says what is waited for.

    Whatever else is asked is a 503.

    Only before `serve`: this takes its place, and its address.

    Raises:
        SystemExit: the process was told to stop meanwhile, or its address is taken.
    """
    if _is_ok(await _run(check)):
        return
    app = create_app(settings, title="Waiting", checks={name: check, "service": _starting})
    app.add_route("/{path:path}", _not_yet, methods=[*HTTPMethod], include_in_schema=False)
    server = _server(app, settings)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(_exit_code(server))
        passing = group.create_task(until_passes(name, check, tell=lambda _: None))
        await asyncio.wait((serving, passing), return_when=asyncio.FIRST_COMPLETED)
        passing.cancel()
        told_to_stop = serving.done() or server.should_exit
        server.should_exit = True
    if told_to_stop:
        raise SystemExit(serving.result())


async def _exit_code(server: _Server) -> int:
    """Serve until told to stop; a SystemExit must not leave a task, as it tears down the event loop."""
    try:
        await server.serve()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0
