"""Packages that are installed beside ours bring contexts: by entry points, in one order, without clashes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.installed_contexts import ContextError, installed_contexts

MODULE = """
from salus.events.context import Context
from salus.events.event_types import EventData, Retention
from salus.events.fields import Text

CONTEXT = Context("{context}")
SERVICE = CONTEXT.role("{role}", "{kind}", "keeps batches")

@CONTEXT.event("salus.{context}.batch-made.v1", owner="{owner}" or SERVICE, retention=Retention.RECORD)
class BatchMade(EventData):
    \"\"\"A batch was made.\"\"\"

    batch: Text
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package whose one module makes a context, as a folder of its own on the path."""
    paths = list(sys.path)
    monkeypatch.setattr(sys, "path", paths)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def install(
        package: str,
        context: str,
        *,
        role: str = "",
        names: str = "CONTEXT",
        first: bool = False,
        kind: str = "service",
        owner: str = "",
    ) -> None:
        module = package.replace("-", "_")
        site = Path(tmp_path / package)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[salus.contexts]\n{context} = {module}:{names}\n")
        (site / f"{module}.py").write_text(
            MODULE.format(context=context, role=role or context, kind=kind, owner=owner)
        )
        paths.insert(0 if first else len(paths), str(site))

    return install


def test_a_context_that_a_package_brings_is_in_the_catalogue_and_changes_no_other(install):
    install("acme-supply", "supply")

    catalogue = Catalogue([*CONTEXTS, *installed_contexts()])

    assert {entry.name for entry in catalogue.types()} - {entry.name for entry in CATALOGUE.types()} == {
        "salus.supply.batch-made.v1"
    }
    assert "salus.supply.events" in catalogue.input_topics()
    assert "supply" in catalogue.roles_of("service")
    assert all(catalogue.type_named(entry.name) == entry for entry in CATALOGUE.types())


def test_a_context_without_a_service_that_could_join_is_refused(install):  # issue 13
    # Its types would hold where it is installed, and nowhere else.
    install("acme-supply", "supply", kind="person", owner="member")

    with pytest.raises(ContextError, match=r"acme-supply: .* has no role of a service"):
        installed_contexts()


@pytest.mark.parametrize("first", [False, True])
def test_the_order_does_not_depend_on_where_packages_are_installed(install, first):
    install("acme-trials", "trials")
    install("acme-supply", "supply", first=first)

    assert [context.name for context in installed_contexts()] == ["supply", "trials"]


def test_the_digest_depends_on_what_is_installed_and_not_on_its_order(install):
    without = Catalogue([*CONTEXTS, *installed_contexts()]).digest
    install("acme-trials", "trials")
    install("acme-supply", "supply")
    found = installed_contexts()

    assert Catalogue([*CONTEXTS, *found]).digest == Catalogue([*CONTEXTS, *reversed(found)]).digest != without
    assert without == CATALOGUE.digest


@pytest.mark.parametrize(
    ("context", "role", "says"),
    [
        ("supply", "other", r"context supply of supply \(acme-supply\) is of supply \(a-supply\) already"),
        ("trials", "supply", r"role supply of trials \(acme-supply\) is of supply \(a-supply\) already"),
        (
            "consent",
            "other",
            r"context consent of consent \(acme-supply\) is of consent \(salus-events\)",
        ),
    ],
)
def test_a_clash_names_both_packages(install, context, role, says):
    install("a-supply", "supply")
    install("acme-supply", context, role=role)

    with pytest.raises(ValueError, match=says):
        Catalogue([*CONTEXTS, *installed_contexts()])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("SERVICE", r"acme-supply: acme_supply:SERVICE is no Context"),
        ("NOTHING", r"acme-supply: acme_supply:NOTHING cannot be loaded"),
    ],
)
def test_a_package_whose_context_cannot_be_had_stops_whoever_asks_and_is_named(install, names, says):
    install("acme-supply", "supply", names=names)

    with pytest.raises(ContextError, match=says):
        installed_contexts()
