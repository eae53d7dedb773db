"""The entry of the salus command: it imports little, for a Ctrl-C while the rest is imported is one too."""

from __future__ import annotations

import sys

from salus.runtime.garbage import collect_rarely

INTERRUPTED = 130


def main() -> None:
    """Run the command and exit with a code of `Exit`."""
    collect_rarely()
    try:
        from salus.cli.application import main as run  # noqa: PLC0415  # that takes most of a start

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("salus: interrupted\n")
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
