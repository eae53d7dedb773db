"""A SoftHSM token of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
PIN = "48151623"
# Another process makes the keys, as an operator's tool would: PKCS#11 forbids to fork with it open.
_MAKE_KEY = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters
module, token, pin, label, number = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label=token).open(rw=True, user_pin=pin) as session:
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")}
    parameters = session.create_domain_parameters(KeyType.EC_EDWARDS, curve, local=True)
    parameters.generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=label, id=bytes([int(number)])
    )
"""


@dataclass
class Token:
    """A token and where its PIN is."""

    module: str
    label: str
    pin_file: Path
    made: int = 0

    def make_key(self, label: str) -> None:
        """Make a key pair in the token."""
        self.made += 1
        arguments = [self.module, self.label, PIN, label, str(self.made)]
        subprocess.run([sys.executable, "-c", _MAKE_KEY, *arguments], check=True, timeout=60)

    def uri(self, label: str | None = None) -> str:
        """Return the URI of the keys of this label, or of all."""
        named = f";object={label}" if label else ""
        return f"pkcs11:token={self.label}{named}?module-path={self.module}&pin-source=file:{self.pin_file}"


def softhsm_module() -> str:
    """Return the path of SoftHSM's library; skips where there is none, but never in CI."""
    found = [path for path in SOFTHSM_MODULES if Path(path).exists()]
    if found and shutil.which("softhsm2-util"):
        return found[0]
    sentence = "SoftHSM is not installed: apt-get install softhsm2"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A fresh token; the module reads its configuration once a process, so there is one a session."""
    module = softhsm_module()
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    pin_file = folder / "pin"
    pin_file.write_text(PIN)
    pin_file.chmod(0o600)
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(configuration))
    arguments = ["--init-token", "--free", "--label", "salus-test", "--so-pin", PIN, "--pin", PIN]
    subprocess.run(["softhsm2-util", *arguments], check=True, timeout=60, capture_output=True)
    yield Token(module, "salus-test", pin_file)
    patch.undo()
