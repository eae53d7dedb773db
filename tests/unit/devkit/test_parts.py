from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from salus.crypto.private_files import write_private
from salus.devkit import tools
from salus.devkit.addresses import S3, Addresses, port_of
from salus.devkit.errors import BuildError, DevkitError, MissingToolError, SettingError
from salus.devkit.kafka_server import kafka_version, loaded_classes
from salus.devkit.minio_server import MINIO_VERSION
from salus.devkit.narration import SilentNarrator
from salus.devkit.parts import GIVEN, administration, find_parts
from salus.devkit.processes import Place
from salus.messaging import Brokers

GIVEN_VALUES = dict(zip(GIVEN, ("k:9092", "http://s:9000", "key", "secret"), strict=True))


class Heard:
    """A narrator that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.updates: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def update(self, text: str) -> None:
        self.updates.append(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", tmp_path / "logs", detached=False)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    """Neither tools nor cache nor endpoints."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (*GIVEN, "SALUS_PARTS"):
        monkeypatch.delenv(name, raising=False)


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_endpoints_of_the_environment_come_first(place, tmp_path, monkeypatch):
    for name in ("docker", "java", "mvn", "go"):
        program(tmp_path, name, "echo 28.0")
    for name, value in GIVEN_VALUES.items():
        monkeypatch.setenv(name, value)

    found = await find_parts(place, SilentNarrator())

    assert found.kind == "given"
    assert await found.start(None) == Addresses("k:9092", S3("http://s:9000", "key", "secret"))
    with pytest.raises(DevkitError, match="not ours to restart"):
        await found.restart_kafka()


async def test_an_engine_that_answers_comes_before_local_processes(place, tmp_path):
    for name in ("docker", "java", "mvn", "go"):
        program(tmp_path, name, "echo 28.0")

    assert (await find_parts(place, SilentNarrator())).kind == "engine"


async def test_an_engine_without_a_daemon_is_passed_over(place, tmp_path):
    for name in ("java", "mvn", "go"):
        program(tmp_path, name)
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    assert (await find_parts(place, SilentNarrator())).kind == "local"


async def test_an_engine_that_hangs_is_not_waited_for(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "ENGINE_ANSWER_S_MAX", 0.2)
    for name in ("java", "mvn", "go"):
        program(tmp_path, name)
    program(tmp_path, "docker", f"exec {sys.executable} -c 'import time; time.sleep(600)'")

    assert (await find_parts(place, SilentNarrator())).kind == "local"


async def test_what_is_missing_is_said_in_one_sentence(place, tmp_path):
    program(tmp_path, "java")

    with pytest.raises(MissingToolError, match=r"this machine lacks mvn, go$") as caught:
        await find_parts(place, SilentNarrator())

    assert "\n" not in str(caught.value)


async def test_what_is_cached_already_needs_no_tool_to_build_it(place, tmp_path):
    program(tmp_path, "java")
    for folder in (f"kafka/{kafka_version()}", f"minio/{MINIO_VERSION}"):
        (tmp_path / "cache" / "salus" / folder).mkdir(parents=True)

    assert (await find_parts(place, SilentNarrator())).kind == "local"


async def test_insisting_on_given_parts_names_what_is_not_set(place, monkeypatch):
    monkeypatch.setenv("SALUS_PARTS", "given")
    monkeypatch.setenv("SALUS_S3_ENDPOINT", "http://s:9000")

    with pytest.raises(SettingError, match="SALUS_KAFKA_BOOTSTRAP, SALUS_S3_ACCESS_KEY"):
        await find_parts(place, SilentNarrator())


# A new user's case: SALUS_KAFKA_BOOTSTRAP alone was ignored, and another Kafka started.
@pytest.mark.parametrize("absent", [GIVEN[1:], GIVEN[:1], GIVEN[2:], GIVEN[1:3]])
@pytest.mark.parametrize("empty", [False, True])
async def test_endpoints_that_are_not_all_there_are_refused_by_name(
    place, tmp_path, monkeypatch, absent, *, empty
):
    for name in ("java", "mvn", "go"):
        program(tmp_path, name)
    for name, value in GIVEN_VALUES.items():
        if name not in absent:
            monkeypatch.setenv(name, value)
        elif empty:
            monkeypatch.setenv(name, "")

    with pytest.raises(SettingError, match=f"^{', '.join(absent)} must be set as well"):
        await find_parts(place, SilentNarrator())

    monkeypatch.setenv("SALUS_PARTS", "local")
    assert (await find_parts(place, SilentNarrator())).kind == "local"


