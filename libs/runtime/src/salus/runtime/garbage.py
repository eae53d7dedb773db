"""How often the interpreter looks for reference cycles."""

from __future__ import annotations

import gc

# New objects between two looks; the interpreter's own 700 is for programs that make cycles all the time.
NEW_OBJECTS = 50_000


def collect_rarely(*, new_objects: int = NEW_OBJECTS) -> None:
    """Look for cycles rarely, and never among what was imported: for processes that live on, and make few.

    In a service that does much, looking took a third of the time that the interpreter worked. `new_objects`
    is best more than what waits in it at a time: that is looked through in vain. An entry point calls it
    before it imports the rest as well: of a start, looking took a sixth.
    """
    gc.freeze()
    gc.set_threshold(new_objects, 20, 20)
