"""A service that the network has not: manifest, settings, context; for tests of what follows from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field
from tools.service_files import __main__ as service_files

from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CONTEXTS
from salus.events.event_types import EventData, Retention
from salus.events.fields import Text
from salus.runtime.settings import DatabaseSettings, ObjectSettings, ServiceSettings

ROOT = Path(__file__).parents[1]
SUPPLY = """
name = "supply"
role = "contract"
context = "supply"
owns = "batches and where they went"
does = "traces them"
port = 18099
replicas = 2
database = true
disk = "2Gi"
files = ["supply-seal"]
layers = ["__main__", "api | settings", "domain | routes"]
exclusive_imports = ["networkx"]

[topics]
owns = ["salus.supply.events"]
reads = ["salus.supply.events", "salus.identity.events"]

[buckets]
cargo = "append"

[settings]
SEAL_FILE = "{keys}/supply-seal"
LOG_URL = "{anchoring_url}/log"

[resources]
memory_max = "2Gi"

[probes]
ready = "/fit"
start_s_max = 300
"""


class Settings(ServiceSettings, DatabaseSettings, ObjectSettings):
    """What the operator of supply chooses."""

    service_name: str = "supply"
    seal_file: Path = Field(description="What batches are sealed with.")
    log_url: str = ""
    cargo_bucket: str = "salus-cargo"


CONTEXT = Context("supply")
OWNER = CONTEXT.role("supply", "service", "traces batches")


@CONTEXT.event("salus.supply.batch-shipped.v1", owner=OWNER, retention=Retention.RECORD)
class BatchShipped(EventData):
    """A batch left its place."""

    batch: Text


def catalogue() -> Catalogue:
    """Return the network's catalogue with one context more."""
    return Catalogue([*CONTEXTS, CONTEXT])


def settings_of(service: str) -> Any:
    return Settings if service == "supply" else service_files.settings_of(service)


def add_supply(root: Path, text: str = SUPPLY) -> None:
    file = root / "services/supply/src/salus/supply/service.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def source_tree(folder: Path) -> Path:
    """Make a source tree of the manifests and whatever is made of them, and nothing else; return its root."""
    made = service_files.made(ROOT, service_files.manifests_of(ROOT))
    files = [*made, *(path.relative_to(ROOT) for path in ROOT.glob("services/*/src/salus/*/service.toml"))]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for library in ROOT.glob("libs/*/src/salus/*"):
        (folder / library.relative_to(ROOT)).mkdir(parents=True)
    return folder
