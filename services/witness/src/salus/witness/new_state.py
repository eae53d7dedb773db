"""Makes the state file of a new network: `python -m salus.witness.new_state FILE --before NETWORK`.

Where a witness is started again and again with the same settings, `create_state` would make a new file each
time that the old one is gone, and the witness would have forgotten what its key cosigned. This makes it once,
before there is a network: as long as nobody has a `network.json`, no witness has cosigned anything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from salus.witness.adapters.sqlite import SqliteMemory


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the state file, unless there is a network.

    Whoever makes the network waits for this. A crash after it leaves a file that the next call finds.

    Raises:
        NoMemoryError: the file is there, and is not a witness's.
        OSError: it cannot be made, or it cannot be seen whether there is a network.
    """
    parser = argparse.ArgumentParser(description="Make a witness's state file, before there is a network.")
    parser.add_argument("state", type=Path, metavar="FILE", help="The state file.")
    parser.add_argument("--before", type=Path, required=True, metavar="NETWORK", help="network.json to come.")
    told = parser.parse_args(arguments)
    if not told.before.exists():
        SqliteMemory.open(told.state, create=True).close()
    elif not told.state.exists():
        # Not an error here: whatever else runs does so without this witness, which says the same.
        sys.stderr.write(
            f"there is no {told.state}, and none is made: by {told.before} there is a network, whose"
            " checkpoints the witness may have cosigned. It needs a new key\n"
        )


if __name__ == "__main__":
    main()
