"""What the contract's digest is of: all the code of consent that decides, and who may do what."""

from __future__ import annotations

import ast
from importlib.resources import files

import pytest

from salus.consent.adapters import release

DECIDES = {(package, name) for package, names in release._CODE for name in names}


@pytest.mark.parametrize(("package", "name"), sorted(DECIDES))
def test_what_decides_imports_nothing_that_the_digest_leaves_out(package: str, name: str) -> None:
    # Case "who may approve": the modules of cases were added, and a change of them was no other contract.
    tree = ast.parse(files(package).joinpath(name).read_text(encoding="utf-8"))
    imported = {one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and one.module}
    named = {f"{of}.{file.removesuffix('.py').replace('/', '.')}" for of, file in DECIDES}

    # Who may do what is a table of the events' package, by which others judge again.
    own = {one for one in imported if one.startswith(("salus.access", "salus.consent"))}
    assert own | {one for one in imported if one.endswith("_rights")} <= named
