"""The law of a witness: what it ever let out of the house are prefixes of one tree."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.effort import tries
from tests.unit.witness.world import LOG, ORIGIN, WITNESS, FailingMemory, History, witness

from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.merkle import root_of
from salus.objects.memory import Fault
from salus.witness.adapters import sqlite
from salus.witness.adapters.sqlite import NoMemoryError, SqliteMemory
from salus.witness.domain import (
    Cosigned,
    InconsistentError,
    OtherSizeError,
    RefusedError,
    Request,
    TwoHistoriesError,
    encode_request,
    require_growth,
)
from salus.witness.handlers import Witness
from salus.witness.ports import ChangedMeanwhileError, ForgetfulError

SIZES = st.integers(0, 12)
HISTORIES = st.builds(History, name=st.sampled_from(["true", "other"]), fork=st.sampled_from([0, 3, 8]))
REQUESTS = st.lists(st.tuples(HISTORIES, SIZES, SIZES), min_size=1, max_size=30)


def is_prefix(smaller: Checkpoint, larger: tuple[History, Checkpoint]) -> bool:
    history, checkpoint = larger
    return (
        smaller.size <= checkpoint.size
        and root_of(history.leaves(checkpoint.size)[: smaller.size]) == smaller.root
    )


def require_one_tree(let_out: list[tuple[History, Checkpoint]]) -> None:
    for one, two in combinations(let_out, 2):
        small, large = sorted((one, two), key=lambda pair: pair[1].size)
        assert is_prefix(small[1], large)


@settings(max_examples=tries(100, long=10_000), deadline=None)
@given(
    requests=REQUESTS,
    faults=st.lists(st.sampled_from(list(Fault)), max_size=30),
    turns=st.lists(st.integers(0, 4), max_size=90),
    at_once=st.integers(1, 4),
    honest=st.booleans(),
    standing=st.integers(0, 2),
)
def test_two_cosigned_trees_are_prefixes_of_one_another_whatever_fails_or_races(  # noqa: PLR0917  # drawn
    requests: list[tuple[History, int, int]],
    faults: list[Fault],
    turns: list[int],
    at_once: int,
    honest: bool,  # noqa: FBT001  # drawn
    standing: int,
) -> None:
    memory = FailingMemory(faults, turns)
    let_out: list[tuple[History, Checkpoint]] = []
    # Those that stand guess what the memory holds by what they did; another has just been started.
    witnesses = [witness(memory) for _ in range(standing)]

    async def ask(history: History, old: int, size: int) -> None:
        if honest:
            last = memory.content.get(ORIGIN)
            old = last.size if last else 0
        with suppress(RefusedError, ForgetfulError):
            asked = witnesses[size % standing] if standing else witness(memory)
            lines = await asked.add_checkpoint(history.request(old, size))
            checkpoint, opened = open_checkpoint(history.note(size) + lines, LOG.verifier, [WITNESS.verifier])
            assert opened.verified == (ORIGIN, WITNESS.name)
            let_out.append((history, checkpoint))
            remembered = memory.content[ORIGIN]
            assert remembered.size >= checkpoint.size, "let out before it was remembered"

    async def run() -> None:
        for start in range(0, len(requests), at_once):
            await asyncio.gather(*(ask(*request) for request in requests[start : start + at_once]))

    asyncio.run(run())

    require_one_tree(let_out)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).map(sorted))
def test_a_log_that_only_grows_is_always_cosigned(sizes: list[int]) -> None:
    memory, history = FailingMemory(), History()

    async def run() -> None:
        old = 0
        for size in sizes:
            assert await witness(memory).add_checkpoint(history.request(old, size))
            old = size

    asyncio.run(run())

    assert memory.content[ORIGIN].size == sizes[-1]


async def test_processes_that_race_on_one_file_cosign_one_tree(
    open_memory: Callable[..., SqliteMemory],
) -> None:
    reading = open_memory(create=True)
    witnesses = [
        Witness({ORIGIN: [LOG.verifier]}, [WITNESS], open_memory(), seconds=lambda: 1) for _ in range(4)
    ]
    histories = [History("true", 4), History("other", 4)]
    let_out: list[tuple[History, Checkpoint]] = []

    async def ask(n: int, size: int) -> None:
        history, one = histories[n % 2], witnesses[n % 4]
        last = await reading.last(ORIGIN)
        with suppress(RefusedError):
            await one.add_checkpoint(history.request(last.size if last else 0, size))
            let_out.append((history, history.checkpoint(size)))

    for size in range(1, 9):
        await asyncio.gather(*(ask(n, size) for n in range(4)))

    require_one_tree(let_out)
    assert len({checkpoint.size for _, checkpoint in let_out}) > 4


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_both_memories_replace_only_what_they_were_shown(steps: list[tuple[int, int]]) -> None:
    """The fake keeps the contract of the file, so that what is proven over it holds for the file."""
    values: list[Cosigned | None] = [None, *(Cosigned(n, bytes([n]) * 32, b"note %d" % n) for n in (1, 2, 3))]

    async def outcomes(memory: SqliteMemory | FailingMemory) -> list[object]:
        found: list[object] = []
        for before, after in steps:
            value = values[after]
            if value is None:
                found.append(await memory.last(ORIGIN))
                continue
            try:
                await memory.replace(ORIGIN, values[before], partial(_the, value))
                found.append("replaced")
            except ChangedMeanwhileError:
                found.append("changed")
        return found

    with (
        TemporaryDirectory() as folder,
        closing(SqliteMemory.open(Path(folder) / "state.db", create=True)) as file,
    ):
        assert asyncio.run(outcomes(file)) == asyncio.run(outcomes(FailingMemory()))


async def test_what_is_remembered_is_in_the_file_itself_and_in_no_other_beside_it(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory]
) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "elsewhere" / "state.db"
    one = Witness({ORIGIN: [LOG.verifier]}, [WITNESS], open_memory(create=True), seconds=lambda: 1)
    await one.add_checkpoint(History().request(0, 3))
    # With a write-ahead log, whoever is last to close the file would move that into it.
    with closing(sqlite3.connect(path)) as another:
        another.execute("SELECT * FROM cosigned").fetchall()
        await one.add_checkpoint(History().request(3, 4))
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())

    with closing(SqliteMemory(copy)) as copied:
        last = await copied.last(ORIGIN)

    assert last is not None
    assert last.size == 4


async def test_a_memory_that_vanished_signs_nothing_and_is_not_made_anew(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory]
) -> None:
    memory = open_memory(create=True)
    one = Witness({ORIGIN: [LOG.verifier]}, [WITNESS], memory, seconds=lambda: 1)
    await one.add_checkpoint(History().request(0, 3))
    (tmp_path / "state.db").unlink()

    for request in (History("other").request(0, 3), History().request(3, 4)):
        with pytest.raises(ForgetfulError):
            await one.add_checkpoint(request)
    with pytest.raises(ForgetfulError):
        await memory.last(ORIGIN)
    assert not (tmp_path / "state.db").exists()


async def test_two_processes_that_make_one_state_file_keep_what_the_first_cosigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that started at once on a new disk: the slower one's empty file took the place of the first."""
    path, connect = tmp_path / "state.db", sqlite3.connect
    entered: list[Path] = []

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        if not entered:
            entered.append(path)
            with closing(SqliteMemory.open(path, create=True)) as first:
                first._replace(ORIGIN, None, lambda: Cosigned(3, bytes(32), b"note"))
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", meanwhile)
    with closing(SqliteMemory.open(path, create=True)) as second:
        assert await second.last(ORIGIN) == Cosigned(3, bytes(32), b"note")
    assert entered
    assert sorted(await asyncio.to_thread(os.listdir, tmp_path)) == ["state.db", "state.db-journal"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "another database"])
