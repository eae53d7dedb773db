"""The import contracts of pyproject.toml that are about all packages, or about each service."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.service_files.regions import with_region

from salus.runtime.manifests import Manifest

FILE = Path("pyproject.toml")
LAYERS_OF_LIBRARIES = "Libraries build on each other in one direction"
# Of the other libraries each has one package of ours that may import it.
_ALONE = (
    ("Only messaging imports aiokafka", "messaging", ("aiokafka",)),
    ("Only objects imports an S3 client", "objects", ("minio", "obstore")),
)
_EFFECTS = (
    *("aiokafka", "asyncio", "fastapi", "httpx", "minio", "obstore", "pathlib", "random"),
    *("salus.messaging", "salus.objects"),
    *("secrets", "socket", "sqlalchemy", "structlog", "subprocess", "time", "urllib"),
)
_LAYERS = ("__main__ | (openapi)", "(api) | (adapters) | (settings)", "(handlers)", "(ports)", "(domain)")


def pyproject(text: str, manifests: Sequence[Manifest], libraries: Sequence[str]) -> str:
    """Return pyproject.toml with its import contracts made anew."""
    services = sorted(one.name for one in manifests)
    packages = sorted([*services, *libraries])
    contracts = "\n\n".join(_contracts(manifests, services, sorted(libraries), packages))
    text = with_region(FILE, text, "import roots", f"root_packages = {_list(packages)}")
    return with_region(FILE, text, "import contracts", contracts)


def libraries_of(root: Path) -> list[str]:
    """Return the libraries in a source tree."""
    return [path.name for path in sorted(root.glob("libs/*/src/salus/*")) if path.is_dir()]


def unplaced(root: Path) -> Iterator[str]:
    """Yield a sentence for each library that has no place among the layers, which are written by hand."""
    linter = tomllib.loads((root / FILE).read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [one["layers"] for one in linter["contracts"] if one["name"] == LAYERS_OF_LIBRARIES]
    placed = {name.strip(" ()") for layer in layers for name in re.split(r"[|:]", layer)}
    for library in libraries_of(root):
        if f"salus.{library}" not in placed:
            yield f"salus.{library} has no place in `{LAYERS_OF_LIBRARIES}` of {FILE}"


def _contracts(
    manifests: Sequence[Manifest], services: Sequence[str], libraries: Sequence[str], packages: Sequence[str]
) -> Iterator[str]:
    yield _contract("Services never import services", "independence", modules=_list(services))
    yield _contract(
        "Libraries never import services",
        "forbidden",
        source_modules=_list(libraries),
        forbidden_modules=_list(services),
    )
    exclusive = [
        (f"Only {one.name} imports {' and '.join(one.exclusive_imports)}", one.name, one.exclusive_imports)
        for one in manifests
        if one.exclusive_imports
    ]
    for name, owner, imported in (*_ALONE, *exclusive):
        yield _contract(
            name,
            "forbidden",
            source_modules=_list([package for package in packages if package != owner]),
            forbidden_modules=_list(imported, prefix=""),
            allow_indirect_imports="true",
        )
    yield _contract(
        "The ledger and every domain do no I/O and do not tell the time",
        "forbidden",
        source_modules=_list(["ledger", *sorted(domain for one in manifests for domain in _domains(one))]),
        forbidden_modules=_list(_EFFECTS, prefix=""),
        allow_indirect_imports="true",
    )
    yield _contract(
        "Inside a service imports point one way",
        "layers",
        containers=_list(services),
        layers=_list(_LAYERS, prefix=""),
    )
    yield _contract(
        "No two modules, and no two packages beside each other, import each other",
        "acyclic_siblings",
        ancestors=_list(packages),
    )
    for one in manifests:
        if one.layers:
            yield _contract(
                f"Each module of {one.name} has its place",
                "layers",
                containers=_list([one.name]),
                layers=_list(one.layers, prefix=""),
                exhaustive="true",
            )


def _domains(manifest: Manifest) -> list[str]:
    """Return what is the law in a service: the lowest of its layers."""
    lowest = manifest.layers[-1] if manifest.layers else "domain"
    return [f"{manifest.name}.{module.strip(' ()')}" for module in re.split(r"[|:]", lowest)]


def _contract(name: str, kind: str, **options: str) -> str:
    lines = [f"{option} = {value}" for option, value in options.items()]
    return "\n".join(["[[tool.importlinter.contracts]]", f'name = "{name}"', f'type = "{kind}"', *lines])


def _list(items: Sequence[str], prefix: str = "salus.") -> str:
    return "\n".join(["[", *(f'    "{prefix}{item}",' for item in items), "]"])
