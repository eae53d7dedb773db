"""Policy files are read as c2sp.org/tlog-policy says, and whoever writes a wrong one is told the line."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import key_of
from tests.unit.ledger.test_quorum import MLDSA, VERIFIERS, quorums

from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import PolicyError
from salus.ledger.note import NoteSigner
from salus.ledger.quorum import Group, Quorum
from salus.ledger.tlog_policy import LOGS_MAX, POLICY_BYTES_MAX, Log, TlogPolicy, parse_tlog_policy

LOG = NoteSigner("log.example", key_of("log"))
W = [verifier.vkey for verifier in VERIFIERS]
# Source: c2sp.org/tlog-policy, "Example policy", with keys in place.
EXAMPLE = f"""\
log {LOG.vkey}

witness X1 {W[0]}
witness X2 {W[1]}
witness X3 {W[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {W[3]}
witness Y2 {W[4]}
witness Y3 {W[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_specifications_example_is_read() -> None:
    policy = parse_tlog_policy(EXAMPLE.encode())

    assert [log.verifier.vkey for log in policy.logs] == [LOG.vkey]
    assert [(w.name, w.verifier.vkey) for w in policy.quorum.witnesses] == [
        *((f"X{n + 1}", W[n]) for n in range(3)),
        *((f"Y{n + 1}", W[n + 3]) for n in range(3)),
    ]
    assert policy.quorum.groups == (
        Group("X-witnesses", 2, ("X1", "X2", "X3")),
        Group("Y-witnesses", 1, ("Y1", "Y2", "Y3")),
        Group("X-and-Y", 2, ("X-witnesses", "Y-witnesses")),
    )
    assert policy.quorum.required == "X-and-Y"


def test_white_space_comments_and_urls_are_read() -> None:
    text = (
        f"\t# héllo\n \n  log\t{LOG.vkey}  https://log.example/#here \n"
        f"witness \t w {W[0]} https://w.example \nquorum w\n#the end\n"
    )
    policy = parse_tlog_policy(text.encode())

    assert policy.logs[0].url == "https://log.example/#here"
    assert policy.quorum.url_of == {VERIFIERS[0].name: "https://w.example"}


def test_names_are_octets_and_keys_may_be_mldsa() -> None:
    key = CosignatureSigner("wörld.example", MLDSA).vkey
    text = b"witness \xff\xfe\xc2\xa0 " + key.encode() + b"\nquorum \xff\xfe\xc2\xa0\n"
    policy = parse_tlog_policy(text)

    assert policy.encode() == text
    assert policy.quorum.verifiers[0].vkey == key
    with pytest.raises(PolicyError, match="line 2"):
        parse_tlog_policy(text.replace(b"quorum \xff\xfe", b"quorum \xff\xfd"))


@given(quorum=quorums(), logs=st.integers(0, 3), url=st.none() | st.just("https://log.example/#x"))
def test_reading_undoes_writing(quorum: Quorum, logs: int, url: str | None) -> None:
    known = tuple(Log(NoteSigner(f"log{n}", key_of(f"log{n}")).verifier, url) for n in range(logs))
    policy = TlogPolicy(known, quorum)
    again = parse_tlog_policy(policy.encode())

    assert again.lines() == policy.lines()
    assert (again.quorum.groups, again.quorum.required) == (quorum.groups, quorum.required)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no quorum line"),
        ("quorum none", "line 1: no newline at the end"),
        ("quorum none\nquorum none\n", "line 2: a second quorum line"),
        ("\n\nquorum w\n", "line 3: the quorum w is not defined before it"),
        ("quorum w\nwitness w {w0}\n", "line 1: the quorum w is not defined before it"),
        ("quorum\n", "line 1: not 'quorum NAME'"),
        ("quorum none none\n", "line 1: not 'quorum NAME'"),
        ("log\nquorum none\n", r"line 1: not 'log VKEY \[URL\]'"),
        ("log {log} a b\nquorum none\n", r"line 1: not 'log VKEY \[URL\]'"),
        ("log {w0}\nquorum none\n", "line 1: type 0x04, not Ed25519"),
        ("log {log}\nlog {log}\nquorum none\n", "line 2: a log has the public key of another"),
        ("log {log} \nlog {renamed}\nquorum none\n", "line 2: a log has the public key of another"),
        ("witness w\nquorum none\n", r"line 1: not 'witness NAME VKEY \[URL\]'"),
        ("witness w {log}\nquorum none\n", "line 1: type 0x01 is no cosignature"),
        ("witness w {w0}x\nquorum none\n", "line 1: not of the form NAME"),
        ("witness w {w0}\nwitness w {w1}\nquorum w\n", "line 2: w is defined already"),
        ("witness w {w0}\nwitness v {w0}\nquorum w\n", "line 2: a witness has the public key of another"),
        ("witness none {w0}\nquorum none\n", "line 1: nobody may be called none"),
        ("witness w {w0}\ngroup g any\nquorum g\n", "line 2: not 'group NAME"),
        ("witness w {w0}\ngroup g some w\nquorum g\n", "line 2: 'some' is none of any, all and a number"),
        ("witness w {w0}\ngroup g 01 w\nquorum g\n", "line 2: '01' is none of"),
        ("witness w {w0}\ngroup g 0 w\nquorum g\n", "line 2: group g asks for 0 of 1"),
        ("witness w {w0}\ngroup g 2 w\nquorum g\n", "line 2: group g asks for 2 of 1"),
        ("witness w {w0}\ngroup g any v\nwitness v {w1}\nquorum g\n", "line 2: v in group g is not defined"),
        ("witness w {w0}\ngroup g any w w\nquorum g\n", "line 2: w is a member twice"),
        ("Quorum none\n", "line 1: 'Quorum' is none of"),
        ("shard x\nquorum none\n", "line 1: 'shard' is none of"),
        ("quorum none\r\n", "line 1: the octet 0x0d"),
        ("# a\x00b\nquorum none\n", "line 1: the octet 0x00"),
        ("\xa0quorum none\n", r"line 1: '\\xa0quorum' is none of"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, says: str) -> None:
    renamed = NoteSigner("renamed.example", key_of("log")).vkey
    text = text.format(log=LOG.vkey, renamed=renamed, w0=W[0], w1=W[1])

    with pytest.raises(PolicyError, match=f"malformed-policy: {says}"):
        parse_tlog_policy(text.encode())


@given(st.binary(max_size=80) | st.text(alphabet="logquruwites npy\t\n#1", max_size=80).map(str.encode))
def test_arbitrary_bytes_are_a_policy_or_are_refused(data: bytes) -> None:
    for text in (data, EXAMPLE.encode() + data, data + EXAMPLE.encode()):
        with suppress(PolicyError):
            policy = parse_tlog_policy(text)
            assert parse_tlog_policy(policy.encode()).lines() == policy.lines()


@given(st.data())
def test_no_file_that_was_cut_short_asks_for_less(data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(EXAMPLE) - 1))

    with pytest.raises(PolicyError):
        parse_tlog_policy(EXAMPLE.encode()[:cut])


def test_a_file_has_a_largest_size_and_a_most_of_logs() -> None:
    logs = [Log(NoteSigner(f"log{n}", key_of(f"log{n}")).verifier) for n in range(LOGS_MAX + 1)]

    with pytest.raises(PolicyError, match=f"more than {LOGS_MAX} logs"):
        TlogPolicy(tuple(logs), Quorum())
    with pytest.raises(PolicyError, match=f"more than {POLICY_BYTES_MAX} bytes"):
        parse_tlog_policy(b"quorum none\n" + b"\n" * POLICY_BYTES_MAX)


def test_a_url_that_would_break_its_line_is_not_written() -> None:
    with pytest.raises(PolicyError, match="is not a URL"):
        TlogPolicy((Log(LOG.verifier, "https://log.example/ x"),), Quorum()).encode()


def test_what_is_said_of_a_name_that_is_not_utf_8_can_be_written() -> None:
    one, other = (CosignatureSigner(f"w{n}.example", key_of(f"w{n}")).vkey.encode() for n in (1, 2))

    with pytest.raises(PolicyError) as refused:
        parse_tlog_policy(b"witness n\xff " + one + b"\nwitness n\xff " + other + b"\nquorum none\n")

    assert rb"n\udcff" in str(refused.value).encode() + refused.value.detail.encode()
