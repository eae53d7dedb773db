"""What Kafka has of the topics is compared with what the shards seal and with what Salus asks for."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from salus.messaging import TOPIC_SETTINGS, RefusedByBrokerError, Topic
from salus.runtime import topic_check
from salus.runtime.topic_check import TopicCheck, TopicDifferenceError, differences

CLINICAL, CONSENT = "salus.clinical.events", "salus.consent.events"
ASSIGNED = {(CLINICAL, 0), (CLINICAL, 1), (CONSENT, 0)}


def there(partitions: int = 2, changes: dict[str, str] | None = None) -> dict[str, Topic]:
    settings = {**TOPIC_SETTINGS, **(changes or {})}
    return {CLINICAL: Topic(CLINICAL, partitions, settings), CONSENT: Topic(CONSENT, 1, TOPIC_SETTINGS)}


def said(found: dict[str, Topic]) -> list[tuple[str, str, int | None]]:
    return [(d.topic, d.what, d.partition) for d in differences(ASSIGNED, found, folded=[CONSENT])]


def test_as_it_should_be_nothing_is_said() -> None:
    assert said(there()) == []


def test_partitions_that_no_shard_seals_and_that_are_gone_are_named() -> None:
    # case K1
    gone = there(1) | {CONSENT: Topic(CONSENT, 2, TOPIC_SETTINGS)}

    assert said(there(4)) == [(CLINICAL, "unassigned", 2), (CLINICAL, "unassigned", 3)]
    assert said(gone) == [(CLINICAL, "missing", 1), (CONSENT, "unassigned", 1)]
    assert said({CLINICAL: there()[CLINICAL]}) == [(CONSENT, "missing", 0)]


@pytest.mark.parametrize("name", TOPIC_SETTINGS)
def test_every_setting_that_is_another_is_named_with_both_values(name: str) -> None:
    # case K3
    (found,) = differences(ASSIGNED, there(2, {name: "17"}))

    assert (found.topic, found.what) == (CLINICAL, name)
    assert str(found) == f"{CLINICAL} has {name}=17, and should have {TOPIC_SETTINGS[name]}"


def test_only_what_no_service_folds_may_forget_and_not_before_a_week() -> None:
    week = {"retention.ms": "604800000"}
    consent = {CONSENT: Topic(CONSENT, 1, {**TOPIC_SETTINGS, **week})}

    assert said(there(2, week)) == []
    assert said(there(2, {"retention.ms": "604799999"})) == [(CLINICAL, "retention.ms", None)]
    assert said(there() | consent) == [(CONSENT, "retention.ms", None)]


async def test_readiness_and_the_metric_say_what_differs_until_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[dict[str, Topic] | Exception] = [
        there(3),
        RefusedByBrokerError("topic x: TopicAuthorizationFailedError"),
        there(),
    ]

    async def describe(_: str, topics: list[str]) -> dict[str, Topic]:
        assert topics == [CLINICAL, CONSENT]
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(topic_check, "describe", describe)
    check = TopicCheck("kafka", lambda: ASSIGNED, folded=[CONSENT])
    await check.check()

    await check.look()
    with pytest.raises(TopicDifferenceError, match=f"no shard seals {CLINICAL} 2"):
        await check.check()
    labels = {"topic": CLINICAL, "what": "unassigned"}
    assert REGISTRY.get_sample_value("salus_topic_differences", labels) == 1

    with pytest.raises(RefusedByBrokerError):
        await check.look()
    with pytest.raises(TopicDifferenceError, match="does not let us compare"):
        await check.check()

    await check.look()
    await check.check()
    assert REGISTRY.get_sample_value("salus_topic_differences", labels) is None
