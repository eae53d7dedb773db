"""`salus demo`: starts a platform of its own, plays the story, and says what was shown and measured."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.table import Table

from salus.cli.console import narration
from salus.cli.demo import access, opening, proof
from salus.cli.demo.cast import Caller, new_cast
from salus.cli.demo.patients import SyntheticPatient, load_patients
from salus.cli.demo.stage import NotAsToldError, Stage
from salus.cli.display import Screen, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.state import KafkaAccounts, demo_folder
from salus.devkit.errors import NotRunningError
from salus.devkit.platform import Platform
from salus.devkit.run_record import StateFolder

HEROINE = "Concepción"
CHAPTERS = (
    opening.organisations_join,
    opening.records_go_off_chain,
    opening.events_go_onto_the_ledger,
    access.consent_opens,
    access.revocation_closes,
    access.glass_breaks,
    access.the_soc_sees_it_all,
    proof.a_receipt_stands_alone,
    proof.damage_is_named,
    proof.she_is_erased,
)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running to look at.")] = False,
    patients: Annotated[
        Path | None,
        typer.Option(help="Folder of Synthea bundles (*.json.gz); those of the checkout by default."),
    ] = None,
    kafka_accounts: KafkaAccounts = False,
    svg: Annotated[Path | None, typer.Option(help="Also write the summary as a picture.")] = None,
) -> None:
    """Play the whole story on real Kafka and MinIO, with real synthetic patients, in about two minutes."""
    console = Screen(record=svg is not None, width=110 if svg else None)
    began = time.perf_counter()
    try:
        people = load_patients(patients or _patients_folder())
        run_until_signal(_play(console, people, keep=keep, kafka_accounts=kafka_accounts, began=began))
    except NotAsToldError as error:
        raise CommandError(Exit.NO, f"not as told. {error}") from None
    if svg is not None:
        svg.write_text(_without_remote_fonts(console.export_svg(title="salus demo")))


def _without_remote_fonts(svg: str) -> str:
    """Return the picture without fonts from elsewhere: who looks at it should not be seen doing so."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _patients_folder() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "examples" / "patients").is_dir():
            return folder / "examples" / "patients"
    raise CommandError(Exit.USAGE, "this is not a checkout: give --patients FOLDER with Synthea bundles")


async def _play(
    console: Screen, people: list[SyntheticPatient], *, keep: bool, kafka_accounts: bool, began: float
) -> None:
    folder = demo_folder()
    await _clear(folder)
    async with AsyncExitStack() as stack:
        with narration() as narrator:
            made = Platform(folder, detached=keep, narrator=narrator, kafka_accounts=kafka_accounts)
            platform = await stack.enter_async_context(made)
            await platform.start()
        ready = time.perf_counter() - began
        async with httpx.AsyncClient(trust_env=False) as http:
            urls = {name: service.url for name, service in platform.services.items()}
            heroine = HEROINE if any(person.name == HEROINE for person in people) else people[0].name
            stage = Stage(
                console,
                platform,
                Caller(http, urls, platform.network.read()["origin"]),
                new_cast(heroine),
                people,
                folder,
            )
            stage.measured(f"Kafka, MinIO and {len(stage.platform.services)} services up", f"{ready:.1f} s")
            for chapter in CHAPTERS:
                await chapter(stage)
        _summarise(stage, seconds=time.perf_counter() - began, keep=keep)


async def _clear(folder: Path) -> None:
    """Stop and remove what an earlier demo left: the story damages its ledger, so it never reuses one."""
    with suppress(NotRunningError):
        await Platform.attach(folder).stop()
    StateFolder(folder).erase()


def _summarise(stage: Stage, *, seconds: float, keep: bool) -> None:
    shown = Table(
        "chapter", "what was shown", "seen by", title="Shown", title_justify="left", show_lines=False
    )
    chapter = ""
    for claim in stage.claims:
        shown.add_row(
            "" if claim.chapter == chapter else claim.chapter,
            styled("[green]✓[/] {}", claim.claim),
            claim.evidence,
        )
        chapter = claim.chapter
    measured = Table("what", "value", title="Measured in this run", title_justify="left")
    for figure in stage.figures:
        measured.add_row(figure.what, figure.value)
    measured.add_row("the whole demo", f"{seconds:.0f} s")
    if stage.console.record:
        # The picture shows the summary alone.
        stage.console.export_text()
    stage.console.print()
    stage.console.print(shown)
    stage.console.print(measured)
    if not keep:
        stage.console.print(
            styled("All of it has been stopped; [bold]make demo DEMO=--keep[/] leaves it running to look at.")
        )
        return
    where = Table("service", "API documentation", title="Still running", title_justify="left")
    for name, service in stage.platform.services.items():
        where.add_row(name, f"{service.url}/docs")
    where.add_row("log", f"{stage.platform.service_url('anchoring')}/log/checkpoint")
    stage.console.print(where)
    stage.console.print(
        styled("[bold]salus status[/], [bold]salus audit tail[/], and [bold]salus down[/] to stop.")
    )
