"""What the contract's digest is of: all the code that decides, as far as it is consent's."""

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

    assert {one for one in imported if one.startswith(("salus.access", "salus.consent"))} <= named
