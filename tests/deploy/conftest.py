"""The deployment's own tools, built once with Go into the user's cache: helm and docker compose."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from salus.devkit.cache import cached, is_cached
from salus.devkit.narration import PlainNarrator
from salus.devkit.tools import run_tool

HELM_VERSION = "v3.19.0"
COMPOSE_VERSION = "v2.40.3"
COMPOSE_MODULE = Path(__file__).parent / "compose-tool"

Run = Callable[..., subprocess.CompletedProcess[str]]


def needs_go(name: str, version: str) -> None:
    if not is_cached(name, version) and shutil.which("go") is None:
        pytest.skip(f"{name} is built with Go, and there is no go on the PATH")


def runner(program: Path) -> Run:
    def run(
        *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [str(program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)

    return run


@pytest.fixture(scope="session")
async def helm() -> Run:
    needs_go("helm", HELM_VERSION)
    narrator = PlainNarrator()

    async def build(folder: Path) -> None:
        narrator.step("building helm with Go (once, 2 to 5 minutes on a small machine)")
        command = ["go", "install", "-v", f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}"]
        await run_tool("building helm", command, narrator, env={"GOBIN": str(folder)})

    return runner(await cached("helm", HELM_VERSION, build, narrator) / "helm")


@pytest.fixture(scope="session")
async def compose() -> Run:
    # Its go.mod has exclude directives, so `go install` refuses it: a module of our own requires it.
    needs_go("docker-compose", COMPOSE_VERSION)
    narrator = PlainNarrator()

    async def build(folder: Path) -> None:
        narrator.step("building docker compose with Go (once, 2 to 5 minutes on a small machine)")
        command = ["go", "build", "-C", str(COMPOSE_MODULE), "-o", str(folder / "docker-compose")]
        await run_tool("building docker compose", [*command, "github.com/docker/compose/v2/cmd"], narrator)

    return runner(await cached("docker-compose", COMPOSE_VERSION, build, narrator) / "docker-compose")
