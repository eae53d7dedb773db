"""Draws what a benchmark measured, with matplotlib, which only `salus-cli[bench]` brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from salus.cli.exits import CommandError, Exit

INCHES = (9, 3.2)
KINDS = {".svg", ".png"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: lines over a common axis, and horizontal lines at figures worth comparing with."""

    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    marks: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False


def require_plots(path: Path | None) -> None:
    """Refuse a plot that could not be written, before anything is measured.

    Raises:
        CommandError: matplotlib is not installed, or the file is neither SVG nor PNG.
    """
    if path is None:
        return
    if path.suffix not in KINDS:
        raise CommandError(Exit.USAGE, f"{path}: a plot is an .svg or a .png")
    if find_spec("matplotlib") is None:
        raise CommandError(Exit.USAGE, "plots need matplotlib: pip install 'salus-cli[bench]'")


def draw(title: str, panels: Sequence[Panel], path: Path, *, caption: str) -> None:
    """Write the diagrams, one below the other."""
    # A second of imports that nobody pays who does not draw.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": title, "font.size": 9}):
        figure, places = plt.subplots(
            len(panels), 1, figsize=(INCHES[0], INCHES[1] * len(panels)), squeeze=False, layout="constrained"
        )
        for panel, axes in zip(panels, places[:, 0], strict=True):
            for name, points in panel.lines.items():
                axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2)
            for name, y in panel.marks.items():
                axes.axhline(y, linestyle="--", linewidth=0.8, color="grey")
                axes.annotate(name, (0.995, y), xycoords=("axes fraction", "data"), ha="right", va="bottom")
            axes.set(xlabel=panel.x, ylabel=panel.y)
            if panel.log_x:
                axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, alpha=0.3)
            axes.legend(loc="upper left")
        figure.suptitle(f"{title}\n{caption}", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
