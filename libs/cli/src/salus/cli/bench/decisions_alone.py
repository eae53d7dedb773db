"""How fast a decision is made in process, and how fast Cedar answers the same request alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import cedarpy

from salus.access.actors import Asking
from salus.access.cedar import CedarPolicies
from salus.access.decisions import Question, conclude, inputs_digest, inputs_of
from salus.access.grants import GrantIndex
from salus.access.state import Consent, PatientState, SubjectState
from salus.cli.bench.contract_load import HOSPITAL, patient_of
from salus.cli.bench.decision_load import policies_of
from salus.cli.exits import CommandError, Exit
from salus.events.requests import Request

ROUNDS = 2_000


def in_process(policies: int) -> dict[str, Any]:
    """Return how fast a decision is made in process, and how fast Cedar answers the same request alone.

    `in_process_ratio` is with the release's policies, the other one with all that are loaded.
    """
    few, many = _ratio(policies_of(0)), _ratio(policies_of(policies))
    return {
        "in_process_ratio": round(few[0] / few[1], 2),
        "in_process_per_s": round(many[0]),
        "cedar_per_s": round(few[1]),
        "in_process_ratio_all_policies": round(many[0] / many[1], 2),
        "cedar_all_policies_per_s": round(many[1]),
    }


def _ratio(files: Mapping[str, bytes]) -> tuple[float, float]:
    now = datetime.now(UTC)
    who = Asking(HOSPITAL.did, "member", frozenset(), None, request=Request.of_service(HOSPITAL.did))
    span = now - timedelta(hours=1), now + timedelta(hours=1)
    state = PatientState(consents=(Consent("c", HOSPITAL.did, ("read",), ("TREAT",), *span),))
    asked, subject = Question(who, "read", "o", patient_of(0), "TREAT"), SubjectState(HOSPITAL.did)
    # A verdict that is known would be no work to compare.
    engine = CedarPolicies(files, verdicts_kept_max=0)
    grants = GrantIndex(state)
    texts = [text.decode() for name, text in sorted(files.items()) if name.endswith(".cedar")]
    policies = cedarpy.PolicySet.from_str("\n".join(texts))
    schema = cedarpy.Schema.from_str(files["salus.cedarschema"].decode())

    def decided() -> bool:
        inputs = inputs_of(asked, state=state, patients=set(), subject=subject, at=now, grants=grants)
        inputs_digest(inputs)
        return conclude(asked, engine.evaluate(inputs), state=state, at=now, grants=grants).allowed

    inputs = inputs_of(asked, state=state, patients=set(), subject=subject, at=now)
    request = {name: dict(getattr(inputs, name)) for name in ("principal", "action", "resource", "context")}
    entities = [dict(entity) for entity in inputs.entities]

    def bare() -> bool:
        return cedarpy.is_authorized(request, policies, entities, schema).allowed

    if not (decided() and bare()):
        raise CommandError(Exit.NO, "the question of the benchmark is denied")
    return _per_s(decided), _per_s(bare)


def _per_s(work: Callable[[], bool]) -> float:
    """Return how often it is done in a second of processor time, in the best of five parts."""
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(ROUNDS // 5):
            work()
        best = max(best, ROUNDS / 5 / (time.process_time() - began))
    return best
