"""Generators make clients of every service from its OpenAPI document without a warning, and they compile."""

# case formats.md 10

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.generators.conftest import HERE, ROOT, run, tool

pytestmark = pytest.mark.generators
DOCUMENTS = sorted((ROOT / "docs" / "openapi").glob("*.json"))
# What the generator says of itself, whatever it reads.
OF_ITSELF = "OpenAPI 3.1 support is still in beta"
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""


def test_every_service_has_a_document() -> None:
    services = {
        folder.name for folder in (ROOT / "services").iterdir() if (folder / "pyproject.toml").exists()
    }

    assert {document.stem for document in DOCUMENTS} == services


def test_every_document_is_valid_by_openapis_own_schema(python: Path) -> None:
    run([python / "openapi-spec-validator", *DOCUMENTS], cwd=ROOT)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_a_python_client_is_made_without_a_warning_and_each_of_its_modules_imports(
    document: Path, python: Path, tmp_path: Path
) -> None:
    generate: list[str | Path] = [
        python / "openapi-python-client",
        "generate",
        "--config",
        HERE / "python-client.yaml",
    ]
    chosen: list[str | Path] = [
        "--path",
        document,
        "--meta",
        "none",
        "--output-path",
        tmp_path / document.stem,
    ]

    said = run([*generate, *chosen, "--fail-on-warning"], cwd=tmp_path)

    assert "WARNING" not in said
    run([python / "python", "-W", "error", "-c", IMPORT_ALL, document.stem], cwd=tmp_path)


def test_go_clients_are_made_and_vetted(tmp_path: Path) -> None:
    go = tool("go")
    for name in ("go.mod", "go.sum"):
        shutil.copy(HERE / "go" / name, tmp_path)

    for document in DOCUMENTS:
        (tmp_path / document.stem).mkdir()
        target = tmp_path / document.stem / "client.go"
        generator = [go, "tool", "oapi-codegen", "-generate", "types,client", "-package", document.stem]
        said = run([*generator, "-o", target, document], cwd=tmp_path)
        assert said.replace("go: downloading", "").count("WARN") == 0

    run([go, "vet", "-mod=readonly", "./..."], cwd=tmp_path)


def test_typescript_types_are_made_and_compile(node: Path, tmp_path: Path) -> None:
    said = run([tool("node"), "openapi_types.mjs", tmp_path, *DOCUMENTS], cwd=node)

    assert said == ""
    written = sorted(tmp_path.glob("*.ts"))
    assert len(written) == len(DOCUMENTS)
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "esnext"]
    run([node / "node_modules" / ".bin" / "tsc", *options, *written], cwd=tmp_path)


def test_java_clients_are_made_without_a_warning_and_compile(tmp_path: Path) -> None:
    maven = tool("mvn")
    tool("javac")
    shutil.copy(HERE / "java" / "pom.xml", tmp_path)

    said = run(
        [maven, "--batch-mode", "--quiet", f"-Ddocuments={DOCUMENTS[0].parent}", "compile"], cwd=tmp_path
    )

    warnings = [line for line in said.splitlines() if "WARN" in line or "ERROR" in line]
    assert [line for line in warnings if OF_ITSELF not in line] == []
    for document in DOCUMENTS:
        assert list((tmp_path / "target/classes/salus" / document.stem / "model").glob("*.class"))
