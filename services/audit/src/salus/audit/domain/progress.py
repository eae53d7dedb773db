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

    def due(self, tip: int, *, limit: int) -> list[range]:
        """Return the blocks below a tip that come next: a run of the newest, and one of history beside."""
        runs = [range(self.head, min(self.head + limit, tip))]
        if self.history < self.joint:
            runs.append(range(self.history, min(self.history + limit, self.joint, tip)))
        return [run for run in runs if run]

    def has(self, height: int) -> bool:
        """Tell whether a block is published."""
        return height < self.history or self.joint <= height < self.head

    def left(self, tip: int) -> int:
        """Return how many blocks below a tip are not published."""
        return max(tip - self.head, 0) + self.joint - self.history

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
