"""AuthZEN 1.0's words and ours: what an evaluation asks, and what a decision answers. Pure.

A subject is the calling party, its type the party's kind; an action is `read` or `write`; a resource is a
`record` with its `patient` among its properties; the context has the `purpose`. Members that nobody knows are
ignored, as AuthZEN demands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from salus.access.actors import Asking
from salus.access.decisions import Question
from salus.consent.decision_handlers import Decision, Undecided
from salus.consent.models import OBJECT_PATTERN
from salus.events import fields
from salus.events.contexts.consent import Action
from salus.events.contexts.storage import STORAGE
from salus.events.fields import Purpose
from salus.runtime.fields import PLAIN, PSEUDONYM_PATTERN, pattern_of
from salus.runtime.problems import ProblemError

RECORD = "record"
EVALUATIONS_MAX = 1000
Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
# The answer that ends the work.
UNTIL: Mapping[Semantic, bool | None] = {
    "execute_all": None,
    "deny_on_first_deny": False,
    "permit_on_first_permit": True,
}
_Word = Annotated[str, Field(max_length=1024, pattern=PLAIN)]
_Properties = dict[str, Any]


class Subject(BaseModel):
    """Who would act: the caller. `type` is person, member, service or device, and `id` the DID."""

    type: _Word = Field(examples=["person"])
    id: _Word = Field(examples=["did:web:hospital.example:people:7"])
    properties: _Properties | None = None


class ActionName(BaseModel):
    """What the subject would do: read or write."""

    name: _Word = Field(examples=["read"])
    properties: _Properties | None = None


class Resource(BaseModel):
    """A record: its id in storage, and in `properties` whose it is, `patient`."""

    type: _Word = Field(examples=[RECORD])
    id: _Word = Field(examples=["scan-1"])
    properties: _Properties | None = Field(
        default=None, examples=[{"patient": "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"}]
    )


class Defaults(BaseModel):
    """What an evaluation consists of, or what evaluations have in common."""

    subject: Subject | None = None
    action: ActionName | None = None
    resource: Resource | None = None
    context: _Properties | None = Field(default=None, examples=[{"purpose": "TREAT"}])


class Evaluation(BaseModel):
    """May the subject do this with the resource?"""

    subject: Subject
    action: ActionName
    resource: Resource
    context: _Properties | None = Field(default=None, examples=[{"purpose": "TREAT"}])


class Options(BaseModel):
    """How evaluations are done."""

    evaluations_semantic: Semantic = "execute_all"


class Evaluations(Defaults):
    """Many evaluations; what one of them lacks is as it stands above them."""

    evaluations: list[Defaults] = Field(default=[], max_length=EVALUATIONS_MAX)
    options: Options = Options()


class EvaluationResult(BaseModel):
    """The answer; `context` says why, what it obliges to, and has the token that storage wants."""

    decision: bool
    context: dict[str, Any]


class EvaluationResults(BaseModel):
    """The answers in the order of the evaluations; fewer if the semantic ended the work before."""

    evaluations: list[EvaluationResult]


class Configuration(BaseModel):
    """Where evaluations are asked."""

    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str


_ACTIONS, _PURPOSES = get_args(Action), get_args(Purpose)
_OBJECT = TypeAdapter(Annotated[str, Field(pattern=OBJECT_PATTERN)])
_PATIENT = TypeAdapter(Annotated[str, Field(pattern=PSEUDONYM_PATTERN)])
_SERVICE = TypeAdapter(Annotated[str, Field(pattern=pattern_of(fields.ServiceName), max_length=31)])


def evaluations_of(asked: Evaluations) -> list[Evaluation]:
    """Return the evaluations, each whole; raises ProblemError 400 for one that lacks a part."""
    return [_whole(asked, one, f"evaluations.{number}") for number, one in enumerate(asked.evaluations)]


def evaluation_of(asked: Evaluations) -> Evaluation:
    """Return the one evaluation of a request that has no list of them; raises ProblemError 400."""
    return _whole(asked, Defaults(), "evaluations is empty, so")


def _whole(defaults: Defaults, one: Defaults, place: str) -> Evaluation:
    subject, action = one.subject or defaults.subject, one.action or defaults.action
    resource = one.resource or defaults.resource
    if subject is None or action is None or resource is None:
        parts = {"subject": subject, "action": action, "resource": resource}
        lacks = ", ".join(name for name, part in parts.items() if part is None)
        raise ProblemError(400, "invalid-request", f"{place}: {lacks} is required")
    context = defaults.context if one.context is None else one.context
    return Evaluation(subject=subject, action=action, resource=resource, context=context)


def question_of(asked: Evaluation, who: Asking) -> Question:
    """Return what an evaluation asks; raises ProblemError 400, or 403 if it is about another party."""
    if asked.subject.id != who.did or asked.subject.type != who.kind:
        detail = f"subject: one asks for oneself only, and as a {who.kind}"
        raise ProblemError(403, "wrong-subject", detail)
    if asked.action.name not in _ACTIONS:
        raise _bad(f"action.name is one of {', '.join(_ACTIONS)}")
    if asked.resource.type != RECORD:
        raise _bad(f"resource.type is {RECORD}")
    context = asked.context or {}
    if context.get("purpose") not in _PURPOSES:
        raise _bad(f"context.purpose is one of {', '.join(_PURPOSES)}")
    patient = (asked.resource.properties or {}).get("patient")
    return Question(
        principal=who,
        action=cast("Action", asked.action.name),
        object=_fitting(_OBJECT, asked.resource.id, "resource.id is no id of an object"),
        patient=_fitting(_PATIENT, patient, "resource.properties.patient is no pseudonym of a patient"),
        purpose=context["purpose"],
        service=_fitting(_SERVICE, context.get("service", STORAGE), "context.service is no service"),
    )


def _fitting(kind: TypeAdapter[str], value: object, why: str) -> str:
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError:
        raise _bad(why) from None


def _bad(why: str) -> ProblemError:
    return ProblemError(400, "invalid-request", why)


def answer_of(found: Decision | Undecided) -> EvaluationResult:
    """Return an answer in AuthZEN's form; what is not known to stand on the ledger is no permission."""
    if isinstance(found, Undecided):
        return error_of(found.problem, outcome=found.outcome)
    answer = found.answer
    context: dict[str, Any] = {
        "id": found.id,
        "reasons": list(answer.reasons),
        "reason_user": {"en": " ".join(found.words)},
        "epoch": found.epoch,
        "valid_until": answer.valid_until.isoformat().replace("+00:00", "Z"),
    }
    if answer.pending:
        context["pending"] = True
    if answer.case is not None:
        context["case"] = answer.case
    if answer.obligations:
        context["obligations"] = [{"id": obligation} for obligation in answer.obligations]
    if found.token is not None:
        context["token"] = found.token
    return EvaluationResult(decision=answer.allowed, context=context)


def error_of(problem: ProblemError, **more: str) -> EvaluationResult:
    """Return what is answered for an evaluation that was not decided."""
    status = 400 if problem.status == UNPROCESSABLE else problem.status
    error = {"status": status, "code": problem.code, "message": problem.detail, **more}
    return EvaluationResult(decision=False, context={"error": error})


UNPROCESSABLE = 422


def in_order(
    asked: Sequence[Question | ProblemError],
    found: Mapping[int, Decision | Undecided],
    *,
    until: bool | None,
) -> list[EvaluationResult]:
    """Return the answers to evaluations up to the one that ended the work.

    `found` are those that were decided, by their places.
    """
    answers: list[EvaluationResult] = []
    for place, one in enumerate(asked):
        if isinstance(one, ProblemError):
            answers.append(error_of(one))
            if until is False:
                break
        elif place in found:
            answers.append(answer_of(found[place]))
            if until is not None and answers[-1].decision is until:
                break
        else:
            break
    return answers