async def test_a_way_that_there_is_not_is_no_other_way(place, monkeypatch):
    monkeypatch.setenv("SALUS_PARTS", "docker")

    with pytest.raises(SettingError, match="docker is none of given, engine, local"):
        await find_parts(place, SilentNarrator())


async def test_a_tool_that_fails_shows_the_end_of_its_output():
    heard = Heard()
    script = "import sys; [print(n) for n in range(100)]; sys.exit(3)"

    with pytest.raises(BuildError, match=r"(?s)building failed with exit code 3:\n75\n.*\n99$"):
        await tools.run_tool("building", [sys.executable, "-c", script], heard)


async def test_a_tool_that_takes_too_long_is_ended():
    script = "import time; print('begun', flush=True); time.sleep(600)"

    with pytest.raises(BuildError, match="took longer than 1 s"):
        await tools.run_tool("building", [sys.executable, "-c", script], SilentNarrator(), timeout_s=1)


async def test_a_tool_reports_progress_while_it_runs():
    heard = Heard()
    script = "import time; print('one', flush=True); time.sleep(1.5); print('two')"

    output = await tools.run_tool("building", [sys.executable, "-c", script], heard, env=dict(os.environ))

    assert output == "one\ntwo"
    assert any("building: 1 s, 1 lines" in text for text in heard.updates)


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1:9092", (9092,)), ("http://127.0.0.1:9000", (9000,)), ("nothing", ())]
)
def test_the_port_of_an_address(address, port):
    assert port_of(address) == port


@pytest.mark.parametrize("line", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_362"'])
async def test_a_java_that_is_too_old_is_said_so(tmp_path, line):
    program(tmp_path, "java", f"echo '{line}' >&2")

    with pytest.raises(MissingToolError, match=f"needs Java 17 or newer, and `java` is {line}$"):
        await loaded_classes("libs/*", SilentNarrator())


async def test_accounts_at_kafka_are_of_a_kafka_that_is_started_here(place, tmp_path, monkeypatch):
    program(tmp_path, "docker", "echo 28.0")
    found = await find_parts(place, SilentNarrator(), kafka_accounts=True)
    monkeypatch.setenv("SALUS_PARTS", "engine")
    with pytest.raises(SettingError, match="only a Kafka that is started here"):
        await find_parts(place, SilentNarrator(), kafka_accounts=True)
    monkeypatch.delenv("SALUS_PARTS")
    for name, value in GIVEN_VALUES.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match="only a Kafka that is started here"):
        await find_parts(place, SilentNarrator(), kafka_accounts=True)

    assert found.kind == "local"


def test_a_given_kafka_is_spoken_to_as_the_environment_says(tmp_path, monkeypatch):
    write_private(tmp_path / "password", b"secret")
    given = {"BOOTSTRAP": "k:9092", "PROTOCOL": "SASL_SSL", "USER": "me"}
    for name, value in (given | {"PASSWORD_FILE": str(tmp_path / "password")}).items():
        monkeypatch.setenv(f"SALUS_KAFKA_{name}", value)
    addresses = Addresses("k:9092", S3("http://s:9000", "key", "secret"))

    kafka = administration("given", addresses)

    assert isinstance(kafka, Brokers)
    assert (kafka.servers, kafka.account.user) == ("k:9092", "me")
    # Ours, or one that was given to another command, is not meant.
    assert administration("local", addresses) == "k:9092"
    assert administration("given", Addresses("other:1", addresses.s3)) == "other:1"
    monkeypatch.delenv("SALUS_KAFKA_USER")
    with pytest.raises(SettingError, match="belong together"):
        administration("given", addresses)
