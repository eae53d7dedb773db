"""Where the story is told: every claim is checked as it is made, and remembered for the table at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.panel import Panel
from rich.text import Text

from salus.archive.fsck import StoreAddress, fsck
from salus.archive.report import Report
from salus.archive.trust import Trust
from salus.cli.demo.cast import Answer, Caller, Cast
from salus.cli.demo.patients import SyntheticPatient
from salus.cli.display import Screen, styled
from salus.devkit.platform import Platform
from salus.objects import S3Objects

WORKERS = os.cpu_count() or 1


class NotAsToldError(Exception):
    """Something was not as the story says; the demo ends with exit code 1."""


@dataclass
class Claim:
    """One thing that was shown, and what it was seen by."""

    chapter: str
    claim: str
    evidence: str


@dataclass
class Figure:
    """One thing that was measured in this very run."""

    what: str
    value: str


@dataclass
class Known:
    """A patient on the network: the synthetic person, her pseudonym, her key and her record's object."""

    person: SyntheticPatient
    pseudonym: str
    key: str
    public_key: bytes
    object: str = ""


@dataclass
class Stage:
    """The running platform, the cast, and what has been shown so far."""

    console: Screen
    platform: Platform
    caller: Caller
    cast: Cast
    patients: list[SyntheticPatient]
    folder: Path
    known: list[Known] = field(default_factory=list)
    heroine: int = 0
    claims: list[Claim] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _chapter: str = ""

    @property
    def her(self) -> Known:
        """The patient that the story is about."""
        return self.known[self.heroine]

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""
        self._chapter = title
        self.console.print()
        self.console.print(
            Panel(text, title=styled("[bold]{}[/]", title), title_align="left", border_style="cyan")
        )

    def say(self, text: str | Text) -> None:
        """Tell something that happens."""
        self.console.print(styled("  {}", text))

    def show(self, claim: str, holds: object, *, evidence: str) -> None:
        """Check a claim and remember it.

        Raises:
            NotAsToldError: it does not hold.
        """
        if not holds:
            raise NotAsToldError(f"{self._chapter}: {claim}, but: {evidence}")
        self.claims.append(Claim(self._chapter, claim, evidence))
        self.console.print(styled("  [green]✓[/] {} [dim]({})[/]", claim, evidence))

    def require(self, answer: Answer, *statuses: int) -> Answer:
        """Return the answer of a call that the story needs; raises NotAsToldError."""
        if answer.status not in statuses:
            raise NotAsToldError(f"{self._chapter}: a service answered {answer.status} {answer.code}")
        return answer

    def measured(self, what: str, value: str) -> None:
        """Remember a figure."""
        self.figures.append(Figure(what, value))
        self.console.print(styled("  [blue]◷[/] {}: [bold]{}[/]", what, value))

    @contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Give a list whose only item is, afterwards, the seconds that the block took."""
        taken: list[float] = []
        began = time.perf_counter()
        yield taken
        taken.append(time.perf_counter() - began)

    def bucket(self, name: str) -> S3Objects:
        """Open a bucket as whoever runs the store can: past every service."""
        return self.platform.bucket(name)

    async def fsck(self) -> Report:
        """Re-hash the whole ledger from the store, and judge every signature again."""
        s3 = self.platform.s3
        source = StoreAddress(
            endpoint=s3.endpoint,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            ledger_bucket="salus-ledger",
            log_bucket="salus-log",
        )
        trust = Trust.from_network(self.platform.network.file.read_bytes())
        return await fsck(source, trust, workers=WORKERS, deep=True)
