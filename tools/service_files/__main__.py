"""Writes the files, and parts of files, that list the services."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from salus.devkit.manifests import Manifest, manifests_in
from tools.service_files import chart, compose

ROOT = Path(__file__).resolve().parents[2]


def manifests_of(root: Path) -> tuple[Manifest, ...]:
    """Return the manifests of the services in a source tree."""
    return manifests_in(sorted(root.glob("services/*/src/salus")))


def made(root: Path, manifests: Sequence[Manifest]) -> Mapping[Path, str]:
    """Return every file as it should be, by its place in the tree; what is written by hand stays."""

    def text(path: Path) -> str:
        return (root / path).read_text(encoding="utf-8")

    return {
        compose.FILE: compose.docker_compose(text(compose.FILE), manifests),
        chart.MANIFESTS: chart.manifests_yaml(manifests),
        chart.VALUES: chart.values(text(chart.VALUES), manifests),
        chart.SCHEMA: chart.schema(text(chart.SCHEMA), manifests),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files of a source tree, of this one unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(arguments).root
    for path, content in made(root, manifests_of(root)).items():
        (root / path).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
