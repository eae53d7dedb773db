"""What every benchmark says: the machine, a table for people, and one line of JSON for scripts, last."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_CONSOLE = Console(stderr=True)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0 0 kB")
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.split()[1]) / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        # Others at work on the machine make every figure worse; this says how many there were.
        "load_before": round(os.getloadavg()[0], 2),
    }


def say(sentence: str) -> None:
    """Tell the person who waits what is going on."""
    _CONSOLE.print(sentence, style="dim")


def report(title: str, figures: Mapping[str, Any], tables: Mapping[str, Mapping[str, str]]) -> None:
    """Print the tables for people to stderr, and the figures as the last line of stdout."""
    for name, rows in tables.items():
        table = Table(title=f"{title}: {name}", title_justify="left", show_header=False)
        for key, value in rows.items():
            table.add_row(key, value)
        _CONSOLE.print(table)
    print(json.dumps(figures))


def peak_memory_mb(pid: int) -> float:
    """Return the most memory that the process ever had resident, in MB."""
    line = next(line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
