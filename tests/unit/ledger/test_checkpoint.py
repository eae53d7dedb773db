"""Checkpoints have one form, and only the log's own signature makes one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import World

from salus.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from salus.ledger.errors import CheckpointError, NoteError
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import sign_note

# Source: c2sp.org/tlog-checkpoint.
C2SP_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
CHECKPOINTS = st.builds(
    Checkpoint,
    origin=LINES,
    size=st.integers(1, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(LINES, max_size=3).map(tuple),
) | st.builds(Checkpoint, origin=LINES, size=st.just(0), root=st.just(EMPTY_ROOT))


@given(CHECKPOINTS)
def test_parsing_undoes_formatting(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@given(st.text(max_size=120) | st.text(max_size=40).map(lambda text: C2SP_TEXT + text))
def test_arbitrary_text_is_refused_or_in_its_one_form(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except CheckpointError:
        return

    assert checkpoint.text() == text


def test_the_specifications_example_is_read() -> None:
    checkpoint = parse_checkpoint(C2SP_TEXT)

    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text() == C2SP_TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        C2SP_TEXT[:-1],
        C2SP_TEXT + "\n",
        "\n" + C2SP_TEXT,
        C2SP_TEXT.replace("2085", "02085"),
        C2SP_TEXT.replace("2085", "+2085"),
        C2SP_TEXT.replace("20852163", "0"),
        C2SP_TEXT.replace("20852163", "9223372036854775808"),
        C2SP_TEXT.replace("20852163", "٣"),
        C2SP_TEXT.replace("q2I=", "q2J="),
        C2SP_TEXT.replace("q2I=", "q2I"),
        C2SP_TEXT.replace("CsUY", ""),
        C2SP_TEXT.replace("CsUY", "CsÜY"),
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(CheckpointError, match="malformed"):
        parse_checkpoint(text)


def test_a_line_break_cannot_be_smuggled_into_a_line(world: World) -> None:
    with pytest.raises(CheckpointError):
        sign_checkpoint(Checkpoint(world.log.name, 1, bytes(32), ("a\nb",)), [world.log])


def test_only_the_logs_own_signature_makes_a_checkpoint(world: World) -> None:
    others = [witness.verifier for witness in world.witnesses]
    checkpoint, opened = open_checkpoint(world.checkpoint_note, world.log.verifier, others)

    assert checkpoint == world.checkpoint
    assert opened.verified == (world.log.name, *(witness.name for witness in world.witnesses[:2]))
    with pytest.raises(NoteError, match="unverified"):
        open_checkpoint(
            sign_note(checkpoint.text(), [world.shard]), world.log.verifier, [world.shard.verifier]
        )


def test_another_logs_checkpoint_is_refused_even_if_the_key_signed_it(world: World) -> None:
    other = Checkpoint("salus.example/other", 1, bytes(32))

    with pytest.raises(CheckpointError, match="origin"):
        open_checkpoint(sign_checkpoint(other, [world.log]), world.log.verifier)
