"""The operator's file that says whose account at Kafka is whose."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.runtime import kafka_principals
from salus.runtime.kafka_principals import PRINCIPALS_MAX, Principal, PrincipalFileError, read_principals

SERVICES = ("identity", "storage")
LAB, CLINIC = "did:web:lab.example", "did:web:clinic.example"


def principal(name: str, party: str, **more: str) -> str:
    lines = {"name": name, "party": party, **more}
    return "[[principal]]\n" + "".join(f"{field} = '{value}'\n" for field, value in lines.items())


def test_certificates_and_names_are_told_of_services_and_members(tmp_path: Path) -> None:
    file = tmp_path / "principals.toml"
    file.write_text(
        principal("CN=storage,O=St. Anna\\, Wien", "storage") + principal("lab", LAB, groups="lab-")
    )

    storage, lab = read_principals(file, services=SERVICES)

    assert (str(storage), storage.party) == ("User:CN=storage,O=St. Anna\\, Wien", "storage")
    assert (str(lab), lab.party, lab.groups) == ("User:lab", LAB, "lab-")


def test_a_party_may_have_several_accounts(tmp_path: Path) -> None:
    file = tmp_path / "principals.toml"
    file.write_text(principal("lab-1", LAB, groups="lab-") + principal("lab-2", LAB, groups="lab-"))

    assert len(read_principals(file, services=SERVICES)) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("principal = 1", "principal"),
        ("[[principal]]\nname = 'lab'", "party"),
        (principal("lab", LAB, hosts="*"), "hosts"),
        (principal("*", LAB), "everybody is nobody's account"),
        (principal("ANONYMOUS", LAB), "everybody is nobody's account"),
        (principal("User:lab", LAB), "what stands behind User:"),
        (principal("CN=lab, O=Lab", LAB), "no space behind a comma"),
        (principal("lab\ttory", LAB).replace("\t", "\\t").replace("'", '"'), "control characters"),
        (principal("lab", "storrage"), "storrage is no DID and none of identity, storage"),
        (principal("lab", LAB) + principal("lab", CLINIC), "named twice"),
        (principal("storage", "storage", groups="storage-"), "needs no consumer groups"),
        (principal("lab", LAB, groups="salus.audit"), "of the services"),
        (principal("lab", LAB, groups="sal"), "of the services"),
        (principal("lab", LAB, groups="*"), "groups"),
        (principal("lab", LAB, groups="lab-") + principal("b", CLINIC, groups="lab-b"), "names in common"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "principals.toml"
    file.write_text(text)

    with pytest.raises(PrincipalFileError, match=why) as refused:
        read_principals(file, services=SERVICES)

    assert str(file) in str(refused.value)


def test_a_comma_in_a_name_may_have_a_space_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "principals.toml"
    file.write_text(principal("CN=Anna\\, Lab,O=x", LAB))

    assert len(read_principals(file, services=SERVICES)) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrincipalFileError, match=r"absent\.toml: No such file"):
        read_principals(tmp_path / "absent.toml", services=SERVICES)


def of(parties: list[tuple[str, str]]) -> list[Principal]:
    return [Principal(f"x{n}", party, groups) for n, (groups, party) in enumerate(parties)]


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=4), st.sampled_from([LAB, CLINIC, "soc"]))))
def test_two_parties_have_group_names_in_common_if_and_only_if_that_is_said(
    parties: list[tuple[str, str]],
) -> None:
    overlaps = [
        (one, other)
        for (one, party), (other, another) in combinations(sorted(parties), 2)
        if party != another and other.startswith(one)
    ]

    assert bool(list(kafka_principals._overlaps(of(parties)))) == bool(overlaps)


class Counted(str):
    """A beginning of group names that counts how often one is compared."""

    __slots__ = ()
    comparisons = 0

    def startswith(self, *prefix: object) -> bool:
        Counted.comparisons += 1
        return super().startswith(*prefix)  # type: ignore[arg-type]


# readC6, 9
def test_as_many_beginnings_as_there_may_be_are_not_all_compared_with_all() -> None:
    many = of([(Counted(f"group-{n:05}"), f"did:web:{n}.example") for n in range(PRINCIPALS_MAX)])
    Counted.comparisons = 0

    assert list(kafka_principals._overlaps(many)) == []
    assert 0 < Counted.comparisons < 2 * PRINCIPALS_MAX
