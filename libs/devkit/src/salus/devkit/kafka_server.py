"""One Kafka broker in KRaft mode, from Kafka's own jars, on free loopback ports."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from salus.crypto.private_files import UMASK, write_private
from salus.devkit.cache import cached, is_cached
from salus.devkit.errors import MissingToolError, StartError
from salus.devkit.free_ports import HOST, free_ports, listens
from salus.devkit.kafka_accounts import ADMINISTRATOR, KafkaAccounts
from salus.devkit.narration import Narrator
from salus.devkit.processes import STOP_GRACE_S, Place, ProcessRecord, is_alive, spawn, stop
from salus.devkit.tools import missing, run_tool
from salus.devkit.waiting import until
from salus.messaging import MESSAGE_BYTES_MAX, Bootstrap, Brokers, MessagingError, ping

START_ATTEMPTS_MAX = 3
START_S_MAX = 60.0
HEAP = "768m"
CLASSES = "kafka.jsa"
JAVA_VERSION_MIN = 17

# A combined controller and broker. The broker's clock stamps the records, for keys are judged by that
# time and a sender must not choose it. Topics are made on purpose, never by a typing mistake. The dedupe
# buffer and the internal topics are small because this is one process on a laptop.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={message_bytes_max}
replica.fetch.max.bytes={message_bytes_max}
log.message.timestamp.type=LogAppendTime
log.retention.ms=-1
log.retention.bytes=-1
compression.type=uncompressed
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
socket.send.buffer.bytes=-1
num.io.threads=4
"""
# Without accounts: everybody on this machine may do everything.
_OPEN_LISTENERS = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


def _pom() -> tuple[str, str]:
    text = files("salus.devkit").joinpath("kafka-pom.xml").read_text()
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def kafka_version() -> str:
    """Return the name under which Kafka's jars are cached: a digest of what is fetched."""
    return _pom()[1]


def kafka_needs() -> list[str]:
    """Return the programs that Kafka needs on this machine and that are missing."""
    return [*missing("java"), *([] if is_cached("kafka", kafka_version()) else missing("mvn"))]


async def kafka_classpath(narrator: Narrator) -> str:
    """Return the Java class path of Kafka and its tools, fetching the jars the first time.

    Raises:
        MissingToolError: there is no Java, or no Maven to fetch with.
    """
    if missing("java"):
        raise MissingToolError("Kafka needs Java 17 or newer: there is no `java` on the PATH")
    pom, version = _pom()

    async def fetch(folder: Path) -> None:
        if missing("mvn"):
            raise MissingToolError("fetching Kafka needs Maven: there is no `mvn` on the PATH")
        narrator.step("fetching Kafka's jars with Maven (once, about 55 MB)")
        file = folder / "pom.xml"
        file.write_text(pom)
        command = [
            "mvn",
            "-B",
            "-ntp",
            "-f",
            str(file),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ]
        await run_tool("Maven", [*command, f"-DoutputDirectory={folder / 'libs'}"], narrator)

    return str(await cached("kafka", version, fetch, narrator) / "libs" / "*")


