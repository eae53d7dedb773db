"""Signed notes are read as C2SP says, and nothing that is not one is taken for one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.errors import KeyTextError, NoteError
from salus.ledger.note import (
    NoteSignature,
    NoteSigner,
    NoteVerifier,
    add_signatures,
    encode_vkey,
    is_key_name,
    open_note,
    parse_vkey,
    sign_note,
    split_note,
)

# Source: c2sp.org/signed-note, section "Example".
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# Source: the documentation of golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

ALICE = NoteSigner("alice.example", Ed25519PrivateKey.from_private_bytes(bytes(31) + b"a"))
BOB = NoteSigner("bob.example", Ed25519PrivateKey.from_private_bytes(bytes(31) + b"b"))
TEXT = "one\n\ntwo\n"
NOTE = sign_note(TEXT, [ALICE])
# Any text that a note may hold: no control characters but newline, ending in one.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=60).map(
    lambda text: text + "\n"
)


@pytest.mark.parametrize(("vkey", "note"), [(C2SP_VKEY, C2SP_NOTE), (GO_VKEY, GO_NOTE)])
def test_notes_of_others_are_opened(vkey: str, note: bytes) -> None:
    verifier = NoteVerifier.from_vkey(vkey)
    opened = open_note(note, [verifier])

    assert opened.verified == (verifier.name,)
    assert opened.text.encode() == note[: note.index("\n\n— ".encode()) + 1]
    assert verifier.vkey == vkey


@given(TEXTS)
def test_what_is_signed_is_opened_again(text: str) -> None:
    opened = open_note(sign_note(text, [ALICE, BOB]), [BOB.verifier, ALICE.verifier])

    assert opened.text == text
    assert opened.verified == (ALICE.name, BOB.name)
    assert opened.unverified == ()


@given(TEXTS, st.data())
def test_no_flipped_bit_of_a_note_verifies(text: str, data: st.DataObject) -> None:
    note = sign_note(text, [ALICE])
    bit = data.draw(st.integers(0, len(note) * 8 - 1))
    flipped = bytearray(note)
    flipped[bit // 8] ^= 1 << bit % 8

    with pytest.raises(NoteError):
        open_note(bytes(flipped), [ALICE.verifier])


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "ignore")))
def test_arbitrary_bytes_raise_nothing_but_the_packages_errors(data: bytes) -> None:
    for note in (data, TEXT.encode() + b"\n" + data, NOTE + data, data + NOTE):
        with suppress(NoteError):
            open_note(note, [ALICE.verifier])


@given(st.text(max_size=60))
def test_arbitrary_text_as_a_vkey_raises_nothing_but_the_packages_errors(text: str) -> None:
    for vkey in (text, "name+00000000+" + text, text + "+530d903a+AQ=="):
        with pytest.raises(KeyTextError):
            NoteVerifier.from_vkey(vkey)


def test_unknown_signatures_are_ignored_wherever_they_stand() -> None:
    mallory = NoteSignature("mallory.example", b"1234", b"anything of any length")
    same_name = NoteSignature(ALICE.name, b"1234", b"not hers")
    note = add_signatures(sign_note(TEXT, [BOB, ALICE]), [mallory, same_name])
    opened = open_note(note, [ALICE.verifier])

    assert opened.verified == (ALICE.name,)
    assert {signature.name for signature in opened.unverified} == {BOB.name, mallory.name, ALICE.name}


def test_a_note_without_a_known_signature_is_not_opened() -> None:
    with pytest.raises(NoteError, match="unverified"):
        open_note(NOTE, [BOB.verifier])


def test_a_wrong_signature_by_a_known_key_spoils_the_note() -> None:
    forged = NoteSignature(BOB.name, BOB.key_id, bytes(64))

    with pytest.raises(NoteError, match="invalid-signature"):
        open_note(add_signatures(NOTE, [forged]), [ALICE.verifier, BOB.verifier])


def test_a_second_signature_by_the_same_key_counts_once() -> None:
    line = split_note(NOTE)[1][0].line().encode()
    opened = open_note(NOTE + line, [ALICE.verifier])

    assert opened.verified == (ALICE.name,)
    assert len(opened.unverified) == 1
    assert add_signatures(NOTE, split_note(NOTE)[1]) == NOTE


def test_two_known_keys_with_one_name_and_id_are_refused() -> None:
    with pytest.raises(NoteError, match="ambiguous"):
        open_note(NOTE, [ALICE.verifier, ALICE.verifier])


def test_sixteen_signatures_and_up_to_a_hundred_are_read_and_no_more() -> None:
    def signed(count: int) -> bytes:
        others = [NoteSignature("other.example", i.to_bytes(4, "big"), b"s") for i in range(count - 1)]
        return add_signatures(NOTE, others)

    for count in (16, 100):
        assert open_note(signed(count), [ALICE.verifier]).verified == (ALICE.name,)
    with pytest.raises(NoteError, match="malformed"):
        open_note(signed(101), [ALICE.verifier])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"text\n",
        b"text\n\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"one", b"o\tne"),
        NOTE.replace(b"one", b"o\0ne"),
        NOTE.replace(b"one\n", b"one\r\n"),
        NOTE.replace(b"one", b"o\xffne"),
        NOTE.replace(b"one", b"o\xed\xa0\x80ne"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.replace("— ".encode(), "—  ".encode()),
        NOTE.replace(b"alice.example ", b"alice+example "),
        NOTE.replace(b"alice.example ", "alice\N{NO-BREAK SPACE}example ".encode()),
        NOTE.replace(b"alice.example ", b" "),
        NOTE.replace(b"=\n", b"\n"),
        NOTE[:-1] + b" \n",
        TEXT.encode() + b"\n" + "— alice.example AAAAAA==\n".encode(),
    ],
)
def test_what_is_not_exactly_a_note_is_malformed(note: bytes) -> None:
    with pytest.raises(NoteError, match="malformed"):
        open_note(note, [ALICE.verifier])


def test_a_note_beyond_the_limit_is_not_even_decoded() -> None:
    with pytest.raises(NoteError, match="malformed: a note of more than"):
        split_note(b"x" * 1_000_001 + NOTE)


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "carriage\r\n", "\ud800\n"])
def test_a_text_that_no_note_may_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError, match="malformed"):
        sign_note(text, [ALICE])


def test_a_note_has_at_least_one_signer() -> None:
    with pytest.raises(NoteError, match="malformed"):
        sign_note(TEXT, [])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb"])
def test_a_key_name_has_neither_space_nor_plus(name: str) -> None:
    assert not is_key_name(name)
    with pytest.raises(KeyTextError):
        NoteSigner(name, Ed25519PrivateKey.generate())
    with pytest.raises(KeyTextError):
        NoteVerifier(name, Ed25519PrivateKey.generate().public_key())


def test_a_key_name_may_be_of_any_alphabet() -> None:
    assert is_key_name("a.example/b")
    assert is_key_name("é")


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/foo",
        C2SP_VKEY.replace("530d903a", "530d903b"),
        C2SP_VKEY.replace("530d903a", "530D903A"),
        C2SP_VKEY.replace("foo", "bar"),
        C2SP_VKEY + "=",
        C2SP_VKEY + "\n",
        encode_vkey("short.example", 0x01, bytes(31)),
        encode_vkey("no key.example", 0x01, bytes(32)),
    ],
)
def test_a_vkey_whose_parts_do_not_belong_together_is_refused(vkey: str) -> None:
    with pytest.raises(KeyTextError, match="malformed-vkey"):
        NoteVerifier.from_vkey(vkey)


def test_a_key_of_another_algorithm_is_not_taken_for_ed25519() -> None:
    with pytest.raises(KeyTextError, match="unsupported-algorithm"):
        NoteVerifier.from_vkey(encode_vkey("witness.example", 0x04, bytes(32)))


def test_a_vkey_survives_the_round_trip() -> None:
    name, algorithm, public = parse_vkey(ALICE.vkey)

    assert encode_vkey(name, algorithm, public) == ALICE.vkey
    assert NoteVerifier.from_vkey(ALICE.vkey).key_id == ALICE.key_id


def test_golden_checkpoints_of_tessera_are_opened(data_folder: Path) -> None:
    folder = data_folder / "tlog" / "tessera-golden"
    verifier = NoteVerifier.from_vkey((folder / "VKEY.txt").read_text().strip())

    for note in folder.glob("checkpoint*"):
        assert open_note(note.read_bytes(), [verifier]).verified == (verifier.name,)
