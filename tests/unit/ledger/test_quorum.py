"""Groups of witnesses are counted as c2sp.org/tlog-policy says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import key_of

from salus.ledger.cosignature import CosignatureSigner, CosignatureVerifier
from salus.ledger.errors import PolicyError
from salus.ledger.quorum import DEFINITIONS_MAX, Group, Quorum, Witness

VERIFIERS = [CosignatureSigner(f"w{n}.example", key_of(f"w{n}")).verifier for n in range(8)]
WITNESSES = tuple(Witness(f"w{n}", verifier) for n, verifier in enumerate(VERIFIERS))
MLDSA = MLDSA44PrivateKey.from_seed_bytes(bytes(32))


@st.composite
def quorums(draw: st.DrawFn) -> Quorum:
    """Draw witnesses and a forest of groups over them: each name is a member once at most."""
    witnesses = WITNESSES[: draw(st.integers(0, len(WITNESSES)))]
    free = [witness.name for witness in witnesses]
    groups: list[Group] = []
    while free and len(groups) < 6 and draw(st.booleans()):
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        free = [name for name in free if name not in members]
        groups.append(Group(f"g{len(groups)}", draw(st.integers(1, len(members))), tuple(members)))
        free.append(groups[-1].name)
    names = ["none", *(witness.name for witness in witnesses), *(group.name for group in groups)]
    return Quorum(witnesses, tuple(groups), draw(st.sampled_from(names)))


def holds(quorum: Quorum, name: str, cosigned: set[str]) -> bool:
    """Decide by the text of the specification: a group holds if some `k` of its members all do."""
    if name == "none":
        return True
    group = next((group for group in quorum.groups if group.name == name), None)
    if group is None:
        return name in cosigned
    return any(
        all(holds(quorum, member, cosigned) for member in chosen)
        for chosen in combinations(group.members, group.threshold)
    )


@given(quorum=quorums(), data=st.data())
def test_a_quorum_is_met_exactly_if_the_specification_says_so(quorum: Quorum, data: st.DataObject) -> None:
    cosigned = data.draw(st.sets(st.sampled_from(WITNESSES)))
    keys = {witness.key for witness in cosigned}
    known = {witness.name for witness in cosigned} & {witness.name for witness in quorum.witnesses}

    assert quorum.is_met(keys) == holds(quorum, quorum.required, known)
    assert (quorum.shortfall(keys) is None) == quorum.is_met(keys)


@given(quorum=quorums(), data=st.data())
def test_one_more_cosignature_never_undoes_a_quorum(quorum: Quorum, data: st.DataObject) -> None:
    keys = {witness.key for witness in data.draw(st.sets(st.sampled_from(WITNESSES)))}
    more = keys | {data.draw(st.sampled_from(WITNESSES)).key}

    assert quorum.is_met(more) or not quorum.is_met(keys)


def test_the_specifications_example_asks_for_two_of_one_kind_and_one_of_the_other() -> None:
    x, y = ("w0", "w1", "w2"), ("w3", "w4", "w5")
    groups = (Group("X", 2, x), Group("Y", 1, y), Group("X-and-Y", 2, ("X", "Y")))
    quorum = Quorum(WITNESSES[:6], groups, "X-and-Y")

    def short(*numbers: int) -> str | None:
        return quorum.shortfall({WITNESSES[n].key for n in numbers})

    assert short(0, 2, 4) is None
    assert short(0, 1, 2) == "X-and-Y has 1 of 2, without Y; Y has 0 of 1, without w3, w4, w5"
    assert short(0, 4) == "X-and-Y has 1 of 2, without X; X has 1 of 2, without w1, w2"
    assert short(7) == (
        "X-and-Y has 0 of 2, without X, Y; X has 0 of 2, without w0, w1, w2; Y has 0 of 1, without w3, w4, w5"
    )


def test_a_key_id_under_another_name_counts_for_nothing() -> None:
    quorum = Quorum(WITNESSES[:1], (), "w0")

    assert not quorum.is_met({("w1.example", WITNESSES[0].key[1])})
    assert quorum.shortfall(set()) == "w0 has not cosigned"


Make = Callable[[], Quorum]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Quorum((), (), "w0"), "the quorum w0 is not defined"),
        (lambda: Quorum(WITNESSES[:1] * 2), "w0 is defined already"),
        (lambda: Quorum((WITNESSES[0], Witness("other", VERIFIERS[0]))), "the public key of another"),
        (lambda: Quorum((Witness("none", VERIFIERS[0]),)), "nobody may be called none"),
        (lambda: Quorum((Witness("a b", VERIFIERS[0]),)), "'a b' is not a name"),
        (lambda: Quorum((Witness("", VERIFIERS[0]),)), "'' is not a name"),
        (lambda: Quorum(WITNESSES, (Group("g", 0, ("w0",)),)), "g asks for 0 of 1"),
        (lambda: Quorum(WITNESSES, (Group("g", 2, ("w0",)),)), "g asks for 2 of 1"),
        (lambda: Quorum(WITNESSES, (Group("g", 1, ("none",)),)), "none in group g"),
        (lambda: Quorum(WITNESSES, (Group("g", 1, ("g",)),)), "g in group g is not defined"),
        (lambda: Quorum(WITNESSES, (Group("w0", 1, ("w1",)),)), "w0 is defined already"),
        (lambda: Quorum(WITNESSES, (Group("g", 1, ("w0", "w0")),)), "w0 is a member twice"),
        (
            lambda: Quorum(WITNESSES, (Group("g", 1, ("w0",)), Group("h", 1, ("w1", "w0")))),
            "w0 is a member twice",
        ),
        (
            lambda: Quorum((), tuple(Group(f"g{n}", 1, ("x",)) for n in range(DEFINITIONS_MAX + 1))),
            f"more than {DEFINITIONS_MAX}",
        ),
    ],
)
def test_what_is_no_quorum_is_refused_and_named(make: Make, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        make()


@given(st.integers(0, 8), st.integers(0, 8))
def test_k_of_n_is_met_by_any_k(k: int, n: int) -> None:
    if k > n:
        with pytest.raises(PolicyError, match=f"a quorum of {k} out of {n}"):
            Quorum.of(k, VERIFIERS[:n])
        return
    quorum = Quorum.of(k, VERIFIERS[:n])

    assert quorum.verifiers == tuple(VERIFIERS[:n])
    for size in range(n + 1):
        assert quorum.is_met({witness.key for witness in WITNESSES[n - size : n]}) == (size >= k)


@pytest.mark.parametrize("others", [0, 1])
def test_a_witness_with_two_keys_counts_once(others: int) -> None:
    both = CosignatureSigner("w0.example", MLDSA).verifier
    verifiers: list[CosignatureVerifier] = [VERIFIERS[0], both, *VERIFIERS[1 : 1 + others]]
    quorum = Quorum.of(1 + others, verifiers)
    own = [(v.name, v.key_id) for v in verifiers[:2]]

    assert [witness.name for witness in quorum.witnesses[:2]] == [
        "w0.example:ed25519",
        "w0.example:ml-dsa-44",
    ]
    for keys in ({own[0]}, {own[1]}, set(own)):
        assert quorum.is_met(keys) == (others == 0)
        assert quorum.is_met({*keys, *(witness.key for witness in WITNESSES[1:])})


def test_urls_go_with_the_witnesses() -> None:
    quorum = Quorum.of(1, VERIFIERS[:2], urls=["https://a.example", "https://b.example"])

    assert quorum.url_of == {"w0.example": "https://a.example", "w1.example": "https://b.example"}
    with pytest.raises(PolicyError, match="1 URLs of 2"):
        Quorum.of(1, VERIFIERS[:2], urls=["https://a.example"])
