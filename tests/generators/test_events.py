"""Generators make models of every event from the AsyncAPI document, and what they write compiles."""

# case formats.md 10

from __future__ import annotations

import json
from pathlib import Path

import pytest
import re2
from tests.generators.conftest import ROOT, run, tool
from tests.unit.events.test_patterns import PUBLISHED

from salus.events.contexts import CATALOGUE

pytestmark = pytest.mark.generators
DOCUMENT = ROOT / "docs" / "asyncapi.json"
# Texts on which engines could differ: ends of lines, letters beyond ASCII, and what fits some pattern.
TEXTS = [
    "",
    "a",
    "a\n",
    "\n",
    "a\r",
    "a\u2028",
    "é",
    "\u00a0",
    "\x7f",
    "\U0001f600",
    "0" * 64,
    "0" * 64 + "\n",
    "AAAA==",
    "AAAA==\n",
    "did:web:a.example",
    "did:web:a.example\n",
    "did:web:a.example#k",
    "z6Mk",
    "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a",
    "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a\n",
]


def test_asyncapis_own_parser_has_nothing_to_say(node: Path) -> None:
    said = run([tool("node"), "asyncapi_check.mjs", DOCUMENT], cwd=node)

    codes = [json.loads(line)["code"] for line in said.splitlines()]
    # There is a later version of AsyncAPI, which few tools read.
    assert codes == ["asyncapi-latest-version"], said


def test_every_pattern_means_the_same_to_ecma_as_to_re2(node: Path, tmp_path: Path) -> None:
    asked = [(pattern, TEXTS) for pattern in sorted(PUBLISHED)]
    (tmp_path / "asked.json").write_text(json.dumps(asked), encoding="utf-8")

    said = json.loads(run([tool("node"), "patterns_check.mjs", tmp_path / "asked.json"], cwd=node))

    expected = [[re2.compile(p).search(text) is not None for text in texts] for p, texts in asked]
    assert said == expected
    assert any(any(verdicts) for verdicts in said)


@pytest.mark.parametrize("language", ["java", "typescript", "go", "python"])
def test_models_of_every_event_compile(language: str, node: Path, tmp_path: Path) -> None:
    program = {"java": "javac", "typescript": "node", "go": "go", "python": "python3"}[language]
    compiler = tool(program)
    folder = tmp_path / language

    said = run([tool("node"), "asyncapi_models.mjs", DOCUMENT, language, folder], cwd=node)

    names = set(json.loads(said))
    assert {f"{entry.data.__name__}Event" for entry in CATALOGUE.types()} <= names
    assert [name for name in names if "Anonymous" in name] == []
    sources = sorted(folder.iterdir())
    if language == "java":
        run([compiler, "-Werror", "-d", tmp_path / "classes", *sources], cwd=folder)
    elif language == "typescript":
        options = ["--strict", "--noEmit", "--target", "es2022", "--module", "esnext"]
        tsc = node / "node_modules" / ".bin" / "tsc"
        run([tsc, *options, "--moduleResolution", "bundler", *sources], cwd=folder)
    elif language == "go":
        (folder / "go.mod").write_text("module salus\n\ngo 1.24\n")
        run([compiler, "vet", "./..."], cwd=folder)
    else:
        run([compiler, "-m", "compileall", "-q", folder], cwd=folder)