async def loaded_classes(classpath: str, narrator: Narrator) -> Path | None:
    """Return Java's archive of the classes that Kafka loads, made by one start of Kafka the first time.

    With it a start takes half the time. It fits one Java and one set of jars; Java itself ignores it
    otherwise. There is none if it could not be made, for Kafka runs without it as well.

    Raises:
        MissingToolError: this Java is too old for Kafka.
    """
    java = await run_tool("java -version", ["java", "-version"], narrator, timeout_s=60.0)
    _require_version(java)
    version = hashlib.sha256(f"{classpath}\n{java}".encode()).hexdigest()[:16]

    async def rehearse(folder: Path) -> None:
        narrator.step("starting Kafka once to remember which classes it loads")
        place = Place(folder / "rehearsal", folder, detached=False)
        flags = [f"-XX:ArchiveClassesAtExit={folder / CLASSES}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        server = KafkaServer(place, narrator, java_flags=flags)
        try:
            await server.start()
        finally:
            await server.stop(grace_s=START_S_MAX)
        shutil.rmtree(place.folder)

    try:
        found = await cached("kafka-classes", version, rehearse, narrator) / CLASSES
    except StartError:
        return None
    return found if found.exists() else None


def _require_version(told: str) -> None:
    found = re.search(r'version "(\d+)', told)
    if found is not None and int(found[1]) < JAVA_VERSION_MIN:
        line = told.partition("\n")[0]
        raise MissingToolError(f"Kafka needs Java {JAVA_VERSION_MIN} or newer, and `java` is {line}")


class KafkaServer:
    """A broker whose data is in `data` of its place; it can be stopped and started again on the same port.

    With `accounts` it refuses whoever has none, and allows the others what an ACL says.
    """

    def __init__(
        self,
        place: Place,
        narrator: Narrator,
        *,
        java_flags: Sequence[str] | None = None,
        accounts: KafkaAccounts | None = None,
    ) -> None:
        self._place = place
        self._java_flags = java_flags
        self._accounts = accounts
        self._folder = place.folder
        self._narrator = narrator
        self._ports: list[int] = []
        self.process: ProcessRecord | None = None

    @property
    def bootstrap(self) -> str:
        """The broker's address, host:port."""
        return f"{HOST}:{self._ports[0]}"

    @property
    def scram_bootstrap(self) -> str:
        """The address for accounts with a password, if there are accounts."""
        return f"{HOST}:{self._ports[2]}"

    @property
    def administration(self) -> Bootstrap:
        """The broker as whoever runs it speaks to it."""
        if self._accounts is None:
            return self.bootstrap
        return Brokers(self.bootstrap, self._accounts.account(ADMINISTRATOR))

    async def start(self, *, preferred: tuple[int, ...] = ()) -> ProcessRecord:
        """Start the broker and return when it answers.

        Raises:
            StartError: it does not answer in time.
        """
        classpath = await kafka_classpath(self._narrator)
        if self._java_flags is None:
            classes = await loaded_classes(classpath, self._narrator)
            self._java_flags = [f"-XX:SharedArchiveFile={classes}", "-Xlog:cds=off"] if classes else []
        preferred = preferred or tuple(self._ports[:1])
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            self._ports = [*free_ports(1, preferred=preferred), *free_ports(2)]
            await self._format(classpath)
            self.process = self._spawn(classpath)
            if await until(self._answers_or_died, deadline_s=START_S_MAX) and is_alive(self.process):
                return self.process
            tail = self.process.log_tail()
            await stop(self.process)
            # Between our look and its bind another program may have taken the port.
            if "Address already in use" not in tail or attempt == START_ATTEMPTS_MAX:
                raise StartError("Kafka", "does not answer", log_tail=tail)
        raise StartError("Kafka", "found no free port")

    def adopt(self, process: ProcessRecord | None, ports: tuple[int, ...]) -> None:
        """Take over a server that another invocation started."""
        self.process = process
        self._ports = list(ports)

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Stop the broker; its data stays."""
        if self.process is not None:
            await stop(self.process, grace_s=grace_s)

    async def _answers_or_died(self) -> bool:
        if self.process is None or not is_alive(self.process):
            return True
        if not await listens(self._ports[0]):
            return False
        try:
            await ping(self.administration)
        except MessagingError:
            return False
        return True

    async def _format(self, classpath: str) -> None:
        properties = self._folder / "server.properties"
        port, controller_port, scram_port = self._ports
        if self._accounts is None:
            listeners = _OPEN_LISTENERS.format(host=HOST, port=port, controller_port=controller_port)
        else:
            listeners = self._accounts.listeners(
                port=port, controller_port=controller_port, scram_port=scram_port
            )
        content = listeners + _PROPERTIES.format(
            host=HOST,
            controller_port=controller_port,
            data=self._folder / "data",
            message_bytes_max=MESSAGE_BYTES_MAX,
        )
        write_private(properties, content.encode())
        if (self._folder / "data" / "meta.properties").exists():
            return
        # An id that begins with a hyphen would be taken for an option.
        cluster = "S" + urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()[1:]
        java = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", *self._read_flags(), "-cp", classpath]
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        arguments += [] if self._accounts is None else self._accounts.format_arguments()
        await run_tool(
            "formatting Kafka's storage", [*java, *arguments], self._narrator, timeout_s=60.0, umask=UMASK
        )

    def _read_flags(self) -> list[str]:
        # The tool must not write the archive that the broker is to write.
        return [flag for flag in self._java_flags or () if "ArchiveClassesAtExit" not in flag]

    def _spawn(self, classpath: str) -> ProcessRecord:
        quiet = [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        heap = [f"-Xmx{HEAP}", "-Xms256m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError"]
        # At 5,000 events a second the broker takes a quarter of a core so, and in its first 15 s two to three
        # times as much while the optimising compiler works beside it: longer than most of these brokers live.
        compiling = "-XX:TieredStopAtLevel=1"
        java = ["java", *heap, compiling, *(self._java_flags or ()), *quiet]
        command = [*java, "-cp", classpath, "kafka.Kafka"]
        command.append(str(self._folder / "server.properties"))
        return spawn("kafka", command, self._place, env=os.environ)
