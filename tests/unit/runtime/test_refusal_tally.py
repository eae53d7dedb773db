"""What is refused of a topic is one line of log, however much it is."""

from __future__ import annotations

from structlog.testing import capture_logs

from salus.runtime.refusal_tally import REFUSED, RefusalTally

TOPIC = "test.tally.events"


def test_a_flood_is_one_line_a_partition_with_its_counts() -> None:
    # Red team B6, 7: 50 MB of log in each of six processes, and again at each start.
    tally = RefusalTally()
    for offset in range(10_000):
        tally.add(TOPIC, offset % 2, offset, "missing-signature")
    tally.add(TOPIC, 1, 10_000, "wrong-source")

    with capture_logs() as lines:
        tally.tell()
        tally.tell()

    told = {"event": "records refused", "log_level": "warning", "topic": TOPIC}
    assert lines == [
        {**told, "partition": 0, "first": 0, "last": 9998, "reasons": {"missing-signature": 5000}},
        {
            **told,
            "partition": 1,
            "first": 1,
            "last": 10_000,
            "reasons": {"missing-signature": 5000, "wrong-source": 1},
        },
    ]
    assert REFUSED.labels(TOPIC, "missing-signature")._value.get() == 10_000