async def test_a_state_file_that_is_none_is_named_and_left_as_it_is(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory], damage: str
) -> None:
    """Case L1, sibling: the witness started, and said `no such table` for ever."""
    path = tmp_path / "state.db"
    memory = open_memory(create=True)
    await Witness({ORIGIN: [LOG.verifier]}, [WITNESS], memory, seconds=lambda: 1).add_checkpoint(
        History().request(0, 3)
    )
    memory.close()
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"other.example/log\n"}.get(damage, whole[:-4096]))
    if damage == "another database":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE cosigned (x)")
    before = path.read_bytes()

    for create in (False, True):
        with pytest.raises(NoMemoryError, match=f"{path} is not a witness's state file"):
            open_memory(create=create)
    assert path.read_bytes() == before


async def test_the_state_file_and_its_journal_are_their_owners_alone(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory]
) -> None:
    memory = open_memory(create=True)
    await Witness({ORIGIN: [LOG.verifier]}, [WITNESS], memory, seconds=lambda: 1).add_checkpoint(
        History().request(0, 3)
    )

    names = await asyncio.to_thread(os.listdir, tmp_path)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names}
    assert modes == {"state.db": 0o600, "state.db-journal": 0o600}


async def test_what_could_not_be_committed_is_not_remembered_and_does_not_stand_in_the_way(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S_MAX", 0.01)
    memory = open_memory(create=True)
    one = Witness({ORIGIN: [LOG.verifier]}, [WITNESS], memory, seconds=lambda: 1)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cosigned").fetchall()
        # It may begin and write beside a reader, but not commit.
        with pytest.raises(ForgetfulError, match="locked"):
            await one.add_checkpoint(History().request(0, 3))

    assert await memory.last(ORIGIN) is None
    assert await one.add_checkpoint(History().request(0, 3))


async def test_the_file_that_has_the_name_counts_and_not_the_one_that_had_it(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory]
) -> None:
    path, aside = tmp_path / "state.db", tmp_path / "aside.db"
    memory = open_memory(create=True)
    one = Witness({ORIGIN: [LOG.verifier]}, [WITNESS], memory, seconds=lambda: 1)
    await one.add_checkpoint(History().request(0, 3))
    aside.write_bytes(path.read_bytes())
    await one.add_checkpoint(History().request(3, 4))
    aside.replace(path)

    with pytest.raises(OtherSizeError) as told:
        await one.add_checkpoint(History().request(4, 5))
    assert told.value.size == 3
    assert await one.add_checkpoint(History().request(3, 5))


