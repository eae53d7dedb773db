"""Which blocks of a shard are published, and which come next."""

from __future__ import annotations

from dataclasses import dataclass

# More blocks than these are history: they are published beside the newest, not before them.
NEWEST_BLOCKS = 50


@dataclass
class Progress:
    """The blocks below `history`, and those from `joint` up to `head`, are published. It never goes back.

    `history` is at most `joint`, and `joint` at most `head`. Where the first two are equal, so is the third.
    """

    history: int
    joint: int
    head: int

    @classmethod
    def from_mark(cls, mark: int, *, tip: int) -> Progress:
        """Return what is known at a start: what is below the mark is published, and perhaps more."""
        newest = tip - NEWEST_BLOCKS
        return cls(mark, newest, newest) if newest > mark else cls(mark, mark, mark)

    @property
    def mark(self) -> int:
        """The height below which every block is published."""
        return self.history

    def due(self, tip: int) -> list[int]:
        """Return the blocks that come next, of those below a tip: the newest first, one of history beside."""
        heights = [self.head]
        if self.history < self.joint:
            heights.append(self.history)
        return [height for height in heights if height < tip]

    def note(self, height: int) -> None:
        """Note that a block is published that was due."""
        if height == self.head:
            self.head += 1
        else:
            self.history += 1
        self._join()

    def raise_to(self, mark: int) -> None:
        """Note that all blocks below a height are published; a lower one than is known changes nothing."""
        self.history = max(self.history, mark)
        self.head = max(self.head, mark)
        self._join()

    def _join(self) -> None:
        if self.history >= self.joint:
            self.history = self.joint = self.head
