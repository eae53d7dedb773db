"""The image's own build steps, run without a container engine on exactly what the Dockerfile copies.

Blockers 1 of `deploy.md`: the image did not build, as what it copied did not suffice. `make compose-test`
builds and runs the image itself, where there is an engine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from salus.runtime.manifests import services

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
SERVICES = tuple(manifest.name for manifest in services())
PACKAGES = len([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
BUILD_S_MAX = 900


def instructions() -> list[list[str]]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def copied(*, stage: int) -> list[tuple[list[str], str]]:
    """Return what one stage copies from the build context: sources and destination."""
    found: list[tuple[list[str], str]] = []
    at = -1
    for name, *arguments in instructions():
        at += name == "FROM"
        if name == "COPY" and at == stage and not arguments[0].startswith("--from"):
            found.append((arguments[:-1], arguments[-1]))
    return found


def ignored(folder: str, names: list[str]) -> set[str]:
    del folder
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    patterns = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The virtual environment that the image would have, built from what the Dockerfile copies alone."""
    folder = tmp_path_factory.mktemp("image")
    context, target = folder / "build", folder / "salus"
    for sources, destination in copied(stage=0):
        for source in sources:
            to = (
                context / destination / Path(source).name
                if destination.endswith("/")
                else context / destination
            )
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=ignored)
            else:
                shutil.copy(ROOT / source, to)
    (script,) = [
        word for name, *words in instructions() if name == "RUN" for word in words if "install.sh" in word
    ]
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    result = subprocess.run(
        ["sh", script, str(target)],
        cwd=context,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    yield target
    shutil.rmtree(folder)


def in_image(image: Path, code: str) -> str:
    command = [str(image / "bin/python"), "-I", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=image)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.timeout(BUILD_S_MAX)
def test_what_the_dockerfile_copies_is_enough_to_run_every_service(image: Path) -> None:
    for name in SERVICES:
        in_image(image, f"import salus.{name}.__main__")
    result = subprocess.run([image / "bin/salus", "--help"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert len(list(image.glob("lib/*/site-packages/salus_*.dist-info"))) == PACKAGES
    # Who runs `salus network create` from the image finds every service's manifest there.
    found = in_image(
        image, "from salus.runtime.manifests import services; print(*(s.name for s in services()))"
    )
    assert tuple(found.split()) == SERVICES
    # Keys in a PKCS#11 token are documented, so what reads them is there; the token's library is mounted.
    in_image(image, "import pkcs11")


@pytest.mark.timeout(BUILD_S_MAX)
def test_the_image_has_bytecode_and_no_installers(image: Path) -> None:
    sources = [path for path in image.glob("lib/**/*.py") if path.parent.name != "__pycache__"]
    compiled = {path.parent.parent / (path.name.split(".")[0] + ".py") for path in image.glob("lib/**/*.pyc")}

    assert len(sources) > 1000
    assert not [path for path in sources if path not in compiled]
    for name in ("pip", "setuptools", "uv", "wheel", "hatchling"):
        in_image(image, f"import importlib.util; assert importlib.util.find_spec({name!r}) is None")
        assert not (image / "bin" / name).exists()


def test_nothing_reaches_the_image_that_is_not_named() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    sources = {source for stage in (0, 1) for found, _ in copied(stage=stage) for source in found}

    assert rules[0] == "*"
    assert {name for name in let_in if any(s == name or s.startswith(f"{name}/") for s in sources)} == let_in
    assert all(any(source == name or source.startswith(f"{name}/") for name in let_in) for source in sources)


def test_the_image_runs_as_nobody_and_says_its_licence() -> None:
    said = instructions()
    last = max(n for n, words in enumerate(said) if words[0] == "FROM")
    users = [words[1] for words in said[last:] if words[0] == "USER"]
    labels = " ".join(" ".join(words) for words in said[last:] if words[0] == "LABEL")

    assert users == ["10001:10001"]
    assert 'licenses="Apache-2.0"' in labels
    assert all(f"image.{name}=" in labels for name in ("title", "version", "revision"))
