"""A new user's case: a state folder of another version was used; services ignored their own records."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from salus.cli.application import run
from salus.cli.exits import Exit
from salus.devkit import platform, state_version
from salus.devkit.addresses import S3, Addresses
from salus.devkit.errors import OtherVersionError
from salus.devkit.run_record import StateFolder
from salus.devkit.state_version import ContextProvider, StateVersion
from salus.events.context import OWN_PACKAGE

GRANTED = "salus.consent.consent-granted.v1"
OLD = f"urn:salus:schema:{GRANTED}:sha256:{'0' * 64}"


def made_by(folder: Path, version: StateVersion) -> StateFolder:
    (folder / "version.json").write_bytes(msgspec.json.encode(version))
    return StateFolder(folder)


def written(folder: Path) -> StateVersion:
    return msgspec.json.decode((folder / "version.json").read_bytes(), type=StateVersion)


def changed(*, leaf_form: str | None = None, more: frozenset[str] = frozenset()) -> StateVersion:
    now = StateVersion.current()
    return StateVersion(leaf_form or now.leaf_form, now.dataschemas | more)


def test_a_folder_that_this_version_made_is_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        StateFolder(tmp_path).require_version()

    assert written(tmp_path) == StateVersion.current()


def test_events_by_another_schema_are_of_another_version(tmp_path: Path) -> None:
    state = made_by(tmp_path, changed(more=frozenset({OLD})))

    with pytest.raises(OtherVersionError, match=rf"another version.*{GRANTED}.*salus down --erase"):
        state.require_version()


def test_many_types_are_counted(tmp_path: Path) -> None:
    old = frozenset(f"urn:salus:schema:salus.lab.t{n}.v1:sha256:0" for n in range(5))

    with pytest.raises(OtherVersionError, match=r"salus\.lab\.t2\.v1 and 2 more types have"):
        made_by(tmp_path, changed(more=old)).require_version()


def test_leaves_of_another_form_are_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(OtherVersionError, match="leaves"):
        made_by(tmp_path, changed(leaf_form="0")).require_version()


def test_a_folder_that_does_not_say_which_version_made_it_is_of_another(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.remember(Addresses("127.0.0.1:1", S3("http://127.0.0.1:2", "key", "secret")), {})

    with pytest.raises(OtherVersionError, match="does not say"):
        state.require_version()


def test_a_version_with_more_types_goes_on_with_the_folder(tmp_path: Path) -> None:
    now = StateVersion.current()
    first, *_ = sorted(now.dataschemas)

    made_by(tmp_path, StateVersion(now.leaf_form, frozenset({first}))).require_version()

    assert written(tmp_path) == now


def test_a_version_that_takes_older_schemas_goes_on_and_the_next_knows_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SimpleNamespace(dataschema=OLD.replace("0", "1"), older_dataschemas=frozenset({OLD}))
    now = StateVersion(StateVersion.current().leaf_form, frozenset({OLD}))
    state = made_by(tmp_path, now)
    entry.name = GRANTED
    catalogue = SimpleNamespace(types=lambda: [entry], package_of=lambda _: OWN_PACKAGE)
    monkeypatch.setattr(state_version, "CATALOGUE", catalogue)

    state.require_version()

    assert written(tmp_path).dataschemas == {OLD, entry.dataschema}


# A newcomer's case: a package was missing, and `up` advised to erase the network, as made by another version.
BLOOD = "salus.bloodbank.donated.v1"
BLOOD_OLD = f"urn:salus:schema:{BLOOD}:sha256:{'0' * 64}"
PROVIDER = ContextProvider("salus-bloodbank", "bloodbank")


def joined(folder: Path, *, ran: bool = True) -> StateFolder:
    now = StateVersion.current()
    providers = now.providers | {"bloodbank": PROVIDER}
    state = made_by(folder, StateVersion(now.leaf_form, now.dataschemas | {BLOOD_OLD}, providers))
    if ran:
        (state.data / "bloodbank").mkdir(parents=True)
    return state


def test_a_service_that_joined_and_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joined(tmp_path)
    monkeypatch.setenv("SALUS_STATE", str(tmp_path))
    monkeypatch.setattr(platform, "find_parts", lambda *_: pytest.fail("Kafka and MinIO are started"))

    assert run(["up"]) == Exit.CANNOT_START

    said = " ".join(capsys.readouterr().err.split())
    assert "bloodbank has joined this network and its package (salus-bloodbank) is not installed here" in said
    assert "erase" not in said


def test_a_service_that_never_ran_here_may_go(tmp_path: Path) -> None:
    joined(tmp_path, ran=False).require_version()


def test_the_package_is_named_whose_types_have_another_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = joined(tmp_path)
    monkeypatch.setattr(state_version, "_providers", lambda: {"bloodbank": PROVIDER})

    with pytest.raises(OtherVersionError, match=rf"{BLOOD}.*version of salus-bloodbank.*older_") as refused:
        state.require_version()
    assert "erase" not in str(refused.value)


def test_a_package_beside_the_release_is_written_down_with_its_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SimpleNamespace(name=BLOOD, dataschema=BLOOD_OLD, older_dataschemas=frozenset[str]())
    catalogue = SimpleNamespace(types=lambda: [entry], package_of=lambda _: "salus-bloodbank")
    monkeypatch.setattr(state_version, "CATALOGUE", catalogue)

    StateFolder(tmp_path).require_version()

    assert written(tmp_path).providers == {"bloodbank": PROVIDER}


def test_up_says_so_at_once_with_a_code_of_its_own_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_by(tmp_path, changed(more=frozenset({OLD})))
    monkeypatch.setenv("SALUS_STATE", str(tmp_path))
    monkeypatch.setattr(platform, "find_parts", lambda *_: pytest.fail("Kafka and MinIO are started"))

    assert run(["up"]) == Exit.OTHER_VERSION

    assert "was made by another version" in " ".join(capsys.readouterr().err.split())
