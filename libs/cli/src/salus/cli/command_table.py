"""The table of commands: where each is, and what the help says of it before it is imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

PLATFORM = "Platform"
FACTS = "Facts"
PEOPLE = "People and access"


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """Where a command or a group of commands is: `module:attribute`, its panel in the help, and its summary.

    The summary is the first paragraph of the command's own help: a list of commands imports none of them.
    """

    path: str
    panel: str
    summary: str

    def load(self) -> object:
        """Return the command's function, or the group's Typer."""
        module, _, attribute = self.path.partition(":")
        loaded: object = getattr(import_module(f"salus.cli.{module}"), attribute)
        return loaded


# In the order of the help: commands, then groups.
COMMANDS = {
    "up": CommandEntry(
        "running:up", PLATFORM, "Start Kafka, MinIO and every service, and leave them running."
    ),
    "down": CommandEntry(
        "running:down",
        PLATFORM,
        "Stop everything that `salus up` or `salus demo --keep` started; the data stays.",
    ),
    "status": CommandEntry("running:status", PLATFORM, "Show what runs, where, and whether it is ready."),
    "logs": CommandEntry("running:logs", PLATFORM, "Show the logs of the services, of kafka and of minio."),
    "demo": CommandEntry(
        "demo.command:demo",
        PLATFORM,
        "Play the whole story on real Kafka and MinIO, with real synthetic patients, in about two minutes.",
    ),
    "publish": CommandEntry(
        "publishing:publish", FACTS, "Sign an event with a key and send it to its topic."
    ),
    "receipts": CommandEntry(
        "receipts:receipts",
        FACTS,
        "Fetch the receipts of accepted events by source and id, verify them, and write each to a file.",
    ),
    "verify": CommandEntry(
        "verifying:verify",
        FACTS,
        "Check receipts offline: leaf, block, log, checkpoint, quorum, each against the keys in the policy.",
    ),
    "login": CommandEntry(
        "logins:login",
        PEOPLE,
        "Log in at a provider of the network; afterwards `--as NAME` signs with the key of the session.",
    ),
    "logout": CommandEntry("logins:logout", PEOPLE, "End a session of yours, and forget its key."),
    "approve": CommandEntry(
        "approvals:approve",
        PEOPLE,
        "Show what another operator asks for, in plain words, and sign an approval of it; "
        "offline if need be.",
    ),
    "network": CommandEntry("networks:app", PLATFORM, "The network's keys and its public description."),
    "key": CommandEntry(
        "key_rotation:app", PLATFORM, "The keys that sign blocks, checkpoints and cosignatures."
    ),
    "service": CommandEntry("services:app", PLATFORM, "Services that join the network while it runs."),
    "shard": CommandEntry("chain_ends:app", PLATFORM, "Which shard seals which partitions."),
    "kafka": CommandEntry("kafka_acls:app", PLATFORM, "Accounts at Kafka, and what each may do."),
    "bench": CommandEntry(
        "bench.command:app",
        PLATFORM,
        "Measure this machine: Kafka, MinIO and services of its own are started and stopped each time.",
    ),
    "ledger": CommandEntry(
        "ledger:app", FACTS, "Blocks, receipts and the log, straight from the object store."
    ),
    "audit": CommandEntry("auditing:app", FACTS, "Who did what to whose data, when, why, and by which rule."),
    "catalogue": CommandEntry(
        "catalogue:app", FACTS, "Event types: topic, owner, key, sealed fields and schema."
    ),
    "party": CommandEntry("parties:app", PEOPLE, "Members, services, people and devices of the network."),
    "member": CommandEntry("members:app", PEOPLE, "Members of the network: who takes part, and who no more."),
    "provider": CommandEntry(
        "login_providers:app", PEOPLE, "OpenID providers at which people of members log in."
    ),
    "consent": CommandEntry("consents:app", PEOPLE, "What a patient allows, and what follows from it."),
    "prohibition": CommandEntry(
        "prohibitions:app", PEOPLE, "What a patient forbids, whatever consents and policies say."
    ),
    "permit": CommandEntry("permits:app", PEOPLE, "Research on a data set: permits, and each use of them."),
    "policy": CommandEntry(
        "policies:app", PEOPLE, "Policy sets: who may do what, within what patients consent to."
    ),
    "object": CommandEntry("storing:app", PEOPLE, "Encrypted objects under their patients' keys."),
    "storage": CommandEntry(
        "bucket_verification:app", FACTS, "What lies in the bucket of encrypted objects."
    ),
}
