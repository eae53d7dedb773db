"""What tests/generators has Java's generator make of each service's OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.service_files.regions import with_region

from salus.runtime.manifests import Manifest

FILE = Path("tests/generators/java/pom.xml")
_EXECUTION = """\
<execution>
  <id>{name}</id>
  <goals><goal>generate</goal></goals>
  <configuration>
    <inputSpec>${{documents}}/{name}.json</inputSpec>
    <invokerPackage>salus.{name}</invokerPackage>
    <apiPackage>salus.{name}.api</apiPackage>
    <modelPackage>salus.{name}.model</modelPackage>
    <output>${{project.build.directory}}/generated-sources/{name}</output>
  </configuration>
</execution>"""


def pom(text: str, manifests: Sequence[Manifest]) -> str:
    """Return pom.xml with one execution of the generator a service."""
    names = sorted(manifest.name for manifest in manifests)
    return with_region(FILE, text, "clients", "\n".join(_EXECUTION.format(name=name) for name in names))
