"""The chart renders what Kubernetes accepts, and refuses what it would render wrongly."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.supply import add_supply, settings_of, source_tree
from tools.service_files import __main__ as service_files

from salus.cli.networks import PARTS
from salus.devkit.store_accounts import access
from salus.runtime.manifests import services

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
CHART = str(ROOT / "deploy/helm/salus")
OLDEST, NEWEST = "1.29", "1.37"
# A helm built without its release flags assumes a Kubernetes of long ago.
KUBERNETES = ["--kube-version", "1.34.0"]
SERVICES = {manifest.name for manifest in services()}

WITNESS = "witness.enabled=true,witness.name=a.example/witness,witness.keysSecret=witness-key"
VARIANTS: dict[str, list[str]] = {
    "defaults": [],
    "witness": ["--set", f"{WITNESS},witness.mldsa=true,witness.createState=true"],
    "witness-alone": [
        "--set",
        f"{WITNESS},witness.alone=true,ingress.enabled=true,ingress.tlsElsewhere=true",
    ],
    "three-shards": ["--set", "shards={0,1,2}"],
    "postgresql": [
        "--set",
        "services.consent.replicas=3,services.consent.database.existingSecret=consent-db",
    ],
    "ingress": ["--set", "ingress.enabled=true,ingress.tlsSecret=tls,ingress.className=nginx"],
    "kafka-mtls": ["--set", f"kafka.protocol=SSL,kafka.caConfigMap=kafka-ca,{WITNESS}"],
    "kafka-scram": ["--set", "kafka.protocol=SASL_SSL,kafka.secretPrefix=acc-"],
    "kms": ["--set", "kms.uri=transit:https://bao:8200/transit/subjects?token-source=file:/etc/salus-kms/t"],
    "kms-secret": [
        "--set",
        "kms.uri=transit:https://bao:8200/transit/subjects?token-source=file:/etc/salus-kms/t,kms.secret=bao",
    ],
    "everything-external": [
        "--set",
        "network.existingConfigMap=net,serviceAccount.create=false,serviceAccount.name=own",
    ],
}


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chart") / "network.json"
    file.write_text('{"origin": "test"}')
    return file


def rendered(helm: Run, network_file: Path, *options: str) -> list[dict[str, Any]]:
    result = helm(
        "template", "salus", CHART, *KUBERNETES, "--set-file", f"network.document={network_file}", *options
    )
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        container
        for document in documents
        if document["kind"] in {"Deployment", "StatefulSet"}
        for container in document["spec"]["template"]["spec"]["containers"]
    ]


def test_the_chart_passes_its_lint(helm: Run, network_file: Path) -> None:
    result = helm("lint", CHART, *KUBERNETES, "--strict", "--set-file", f"network.document={network_file}")

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_fits_the_schema_of_kubernetes(
    helm: Run, network_file: Path, variant: str, version: str
) -> None:
    documents = rendered(helm, network_file, *VARIANTS[variant])

    assert len(documents) > (5 if variant == "witness-alone" else 10)
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_every_service_is_there_with_its_probes(helm: Run, network_file: Path) -> None:
    documents = rendered(helm, network_file, "--set", WITNESS)
    found = {container["name"]: container for container in containers(documents)}

    assert set(found) == SERVICES
    for name, container in found.items():
        assert container["args"] == ["python", "-m", f"salus.{name}"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("variant", "prefix", "files"),
    [
        ("kafka-mtls", "salus-kafka-", {"tls.crt", "tls.key"}),
        ("kafka-scram", "acc-", {"password"}),
    ],
)
def test_each_service_and_the_bootstrap_have_an_account_of_their_own_at_kafka(
    helm: Run, network_file: Path, variant: str, prefix: str, files: set[str]
) -> None:
    seen = {}
    for document in rendered(helm, network_file, *VARIANTS[variant]):
        if document["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        pod = document["spec"]["template"]["spec"]
        [container] = pod["containers"]
        mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        told = {one["name"]: one.get("value") for one in container["env"]}
        for volume in pod["volumes"]:
            if volume["name"] == "kafka":
                seen[container["name"]] = volume["secret"]["secretName"]
                assert {item["path"] for item in volume["secret"]["items"]} == files
                given = {value for value in told.values() if value and value.startswith("/etc/salus-kafka/")}
                assert given == {f"{mounted['kafka']}/{name}" for name in files}

    parties = {manifest.name for manifest in services() if manifest.is_party}
    assert seen == {name: prefix + name for name in (*parties, "bootstrap")}


def test_a_kafka_that_asks_for_no_account_is_told_of_none(helm: Run, network_file: Path) -> None:
    documents = rendered(helm, network_file)

    names = {one["name"] for container in containers(documents) for one in container["env"]}
    assert {name for name in names if name.startswith("SALUS_KAFKA")} == {"SALUS_KAFKA_BOOTSTRAP"}


def test_only_storage_is_told_of_a_kms_and_then_needs_no_file_of_root_keys(
    helm: Run, network_file: Path
) -> None:
    pods = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in rendered(helm, network_file, *VARIANTS["kms-secret"])
        if document["kind"] in {"Deployment", "StatefulSet"}
    }
    told = {
        name: one["value"]
        for name, pod in pods.items()
        for one in pod["containers"][0]["env"]
        if one["name"] == "SALUS_KMS"
    }
    mounted = {
        name: volume["secret"]["secretName"]
        for name, pod in pods.items()
        for volume in pod["volumes"]
        if volume["name"] == "kms"
    }
    [keys] = [volume for volume in pods["salus-storage"]["volumes"] if volume["name"] == "keys"]

    assert told == {
        "salus-storage": "transit:https://bao:8200/transit/subjects?token-source=file:/etc/salus-kms/t"
    }
    assert mounted == {"salus-storage": "bao"}
    assert [item["key"] for item in keys["secret"]["items"]] == ["storage.pem"]


def test_a_pod_sees_no_key_but_its_own(helm: Run, network_file: Path) -> None:
    documents = rendered(helm, network_file, "--set", "shards={0,1}", *VARIANTS["witness"])
    seen = {}
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet"}:
            volumes = document["spec"]["template"]["spec"]["volumes"]
            (keys,) = [v["secret"]["items"] for v in volumes if v["name"] == "keys"]
            seen[document["metadata"]["name"]] = {item["key"] for item in keys}

    assert seen == {
        "salus-identity": {"identity.pem"},
        "salus-consent": {"consent.pem"},
        "salus-storage": {"storage.pem", "kms"},
        "salus-audit": {"audit.pem"},
        "salus-anchoring": {"anchoring.pem", "log.pem"},
        "salus-sequencer-0": {"sequencer.pem", "shard-0.pem"},
        "salus-sequencer-1": {"sequencer.pem", "shard-1.pem"},
        "salus-witness": {"note.pem", "mldsa.pem"},
    }


def secrets_in(document: dict[str, Any]) -> set[str]:
    """Return the Secrets that the environment of a workload refers to."""
    return {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for container in document["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]
        if "valueFrom" in variable
    }


def test_a_pod_sees_no_account_in_the_store_but_its_own(helm: Run, network_file: Path) -> None:
    documents = rendered(helm, network_file, "--set", WITNESS)
    seen = {
        document["metadata"]["name"]: secrets_in(document)
        for document in documents
        if document["kind"] in {"Deployment", "StatefulSet"}
    }
    stored = {
        container["name"]
        for container in containers(documents)
        if [variable for variable in container["env"] if "S3" in variable["name"]]
    }

    assert seen == {
        "salus-identity": set(),
        "salus-consent": set(),
        "salus-storage": {"salus-s3-storage"},
        "salus-audit": {"salus-s3-audit"},
        "salus-anchoring": {"salus-s3-anchoring"},
        "salus-sequencer-0": {"salus-s3-sequencer"},
        "salus-witness": set(),
    }
    assert stored == {"storage", "audit", "anchoring", "sequencer"}


def jobs(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == "Job"]


def test_a_job_makes_topics_buckets_and_accounts(helm: Run, network_file: Path) -> None:
    (job,) = jobs(rendered(helm, network_file))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (projected,) = [volume["projected"] for volume in pod["volumes"] if "projected" in volume]
    given = {item["path"] for source in projected["sources"] for item in source["secret"]["items"]}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    network, accounts = "/etc/salus/network.json", "/etc/salus-s3"

    # No hook: before an installation there is no network.json, and after it `--wait` waits for the services.
    assert "annotations" not in job["metadata"]
    assert container["args"] == [
        *("salus", "network", "bootstrap", "--network", network, "--accounts", accounts)
    ]
    assert secrets_in(job) == {"salus-s3-admin"}
    assert given == {f"{account}/{key}" for account in access() for key in ("access-key", "secret-key")}
    assert {"/etc/salus", accounts} <= mounted
    assert set(PARTS) <= {variable["name"] for variable in container["env"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_job_is_made_anew_when_it_changes_and_only_then(helm: Run, network_file: Path) -> None:
    def name(*options: str) -> str:
        (job,) = jobs(rendered(helm, network_file, *options))
        found: str = job["metadata"]["name"]
        return found

    assert name() == name("--set", "services.consent.replicas=1,telemetry.logLevel=debug")
    assert len({name(), name("--set", "image.tag=0.2.0"), name("--set", "s3.buckets.log=other")}) == 3


def test_the_bootstrap_can_be_somebody_elses_business(helm: Run, network_file: Path) -> None:
    (job,) = jobs(rendered(helm, network_file, "--set", "bootstrap.accounts=false"))

    assert "--accounts" not in job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert jobs(rendered(helm, network_file, "--set", "bootstrap.enabled=false")) == []
    assert jobs(rendered(helm, network_file, *VARIANTS["witness-alone"])) == []


@pytest.mark.parametrize(("options", "number"), [([], "1"), (["--set", "release=1234567"], "1234567")])
def test_where_replicas_share_a_database_each_installation_has_its_number(
    helm: Run, network_file: Path, options: list[str], number: str
) -> None:
    # Helm counts revisions, those that take an upgrade back included.
    given = {
        container["name"]: {each["name"]: each.get("value") for each in container["env"]}
        for container in containers(rendered(helm, network_file, *VARIANTS["postgresql"], *options))
    }

    assert given["consent"]["SALUS_RELEASE"] == number
    assert "SALUS_RELEASE" not in given["identity"]


def test_the_image_has_the_tag_that_the_documents_build() -> None:
    chart = yaml.safe_load(Path(CHART, "Chart.yaml").read_text())
    image = f"salus:{chart['appVersion']}"

    assert f"-t {image} ." in (ROOT / "docs/operators.md").read_text()
    assert f"-t {image} ." in (ROOT / "deploy/docker/Dockerfile").read_text()
    assert "${SALUS_IMAGE:-" + image + "}" in (ROOT / "docker-compose.yml").read_text()
    assert f"ARG VERSION={chart['appVersion']}" in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_a_witness_has_a_volume_that_outlives_it_and_neither_kafka_nor_the_store(
    helm: Run, network_file: Path
) -> None:
    documents = rendered(helm, network_file, *VARIANTS["witness-alone"])
    (witness,) = [document for document in documents if document["kind"] == "StatefulSet"]
    (container,) = containers(documents)
    environment = {variable["name"]: variable["value"] for variable in container["env"]}

    assert witness["spec"]["replicas"] == 1
    assert set(witness["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    (claim,) = witness["spec"]["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/salus"} in container["volumeMounts"]
    volumes = witness["spec"]["template"]["spec"]["volumes"]
    (secret,) = [volume["secret"]["secretName"] for volume in volumes if volume["name"] == "keys"]
    assert secret == "witness-key"  # the name of a Kubernetes object
    assert environment["SALUS_STATE_FILE"].startswith("/var/lib/salus/")
    assert environment["SALUS_CREATE_STATE"] == "false"
    assert "SALUS_MLDSA_KEY_FILE" not in environment
    assert not [name for name in environment if "KAFKA" in name or "S3" in name]
    (ingress,) = [document for document in documents if document["kind"] == "Ingress"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["witness.salus.example.org"]


def test_anchoring_is_told_of_the_chart_s_witness_and_of_other_members(helm: Run, network_file: Path) -> None:
    other = {"services": {"anchoring": {"witnesses": {"b.example/witness": "https://witness.b.example"}}}}
    values = network_file.with_name("witnesses.yaml")
    values.write_text(yaml.safe_dump(other))
    told = []
    for options in ([], ["--values", str(values)], ["--values", str(values), "--set", WITNESS]):
        (anchoring,) = [
            container
            for container in containers(rendered(helm, network_file, *options))
            if container["name"] == "anchoring"
        ]
        (witnesses,) = [one["value"] for one in anchoring["env"] if one["name"] == "SALUS_WITNESSES"]
        told.append(json.loads(witnesses))

    assert told == [
        {},
        {"b.example/witness": "https://witness.b.example"},
        {"b.example/witness": "https://witness.b.example", "a.example/witness": "http://salus-witness"},
    ]


def test_every_setting_that_a_service_requires_is_given(
    helm: Run, network_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    for container in containers(rendered(helm, network_file, *VARIANTS["witness"])):
        with monkeypatch.context() as environment:
            for variable in container["env"]:
                environment.setenv(variable["name"], variable.get("value", "from-a-secret"))
            module = importlib.import_module(f"salus.{container['name']}.settings")
            built = module.Settings()
        assert built.http_port == 8080


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("services.identity.replicas=2", "services.identity.replicas is 2, but the embedded SQLite"),
        ("s3.endpoint=minio:9000", "/s3/endpoint"),
        ("shards={0,0}", "/shards"),
        ("shards={0,18446744073709551616}", "/shards/1"),
        (
            "ingress.enabled=true",
            "ingress.tlsSecret is empty, so tokens and health data would travel in clear",
        ),
        ("ingress.tlsElsewhere=1", "/ingress/tlsElsewhere"),
        ("kafka.bootstrap=kafka", "/kafka/bootstrap"),
        ("kafka.protocol=TLS", "/kafka/protocol"),
        ("s3.secrets.audit=", "/s3/secrets/audit"),
        ("s3.credentialsSecret=salus-s3", "credentialsSecret"),
        ("bootstrap.enabled=1", "/bootstrap/enabled"),
        ("release=-1", "/release"),
        ("services.identity.relicas=1", "relicas"),
        ("telemetry.logLevel=loud", "/telemetry/logLevel"),
        ("witness.enabled=true,witness.name=a", "/witness/keysSecret"),
        ("witness.enabled=true,witness.keysSecret=a", "/witness/name"),
        (f"{WITNESS},witness.name=a b", "/witness/name"),
        (f"{WITNESS},witness.storage=much", "/witness/storage"),
        (f"{WITNESS},witness.mldsa=1", "/witness/mldsa"),
        (f"{WITNESS},witness.replicas=2", "replicas"),
        ("witness.alone=true", "/witness/alone"),
        ("services.anchoring.witnesses.x=there", "/services/anchoring/witnesses/x"),
    ],
)
def test_wrong_values_are_refused_and_named(helm: Run, network_file: Path, wrong: str, says: str) -> None:
    result = helm(
        "template",
        "salus",
        CHART,
        *KUBERNETES,
        "--set-file",
        f"network.document={network_file}",
        "--set",
        wrong,
    )

    assert result.returncode != 0
    assert says in result.stderr


@pytest.mark.parametrize("variant", ["ingress", "witness-alone"])
def test_what_is_for_operators_is_not_reached_through_the_ingress(
    helm: Run, network_file: Path, variant: str
) -> None:
    documents = rendered(helm, network_file, *VARIANTS[variant])
    (ingress,) = [document for document in documents if document["kind"] == "Ingress"]
    services = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "Service"}

    assert "selector" not in services["salus-closed"]
    for rule in ingress["spec"]["rules"]:
        leads = {p["path"]: p["backend"]["service"]["name"] for p in rule["http"]["paths"]}
        service = leads.pop("/")
        assert service in services
        assert leads == dict.fromkeys(["/metrics", "/readyz", "/status"], "salus-closed")


def test_a_chart_without_its_network_says_so(helm: Run) -> None:
    result = helm("template", "salus", CHART, *KUBERNETES)

    assert result.returncode != 0
    assert "set network.document" in result.stderr


def test_a_new_manifest_makes_a_new_service_of_the_chart(
    helm: Run, network_file: Path, tmp_path: Path
) -> None:
    """Issue 13, section 2: no template names a service."""
    chart, tree = tmp_path / "chart", source_tree(tmp_path / "tree")
    shutil.copytree(CHART, chart)
    add_supply(tree)
    for path, text in service_files.made(tree, service_files.manifests_of(tree), settings_of).items():
        if path.parent == Path("deploy/helm/salus"):
            (chart / path.name).write_text(text)
    options = (
        "--set-file",
        f"network.document={network_file}",
        "--set",
        "services.supply.database.existingSecret=supply-db,ingress.enabled=true,ingress.tlsSecret=tls",
    )
    result = helm("template", "salus", str(chart), *KUBERNETES, *options)
    assert result.returncode == 0, result.stderr
    documents = [document for document in yaml.safe_load_all(result.stdout) if document]
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    supply = found["Deployment", "salus-supply"]["spec"]
    [container] = supply["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    [keys] = [one["secret"] for one in supply["template"]["spec"]["volumes"] if one["name"] == "keys"]
    hosts = [rule["host"] for rule in found["Ingress", "salus"]["spec"]["rules"]]

    assert supply["replicas"] == 2
    assert container["args"] == ["python", "-m", "salus.supply"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/fit"
    assert container["startupProbe"]["failureThreshold"] == 150
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert told["SALUS_SEAL_FILE"] == "/etc/salus-keys/supply-seal"
    assert told["SALUS_LOG_URL"] == "https://anchoring.salus.example.org/log"
    assert told["SALUS_CARGO_BUCKET"] == "salus-cargo"
    assert secrets_in(found["Deployment", "salus-supply"]) == {"salus-s3-supply", "supply-db"}
    assert {item["key"] for item in keys["items"]} == {"supply.pem", "supply-seal"}
    assert "supply.salus.example.org" in hosts
    assert {("Service", "salus-supply"), ("PodDisruptionBudget", "salus-supply")} <= found.keys()
    for document in documents:
        kubernetes_validate.validate(document, NEWEST, strict=True)
