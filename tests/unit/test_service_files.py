"""What lists services is made of their manifests: a new one is everywhere, and what drifts is named.

Issue 13, section 2.
"""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import httpx
import pytest
import yaml
from tests.supply import ROOT, SUPPLY, add_supply, catalogue, settings_of, source_tree
from tools import generated_files
from tools.openapi_documents import apps
from tools.service_files import __main__ as service_files
from tools.service_files.agreement import disagreements, folders_without
from tools.service_files.import_contracts import unplaced
from tools.service_files.regions import RegionError, with_region

from salus.runtime.manifests import services


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return source_tree(tmp_path)


@pytest.fixture
def checked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree, as the one that `make static` checks."""
    monkeypatch.setattr(generated_files, "ROOT", tree)
    monkeypatch.setattr(generated_files, "generate", lambda: service_files.main(["--root", str(tree)]))
    return tree


@pytest.fixture
def made(tree: Path) -> dict[str, str]:
    """Every file with a service more than there is, by its name."""
    add_supply(tree)
    files = service_files.made(tree, service_files.manifests_of(tree), settings_of)
    return {path.name: text for path, text in files.items()}


def test_a_new_service_is_in_the_compose_file(made):
    compose = yaml.safe_load(made["docker-compose.yml"])
    supply = compose["services"]["supply"]

    assert supply["command"] == ["python", "-m", "salus.supply"]
    assert supply["environment"]["SALUS_SIGNING_KEY_FILE"] == "/run/salus/supply.pem"
    assert supply["environment"]["SALUS_SEAL_FILE"] == "/run/salus/supply-seal"
    assert supply["environment"]["SALUS_LOG_URL"] == "http://127.0.0.1:${ANCHORING_PORT:-18085}/log"
    assert supply["environment"]["SALUS_S3_ACCESS_KEY"] == "salus-supply"
    assert supply["environment"]["SALUS_KAFKA_BOOTSTRAP"] == "kafka:9092"
    assert supply["environment"]["SALUS_DATABASE_URL"].endswith("/var/lib/salus/supply.db")
    assert supply["ports"] == ["127.0.0.1:${SUPPLY_PORT:-18099}:8080"]
    assert supply["volumes"] == ["given-supply:/run/salus:ro", "supply:/var/lib/salus"]
    assert supply["mem_limit"] == "2048m"
    assert supply["healthcheck"]["test"][-1] == "/fit"
    assert supply["read_only"] is True
    assert "given-supply:/run/hand-out/supply" in compose["services"]["setup"]["volumes"]
    assert {"given-supply", "supply"} <= compose["volumes"].keys()


def test_a_new_service_is_in_the_chart_s_values_and_their_schema(made):
    values, schema = yaml.safe_load(made["values.yaml"]), json.loads(made["values.schema.json"])["properties"]
    known = yaml.safe_load(made["manifests.yaml"])["supply"]

    assert values["services"]["supply"] == {
        "replicas": 2,
        "database": {"existingSecret": "", "storage": "2Gi"},
        "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "2Gi"}},
        "extraEnv": [],
    }
    assert values["s3"]["secrets"]["supply"] == "salus-s3-supply"
    assert values["s3"]["buckets"]["cargo"] == "salus-cargo"
    assert "supply" in schema["services"]["required"]
    assert "supply" in schema["s3"]["properties"]["secrets"]["required"]
    assert "cargo" in schema["s3"]["properties"]["buckets"]["required"]
    assert known["files"] == ["supply.pem", "supply-seal"]
    assert known["settings"] == {
        "SALUS_SEAL_FILE": "{keys}/supply-seal",
        "SALUS_LOG_URL": "{anchoring_url}/log",
    }
    assert known["probes"] == {"alive": "/healthz", "ready": "/fit", "startSecondsMax": 300}


def test_a_new_service_is_in_the_import_contracts(made):
    linter = tomllib.loads(made["pyproject.toml"])["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in linter["contracts"]}
    own = contracts["Each module of supply has its place"]

    assert "salus.supply" in linter["root_packages"]
    assert "salus.supply" in contracts["Services never import services"]["modules"]
    assert "salus.supply" in contracts["Libraries never import services"]["forbidden_modules"]
    assert "salus.supply" in contracts["Only messaging imports aiokafka"]["source_modules"]
    assert "salus.supply" in contracts["Inside a service imports point one way"]["containers"]
    assert {"salus.supply.domain", "salus.supply.routes"} <= set(
        contracts["The ledger and every domain do no I/O and do not tell the time"]["source_modules"]
    )
    assert [one for one in linter["contracts"] if "salus.supply" in one.get("ancestors", ())]
    assert own["layers"] == ["__main__", "api | settings", "domain | routes"]
    assert own["exhaustive"] is True
    assert contracts["Only supply imports networkx"]["forbidden_modules"] == ["networkx"]
    assert "salus.supply" not in contracts["Only supply imports networkx"]["source_modules"]


def test_a_new_service_is_in_the_documents(made):
    assert "| [supply](../services/supply/README.md) | contract | batches and" in made["architecture.md"]
    assert "| supply | `salus.supply.events` | `salus.supply.events`" in made["operators.md"]
    assert "| `supply` |  |  |  |  | reads, adds; removes nothing but probes |" in made["operators.md"]
    assert "## supply\n" in made["settings.md"]
    assert (
        "| `SALUS_SEAL_FILE` | string | **required** | What batches are sealed with. |" in made["settings.md"]
    )


def test_a_new_service_has_a_client_made_of_its_document(made):
    assert "<inputSpec>${documents}/supply.json</inputSpec>" in made["pom.xml"]


def test_the_diagram_of_the_services_names_each():
    level = (ROOT / "docs/architecture.md").read_text().partition("## Level 2")[2].partition("## Level 3")[0]
    diagram = level.partition("```mermaid")[2].partition("```")[0]

    assert [one.name for one in services() if not re.search(rf"\b{one.name}\b", diagram)] == []


def test_a_library_without_a_place_among_the_layers_is_named(tree):
    assert list(unplaced(tree)) == []
    (tree / "libs/graph/src/salus/graph").mkdir(parents=True)
    assert list(unplaced(tree)) == [
        "salus.graph has no place in `Libraries build on each other in one direction` of pyproject.toml"
    ]


def test_what_is_made_is_what_is_committed_and_watched():
    files = service_files.made(ROOT, service_files.manifests_of(ROOT))

    assert {path for path, text in files.items() if (ROOT / path).read_text() != text} == set()
    assert [
        path
        for path in files
        if not any(fnmatchcase(str(path), pattern) for pattern in generated_files.GENERATED)
    ] == []


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("docker-compose.yml", "command: [python, -m, salus.audit]", "command: [python, -m, salus.other]"),
        ("deploy/helm/salus/manifests.yaml", "- kms", "- kms2"),
        ("deploy/helm/salus/values.yaml", "audit: salus-s3-audit", "audit: salus-s3-other"),
        ("deploy/helm/salus/values.schema.json", '            "audit",\n', ""),
        ("docs/architecture.md", "| [witness](../services/witness/README.md)", "| [seer](../README.md)"),
        ("docs/operators.md", "| `audit` |  |  | reads |", "| `audit` |  |  | writes |"),
        ("docs/settings.md", "`SALUS_POLL_S`", "`SALUS_POLL`"),
        ("tests/generators/java/pom.xml", "<id>audit</id>", "<id>other</id>"),
        ("pyproject.toml", '    "did_document : did_web",\n', ""),
    ],
)
def test_a_file_that_drifts_is_named_by_the_check(checked, capsys, file, before, after):
    text = (checked / file).read_text()
    assert before in text

    assert generated_files.check() == 0
    (checked / file).write_text(text.replace(before, after, 1))
    assert generated_files.check() == 1
    assert capsys.readouterr().out == f"{file} is out of date: run `make generate`\n"


def test_the_manifests_say_what_the_code_does():
    manifests = service_files.manifests_of(ROOT)

    assert list(disagreements(manifests, service_files.settings_of)) == []
    assert list(folders_without(ROOT, manifests)) == []


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('SEAL_FILE = "{keys}/supply-seal"', "", "SALUS_SEAL_FILE is required, and nothing gives it"),
        ("LOG_URL", "LOGS_URL", "nothing reads SALUS_LOGS_URL"),
        ("cargo", "freight", "no setting SALUS_FREIGHT_BUCKET has the default salus-freight"),
        ('[buckets]\ncargo = "append"', "", "has ObjectSettings, and its manifest says otherwise in buckets"),
        ("port = 18099", 'port = 18099\ninstances = "member"', "has ServiceSettings"),
        (
            '["salus.supply.events"]\nreads',
            '["salus.lab.events"]\nreads',
            "salus.lab.events is another's, too",
        ),
        (
            'owns = ["salus.supply.events"]\n',
            'writes = ["salus.lab.events"]\n',
            "salus.lab.events has no types",
        ),
        ('context = "supply"', 'context = "chain"', "salus.supply.events is not of its context, chain"),
        ('"salus.identity.events"]', '"salus.moon.events"]', "nobody writes salus.moon.events"),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_code_is_named(tree, before, after, says):
    add_supply(tree)
    assert list(disagreements(service_files.manifests_of(tree), settings_of, catalogue())) == []
    add_supply(tree, SUPPLY.replace(before, after))
    faults = list(disagreements(service_files.manifests_of(tree), settings_of, catalogue()))

    assert before in SUPPLY
    assert [fault for fault in faults if fault.startswith("supply: ") and says in fault]


async def test_each_service_answers_where_its_manifest_has_its_probes():
    probes = {manifest.name: manifest.probes for manifest in services()}
    for name, app in apps().items():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [await client.get(path) for path in (probes[name].alive, probes[name].ready)]

        assert [answer.status_code for answer in answers] == [200, 200], name


def test_a_service_without_its_role_and_a_role_without_its_service_are_named(tree):
    manifests = [one for one in service_files.manifests_of(ROOT) if one.name != "consent"]
    add_supply(tree)

    assert list(disagreements(manifests, settings_of)) == [
        "the catalogue has the role consent, which has no manifest"
    ]
    assert list(disagreements(service_files.manifests_of(tree), settings_of)) == [
        "supply: no context of the catalogue has its role"
    ]


def test_a_folder_without_a_manifest_is_named(tree):
    (tree / "services/loose").mkdir()

    assert list(folders_without(tree, service_files.manifests_of(tree))) == [
        "services/loose has no src/salus/loose/service.toml"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "nothing\n",
        "# begin generated: services\n",
        "# end generated: services\n# begin generated: services\n",
        "# begin generated: services\n# end generated: services\n" * 2,
    ],
)
def test_a_file_without_its_marks_is_named(text):
    with pytest.raises(RegionError, match=r"docker-compose.yml needs one region `begin generated: services`"):
        with_region(Path("docker-compose.yml"), text, "services", "a: 1")


def test_a_region_is_made_anew_as_deep_as_its_marks_are_and_the_rest_stays():
    begin, end = "  # begin generated: services, made\n", "  # end generated: services\n"

    assert with_region(
        Path("x.yml"), f"a:\n{begin}  old: 1\n{end}b: 2\n", "services", "new:\n  - 1\n\n  - 2\n"
    ) == (f"a:\n{begin}  new:\n    - 1\n\n    - 2\n{end}b: 2\n")
