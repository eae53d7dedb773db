from __future__ import annotations

from pathlib import Path

import pytest

from salus.devkit import engine
from salus.devkit.addresses import S3, Addresses, Kind
from salus.devkit.engine import EngineParts, find_compose_file
from salus.devkit.errors import BuildError
from salus.devkit.narration import SilentNarrator
from salus.devkit.processes import Place, ProcessRecord

LOCAL = Addresses("127.0.0.1:1", S3("http://127.0.0.1:2", "key", "secret"))


class Fallback:
    """Local parts that only remember what was asked of them."""

    kind: Kind = "local"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def start(self, previous: Addresses | None) -> Addresses:
        self.calls.append(f"start {previous}")
        return LOCAL

    async def stop(self) -> None:
        self.calls.append("stop")

    async def restart_kafka(self) -> None:
        self.calls.append("restart")

    def processes(self) -> list[ProcessRecord]:
        return []


class Docker:
    """A docker program that writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "docker.log"
        self.path = folder / "bin"
        self.path.mkdir()
        self.answer("exit 0")

    def answer(self, script: str) -> None:
        program = self.path / "docker"
        program.write_text(f'#!/bin/sh\necho "$KAFKA_PORT $MINIO_PORT $*" >> {self.log}\n{script}\n')
        program.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def docker(tmp_path, monkeypatch) -> Docker:
    made = Docker(tmp_path)
    monkeypatch.setenv("PATH", f"{made.path}:/bin:/usr/bin")
    monkeypatch.setattr(
        engine, "free_ports", lambda count, preferred=(): list(preferred) or [19092, 19000][:count]
    )

    async def at_once(self: EngineParts, addresses: Addresses) -> None:
        del self, addresses

    monkeypatch.setattr(EngineParts, "_until_ready", at_once)
    return made


def place(tmp_path: Path, *, detached: bool) -> Place:
    return Place(tmp_path / "data", tmp_path / "logs", detached=detached)


async def test_the_containers_are_those_of_the_compose_file_under_a_name_of_their_own(docker, tmp_path):
    parts = EngineParts(place(tmp_path, detached=False), SilentNarrator(), fallback=None)
    other = EngineParts(place(tmp_path / "other", detached=False), SilentNarrator(), fallback=None)

    addresses = await parts.start(None)
    await other.start(None)
    await parts.stop()

    up, up_other, down = docker.calls()
    compose = find_compose_file(Path(engine.__file__))
    assert addresses.kafka_bootstrap == "127.0.0.1:19092"
    assert addresses.s3.endpoint == "http://127.0.0.1:19000"
    assert up.startswith(f"19092 19000 compose --file {compose} --project-name salus-")
    assert up.endswith("up --detach --wait kafka minio")
    assert up.split()[6] != up_other.split()[6]
    assert down.endswith("down --volumes")


async def test_a_detached_platform_keeps_its_volumes_addresses_and_keys(docker, tmp_path):
    parts = EngineParts(place(tmp_path, detached=True), SilentNarrator(), fallback=None)
    first = await parts.start(None)
    await parts.stop()

    assert await parts.start(first) == first
    assert docker.calls()[1].endswith(" down")


async def test_an_engine_without_images_gives_way_and_says_so(docker, tmp_path):
    docker.answer("echo 'pull access denied'; exit 1")
    fallback = Fallback()
    parts = EngineParts(place(tmp_path, detached=False), SilentNarrator(), fallback=fallback)

    assert await parts.start(None) == LOCAL
    await parts.restart_kafka()
    await parts.stop()

    assert docker.calls()[1].endswith("down --volumes")
    assert parts.kind == "local"
    assert fallback.calls == ["start None", "restart", "stop"]


async def test_an_engine_that_was_insisted_on_does_not_give_way(docker, tmp_path):
    docker.answer("echo 'pull access denied'; exit 1")
    parts = EngineParts(place(tmp_path, detached=False), SilentNarrator(), fallback=None)

    with pytest.raises(BuildError, match="pull access denied"):
        await parts.start(None)
