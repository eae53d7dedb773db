"""Writes the files, and parts of files, that list the services."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from pydantic_settings import BaseSettings
from tools.service_files import chart, compose, documents, generators, import_contracts
from tools.service_files.agreement import disagreements, folders_without

from salus.runtime.manifests import Manifest, manifests_in

ROOT = Path(__file__).resolve().parents[2]


def manifests_of(root: Path) -> tuple[Manifest, ...]:
    """Return the manifests of the services in a source tree."""
    return manifests_in(sorted(root.glob("services/*/src/salus")))


def settings_of(service: str) -> type[BaseSettings]:
    """Return the settings class of an installed service."""
    settings: type[BaseSettings] = import_module(f"salus.{service}.settings").Settings
    return settings


def made(
    root: Path, manifests: Sequence[Manifest], settings_of: documents.SettingsOf = settings_of
) -> Mapping[Path, str]:
    """Return every file as it should be, by its place in the tree; what is written by hand stays."""

    def text(path: Path) -> str:
        return (root / path).read_text(encoding="utf-8")

    libraries = import_contracts.libraries_of(root)
    return {
        import_contracts.FILE: import_contracts.pyproject(text(import_contracts.FILE), manifests, libraries),
        compose.FILE: compose.docker_compose(text(compose.FILE), manifests),
        chart.MANIFESTS: chart.manifests_yaml(manifests),
        chart.VALUES: chart.values(text(chart.VALUES), manifests),
        chart.SCHEMA: chart.schema(text(chart.SCHEMA), manifests),
        generators.FILE: generators.pom(text(generators.FILE), manifests),
        documents.ARCHITECTURE: documents.architecture(text(documents.ARCHITECTURE), manifests),
        documents.OPERATORS: documents.operators(text(documents.OPERATORS), manifests),
        documents.SETTINGS: documents.settings(manifests, settings_of),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files of a source tree; return 1 if a manifest does not say what the code does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(arguments).root
    manifests = manifests_of(root)
    faults = [
        *folders_without(root, manifests),
        *disagreements(manifests, settings_of),
        *import_contracts.unplaced(root),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)  # noqa: T201  # a report
    for path, content in made(root, manifests).items():
        (root / path).write_text(content, encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
