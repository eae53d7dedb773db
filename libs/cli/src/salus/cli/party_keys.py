"""Keys of parties on this machine: made for a registration, and kept only if it may have happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salus.cli.callers import RefusedError, given_key, party_key_file
from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import UnknownOutcomeError
from salus.cli.stdout import OutputError
from salus.crypto.keys import create_ed25519, create_p256
from salus.devkit.network import OPERATOR, NetworkFolder, parties
from salus.events.did import LocalSigner
from salus.events.verification_keys import KeyKind

# Refusals which say that the key is, or may be, registered: by an earlier attempt whose answer was lost.
_REGISTERED = frozenset({"party-exists", "key-in-use", "name-taken"})


@contextmanager
def new_party_key(
    folder: NetworkFolder, name: str, *, kind: KeyKind = KeyKind.ED25519
) -> Iterator[LocalSigner]:
    """Give the signer of a party's key, made of that kind if there is none, to register the party with it.

    A key that was made here is removed if the registration has certainly not happened. Otherwise it stays,
    and the error says so.

    Raises:
        CommandError: the name is of a key that the network has already, as `operator`.
    """
    if name in {OPERATOR, *parties()} or folder.key_file(name).exists():
        raise CommandError(Exit.USAGE, f"{shown(name)} is a key of the network itself: choose another name")
    path = party_key_file(folder, name)
    made = create_p256(path) if kind is KeyKind.P256 else create_ed25519(path)
    signer = LocalSigner(given_key(path))
    try:
        yield signer
    except OutputError as error:
        # Nothing is printed before it is done.
        raise CommandError(error.code, f"{error}. What was asked for is done; the key is in {path}") from None
    except UnknownOutcomeError as error:
        raise CommandError(error.code, f"{error}. {_stays(path)}") from error
    except KeyboardInterrupt:
        raise CommandError(Exit.INTERRUPTED, f"interrupted. {_stays(path)}") from None
    except (CommandError, OSError) as error:
        registered = isinstance(error, RefusedError) and error.problem in _REGISTERED
        if made and not registered:
            path.unlink(missing_ok=True)
        raise


def _stays(path: Path) -> str:
    return (
        f"The party may be registered, so its key stays in {path}: look with `salus party show`, "
        "or run the command again, which takes the same key"
    )
