"""Sets up .venv: uv by its pinned hash, everything in requirements.lock by theirs, and our own packages.

Standard library only, for nothing is installed when it runs. A second run sees by a digest that nothing
changed and ends at once. `SALUS_BOOTSTRAP=skip`, or a stamp that says `by hand`, leaves the environment
to whoever made it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".salus-bootstrap"
LOCK = ROOT / "requirements.lock"
PINNED_UV = ROOT / "requirements-bootstrap.txt"
STATE = ROOT / ".salus"
TOLD_EVERY_S = 15


def main() -> int:
    """Set the environment up if it is not; return the exit code."""
    if os.environ.get("SALUS_BOOTSTRAP") == "skip":
        return 0
    STATE.mkdir(exist_ok=True)
    with (STATE / "bootstrap.lock").open("w") as lock:
        # Two `make` of one checkout must not install into the same folder at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest()
        if STAMP.exists() and STAMP.read_text().strip() in {wanted, "by hand"}:
            return 0
        try:
            set_up()
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd[:5]))
            say(f"setting up .venv failed: `{command} …` ended with {error.returncode}")
            return 1
        except KeyboardInterrupt:
            say("interrupted; the next run goes on from here")
            return 130
        STAMP.write_text(wanted)
    return 0


def packages() -> list[Path]:
    """Return the folders of our own packages."""
    found = [path for kind in ("libs", "services") for path in ROOT.glob(f"{kind}/*/pyproject.toml")]
    return sorted(path.parent for path in found)


def digest() -> str:
    """Return a digest of all that decides what is in .venv."""
    ours = [package / "pyproject.toml" for package in packages()]
    native = (file for package in packages() for file in sorted(package.glob("native/**/*")))
    ours += [file for file in native if file.is_file()]
    files = [LOCK, PINNED_UV, Path(__file__).resolve(), *ours]
    facts = [f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return hashlib.sha256("\n".join([sys.version, str(ROOT), *facts]).encode()).hexdigest()


def set_up() -> None:
    """Make .venv from nothing or from whatever is there."""
    began = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not usable():
        make_venv()
    python = str(VENV / "bin" / "python")
    say("installing uv (pinned by hash)")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "install", "--require-hashes", "-r", str(PINNED_UV))
    uv = keep_uv()
    say("installing what requirements.lock names, by hash (1 to 3 minutes the first time)")
    run(uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes", str(LOCK))
    say("installing Salus's own packages")
    ours = [argument for package in packages() for argument in ("-e", str(package))]
    run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *ours)
    say(f".venv is ready ({time.monotonic() - began:.0f} s)")


def usable() -> bool:
    """Say whether .venv is of this Python and has pip."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    ask = "import sys, pip; print(sys.version)"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)  # noqa: S603  # our own
    return answer.stdout.strip() == sys.version.strip()


def make_venv() -> None:
    """Make the virtual environment, with pip in it.

    Raises:
        SystemExit: this Python cannot; the sentence says what to install.
    """
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SystemExit(
            f"salus: {sys.executable} lacks the venv module: install it "
            "(on Debian and Ubuntu: apt install python3-venv)."
        )
    say(f"making .venv with Python {sys.version.split()[0]}")
    if VENV.exists():
        shutil.rmtree(VENV)
    run(sys.executable, "-m", "venv", str(VENV))


def keep_uv() -> str:
    """Move uv out of the environment's own packages, which `uv pip sync` makes equal to the lock."""
    folder = VENV / "salus-tools"
    folder.mkdir(exist_ok=True)
    shutil.copy2(VENV / "bin" / "uv", folder / "uv")
    return str(folder / "uv")


def run(*command: str) -> None:
    """Run a command in this checkout's environment, and say now and then that it is still at it."""
    began = time.monotonic()
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)  # noqa: S603  # our own commands
    try:
        while True:
            try:
                code = process.wait(timeout=TOLD_EVERY_S)
            except subprocess.TimeoutExpired:
                say(f"  … {time.monotonic() - began:.0f} s")
            else:
                break
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise subprocess.CalledProcessError(code, command)


def say(text: str) -> None:
    """Tell the user what is being done."""
    sys.stderr.write(f"salus: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
