from __future__ import annotations

import asyncio
import json

from salus.cli.following import follow_logs, show_line
from salus.devkit.waiting import until


def test_a_structured_line_shows_time_process_event_and_facts(capsys):
    line = {"event": "block sealed", "timestamp": "2026-11-22T15:00:00.123456Z", "level": "info", "height": 4}

    show_line("sequencer", json.dumps(line), as_json=False)

    assert capsys.readouterr().out.split() == ["15:00:00.123", "sequencer", "block", "sealed", "height=4"]


def test_any_other_line_is_shown_as_it_is(capsys):
    show_line("kafka", "WARN [x] 1", as_json=False)
    show_line("kafka", "[1, 2]", as_json=True)

    plain, as_json = capsys.readouterr().out.splitlines()
    assert plain.strip().endswith("WARN [x] 1")
    assert json.loads(as_json) == {"process": "kafka", "event": "[1, 2]"}


async def test_following_shows_only_whole_lines_and_each_once(tmp_path, capsys):
    log = tmp_path / "a.log"
    log.write_text("old\n")
    following = asyncio.create_task(follow_logs({"a": log}, lines=1, follow=True, as_json=True))
    seen: list[str] = []

    def heard(event: str) -> bool:
        seen.extend(json.loads(line)["event"] for line in capsys.readouterr().out.splitlines())
        return event in seen

    assert await until(lambda: heard("old"), deadline_s=60)
    with log.open("a") as file:
        for piece, event in (("half", "old"), (" a line\nand", "half a line"), (" more\n", "and more")):
            file.write(piece)
            file.flush()
            assert await until(lambda event=event: heard(event), deadline_s=60)
    following.cancel()

    assert seen == ["old", "half a line", "and more"]
