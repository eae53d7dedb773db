"""How a contract says no; pure, so that every `domain.py` may import it."""

from __future__ import annotations

from salus.events.rights import Objection


class Refusal(Exception):  # noqa: N818  # a refusal is an answer of the contract, not a fault
    """A contract says no; `code` is stable, the sentence may be shown to the caller."""

    def __init__(self, code: str, sentence: str, *, status: int = 409) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence
        self.status = status


def require(objection: Objection | None, *, status: int = 403) -> None:
    """Raise a Refusal if there is an objection."""
    if objection is not None:
        raise Refusal(objection.code, objection.why, status=status)