async def test_what_another_process_remembered_counts_and_not_what_one_remembered_before() -> None:
    memory = FailingMemory()
    one, other = witness(memory), witness(memory)
    await one.add_checkpoint(History().request(0, 3))
    await other.add_checkpoint(History().request(3, 6))

    with pytest.raises(OtherSizeError) as told:
        await one.add_checkpoint(History().request(3, 7))
    with pytest.raises(InconsistentError):
        await one.add_checkpoint(History("other").request(6, 7))
    assert told.value.size == 6
    assert [cosigned for cosigned, _ in memory.evidence] == [memory.content[ORIGIN].note]


async def test_a_witness_that_goes_on_from_its_own_cosignature_does_not_look_it_up() -> None:
    memory = FailingMemory()
    one = witness(memory)
    await one.add_checkpoint(History().request(0, 3))
    looked = memory.looked
    await one.add_checkpoint(History().request(3, 6))

    assert memory.looked == looked


# case F2
async def test_what_a_stranger_sends_is_kept_apart_and_displaces_no_evidence(
    tmp_path: Path, open_memory: Callable[..., SqliteMemory]
) -> None:
    true, path = History(), tmp_path / "state.db"
    one = Witness({ORIGIN: [LOG.verifier]}, [WITNESS], open_memory(create=True), seconds=lambda: 1)
    await one.add_checkpoint(true.request(0, 1))
    with closing(sqlite3.connect(path)) as earlier:
        assert earlier.execute("SELECT name FROM sqlite_master WHERE name = 'unproven'").fetchall() == []
    with capture_logs() as logs:
        for size in range(1, 102):
            # The log's own checkpoint, before the log itself asks, with a hash that does not belong.
            for public in (true.note(size), true.note(size + 1)):
                with pytest.raises(InconsistentError):
                    await one.add_checkpoint(encode_request(Request(size, (bytes(32),), public)))
            await one.add_checkpoint(true.request(size, size + 1))
    assert [line for line in logs if line["log_level"] == "error"] == []

    other = History("other", fork=50)
    with capture_logs() as logs, pytest.raises(TwoHistoriesError):
        await one.add_checkpoint(other.request(102, 102))

    with closing(sqlite3.connect(path)) as kept:
        evidence = kept.execute("SELECT refused FROM evidence").fetchall()
        unproven = kept.execute("SELECT refused FROM unproven ORDER BY rowid").fetchall()
    assert evidence == [(other.note(102),)]
    assert unproven == [(true.note(size),) for size in range(83, 103)]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a log signed two histories"]


# case F2
@given(
    old=st.integers(1, 12),
    size=st.integers(1, 12),
    fork=st.integers(0, 12),
    junk=st.lists(st.binary(min_size=32, max_size=32), max_size=5),
)
def test_no_proof_accuses_a_log_of_one_history(old: int, size: int, fork: int, junk: list[bytes]) -> None:
    true, other = History(), History("other", fork)
    old, size = sorted((old, size))
    last = Cosigned(old, true.checkpoint(old).root, b"")
    for proof in (tuple(junk), other.proof(old, size), (*true.proof(old, size), *junk)):
        assert outcome(Request(old, proof, b""), true.checkpoint(size), last) in {None, InconsistentError}


# case F2
@given(old=st.integers(1, 12), size=st.integers(1, 12))
def test_the_proof_of_another_history_accuses_its_log(old: int, size: int) -> None:
    true, other = History(), History("other")
    old, size = sorted((old, size))
    with pytest.raises(InconsistentError) as caught:
        require_growth(
            Request(old, other.proof(old, size), b""),
            other.checkpoint(size),
            Cosigned(old, true.checkpoint(old).root, b""),
        )

    # Where the old tree is a whole subtree, the proof leaves its root to the verifier.
    is_left_out = old < size and old & (old - 1) == 0
    assert isinstance(caught.value, TwoHistoriesError) is not is_left_out


def outcome(request: Request, checkpoint: Checkpoint, last: Cosigned) -> type[RefusedError] | None:
    """Return as what the checkpoint is refused, if it is."""
    try:
        require_growth(request, checkpoint, last)
    except RefusedError as error:
        return type(error)
    return None


def _the(value: Cosigned) -> Cosigned:
    return value


@pytest.fixture
def open_memory(tmp_path: Path) -> Iterator[Callable[..., SqliteMemory]]:
    with ExitStack() as opened:

        def one(*, create: bool = False) -> SqliteMemory:
            return opened.enter_context(closing(SqliteMemory.open(tmp_path / "state.db", create=create)))

        yield one
