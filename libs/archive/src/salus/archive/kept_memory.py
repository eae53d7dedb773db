"""Lets a process that reads or writes body after body keep the memory of the last ones for the next.

The C library gives large pieces back to the system as soon as they are free, and gets them anew page by page:
a twelfth of the processor time of checking a ledger went there, and a twentieth of encoding a body.
"""

from __future__ import annotations

import ctypes

# glibc, malloc.h: how much may be free at the end of the heap, what size a piece beside the heap has, and how
# many heaps there are.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30
# No piece of a body is larger, unless somebody sends what is no event: that is given back, for between pieces
# of such a size more stays empty than is used.
_PIECE_MAX = 16 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let this process keep what it frees until it ends, where the C library knows such a wish.

    For processes that check or seal ledgers and do nothing else: what is kept, other processes lack. Threads
    share one heap, or each would keep what it once needed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _PIECE_MAX)
        mallopt(_ARENA_MAX, 1)
