"""Which elements of R4 a Consent may have here, and what becomes of each: the table behind docs/fhir.md.

Each element is kept (it makes the consent what it is), documents (it may be there, is not kept, and cannot
change what is granted) or is refused. What R4 does not know is refused as well, and so is whatever may change
the meaning of what is around it, at any depth: modifier extensions, values that are said to be absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class Fate(Enum):
    """What becomes of an element."""

    KEPT = "kept"
    DOCUMENTS = "documents"
    REFUSED = "refused"


class Element(NamedTuple):
    """An element: what its value is, what becomes of it, and whether it is a list."""

    kind: str
    fate: Fate = Fate.KEPT
    is_list: bool = False


@dataclass(frozen=True)
class Issue:
    """What is wrong with a resource: the FHIRPath of the element, FHIR's issue code and a sentence."""

    expression: str
    code: str
    why: str


# Whoever mends these hears of the rest. More are not looked for: a resource may consist of nothing else.
ISSUES_MAX = 100


class TooManyIssuesError(Exception):
    """ISSUES_MAX were found, and the rest of the resource was not looked at."""


class Issues(list[Issue]):
    """What is wrong with one resource, so that its author hears it all at once."""

    def refuse(self, path: str, why: str, *, code: str = "not-supported") -> None:
        """Add an issue; raises TooManyIssuesError when there are ISSUES_MAX."""
        self.append(Issue(path, code, why))
        if len(self) >= ISSUES_MAX:
            raise TooManyIssuesError


DOCUMENTS, REFUSED = Fate.DOCUMENTS, Fate.REFUSED
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

# R4, section 2.24.0.1; what is longer than any sensible value is caught by the limit of the body.
PRIMITIVES: Mapping[str, re.Pattern[str]] = {
    "string": re.compile(r"(?=[^\x00]*[^\s\x00])[^\x00-\x08\x0b\x0c\x0e-\x1f]+"),
    "code": re.compile(r"[^\s\x00-\x1f]+(\s[^\s\x00-\x1f]+)*"),
    "uri": re.compile(r"[^\s\x00-\x1f]+"),
    "id": re.compile(r"[A-Za-z0-9\-.]{1,64}"),
    "base64Binary": re.compile(r"\s*([0-9A-Za-z+/=]\s*){4,}"),
    "dateTime": re.compile(
        r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?", re.ASCII
    ),
    "instant": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII),
}
NUMBERS: Mapping[str, type[Any]] = {"boolean": bool, "unsignedInt": int}

_CONTAINED = "PractitionerRole"
_EXTENSIONS = Element("Extension", DOCUMENTS, is_list=True)
STRUCTURES: Mapping[str, Mapping[str, Element]] = {
    "Consent": {
        "resourceType": Element("code"),
        "id": Element("id", DOCUMENTS),
        "meta": Element("Meta", DOCUMENTS),
        "implicitRules": Element("uri", REFUSED),
        "language": Element("code", DOCUMENTS),
        "text": Element("Narrative", DOCUMENTS),
        # A recipient's role at a member, which nothing else can hold.
        "contained": Element("PractitionerRole", is_list=True),
        "extension": _EXTENSIONS,
        "modifierExtension": Element("Extension", REFUSED, is_list=True),
        "identifier": Element("Identifier", is_list=True),
        "status": Element("code"),
        "scope": Element("CodeableConcept"),
        "category": Element("CodeableConcept", is_list=True),
        "patient": Element("Reference"),
        "dateTime": Element("dateTime", DOCUMENTS),
        "performer": Element("DocumentedReference", DOCUMENTS, is_list=True),
        "organization": Element("DocumentedReference", DOCUMENTS, is_list=True),
        "sourceAttachment": Element("Attachment", DOCUMENTS),
        "sourceReference": Element("DocumentedReference", DOCUMENTS),
        "policy": Element("BackboneElement", REFUSED, is_list=True),
        "policyRule": Element("CodeableConcept"),
        "verification": Element("BackboneElement", REFUSED, is_list=True),
        "provision": Element("Provision"),
    },
    "Provision": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "modifierExtension": Element("Extension", REFUSED, is_list=True),
        "type": Element("code"),
        "period": Element("Period"),
        "actor": Element("Actor", is_list=True),
        "action": Element("CodeableConcept", is_list=True),
        "securityLabel": Element("Coding", REFUSED, is_list=True),
        "purpose": Element("Coding", is_list=True),
        "class": Element("Coding", REFUSED, is_list=True),
        "code": Element("CodeableConcept", REFUSED, is_list=True),
        "dataPeriod": Element("Period", REFUSED),
        "data": Element("BackboneElement", REFUSED, is_list=True),
        "provision": Element("Provision", REFUSED, is_list=True),
    },
    "Actor": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "modifierExtension": Element("Extension", REFUSED, is_list=True),
        "role": Element("CodeableConcept"),
        "reference": Element("Reference"),
    },
    # Whoever holds this role at this organisation: what would name one of them, or only some, is refused.
    "PractitionerRole": {
        "resourceType": Element("code"),
        "id": Element("id"),
        "meta": Element("Meta", REFUSED),
        "implicitRules": Element("uri", REFUSED),
        "language": Element("code", DOCUMENTS),
        "text": Element("Narrative", DOCUMENTS),
        "contained": Element("Resource", REFUSED, is_list=True),
        "extension": Element("Extension", REFUSED, is_list=True),
        "modifierExtension": Element("Extension", REFUSED, is_list=True),
        "identifier": Element("Identifier", REFUSED, is_list=True),
        "active": Element("boolean", REFUSED),
        "period": Element("Period", REFUSED),
        "practitioner": Element("Reference", REFUSED),
        "organization": Element("Reference"),
        "code": Element("CodeableConcept", is_list=True),
        "specialty": Element("CodeableConcept", REFUSED, is_list=True),
        "location": Element("Reference", REFUSED, is_list=True),
        "healthcareService": Element("Reference", REFUSED, is_list=True),
        "telecom": Element("ContactPoint", REFUSED, is_list=True),
        "availableTime": Element("BackboneElement", REFUSED, is_list=True),
        "notAvailable": Element("BackboneElement", REFUSED, is_list=True),
        "availabilityExceptions": Element("string", REFUSED),
        "endpoint": Element("Reference", REFUSED, is_list=True),
    },
    "CodeableConcept": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "coding": Element("Coding", is_list=True),
        "text": Element("string", DOCUMENTS),
    },
    "Coding": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "system": Element("uri"),
        # HL7 never gives a code of these systems another meaning.
        "version": Element("string", DOCUMENTS),
        "code": Element("code"),
        "display": Element("string", DOCUMENTS),
        "userSelected": Element("boolean", DOCUMENTS),
    },
    "Reference": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "reference": Element("string"),
        "type": Element("uri"),
        "identifier": Element("Identifier"),
        "display": Element("string", DOCUMENTS),
    },
    "Identifier": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "use": Element("code"),
        "type": Element("CodeableConcept", REFUSED),
        "system": Element("uri"),
        "value": Element("string"),
        "period": Element("Period", REFUSED),
        "assigner": Element("Reference", REFUSED),
    },
    "Period": {
        "id": Element("string", DOCUMENTS),
        "extension": Element("Extension", REFUSED, is_list=True),
        "start": Element("dateTime"),
        "end": Element("dateTime"),
    },
    "Meta": {
        "id": Element("string", DOCUMENTS),
        "extension": _EXTENSIONS,
        "versionId": Element("id", DOCUMENTS),
        "lastUpdated": Element("instant", DOCUMENTS),
        "source": Element("uri", DOCUMENTS),
        "profile": Element("uri", DOCUMENTS, is_list=True),
        # A test, a part of a resource, a restriction: none of it is kept.
        "security": Element("Coding", REFUSED, is_list=True),
        "tag": Element("Coding", REFUSED, is_list=True),
    },
    "Narrative": {
        "id": Element("string", DOCUMENTS),
        "extension": _EXTENSIONS,
        "status": Element("code", DOCUMENTS),
        "div": Element("string", DOCUMENTS),
    },
    "Attachment": {
        "id": Element("string", DOCUMENTS),
        "extension": _EXTENSIONS,
        "contentType": Element("code", DOCUMENTS),
        "language": Element("code", DOCUMENTS),
        "data": Element("base64Binary", DOCUMENTS),
        "url": Element("uri", DOCUMENTS),
        "size": Element("unsignedInt", DOCUMENTS),
        "hash": Element("base64Binary", DOCUMENTS),
        "title": Element("string", DOCUMENTS),
        "creation": Element("dateTime", DOCUMENTS),
    },
    "DocumentedReference": {
        "id": Element("string", DOCUMENTS),
        "extension": _EXTENSIONS,
        "reference": Element("string", DOCUMENTS),
        "type": Element("uri", DOCUMENTS),
        "identifier": Element("DocumentedIdentifier", DOCUMENTS),
        "display": Element("string", DOCUMENTS),
    },
    "DocumentedIdentifier": {
        "id": Element("string", DOCUMENTS),
        "extension": _EXTENSIONS,
        "use": Element("code", DOCUMENTS),
        "type": Element("CodeableConcept", DOCUMENTS),
        "system": Element("uri", DOCUMENTS),
        "value": Element("string", DOCUMENTS),
        "period": Element("Period", DOCUMENTS),
        "assigner": Element("DocumentedReference", DOCUMENTS),
    },
}


def kept_of(resource: Mapping[str, Any], issues: Issues) -> dict[str, Any]:
    """Return what of a Consent is kept and well formed; add what is wrong with the rest."""
    return _Reading(issues).structure(resource, "Consent", "Consent")


class _Reading:
    """Reads one resource by the table, and adds what is wrong with it to the issues."""

    def __init__(self, issues: Issues) -> None:
        self.refuse = issues.refuse

    def structure(self, value: Any, kind: str, path: str) -> dict[str, Any]:
        """Return the members that are kept."""
        if isinstance(value, dict) and kind == _CONTAINED and value.get("resourceType") != _CONTAINED:
            self.refuse(path, f"of contained resources only a {_CONTAINED}, the recipient's, can be kept")
            return {}
        if not isinstance(value, dict) or not value:
            self.refuse(path, "an object that is not empty is expected here", code="structure")
            return {}
        kept = {}
        for name, member in value.items():
            at = f"{path}.{_shown(name)}"
            element = STRUCTURES[kind].get(name.removeprefix("_"))
            if element is None:
                self.refuse(at, "R4 has no such element here", code="structure")
            elif element.fate is REFUSED:
                self.refuse(at, "this element may change what is granted and cannot be kept")
            elif name.startswith("_"):
                self._beside_primitive(member, element, at)
            elif (read := self._element(member, element, at)) is not None and element.fate is Fate.KEPT:
                kept[name] = read
        return kept

    def _element(self, value: Any, element: Element, path: str) -> Any:
        if not element.is_list:
            return self._single(value, element.kind, path)
        if not isinstance(value, list) or not value:
            self.refuse(path, "a list that is not empty is expected here", code="structure")
            return None
        return [self._single(one, element.kind, f"{path}[{index}]") for index, one in enumerate(value)]

    def _single(self, value: Any, kind: str, path: str) -> Any:
        if kind in STRUCTURES:
            return self.structure(value, kind, path)
        if kind == "Extension":
            self._extension(value, path)
        elif kind in NUMBERS:
            if type(value) is not NUMBERS[kind] or value < 0:
                self.refuse(path, f"not a FHIR {kind}", code="structure")
        elif not isinstance(value, str) or PRIMITIVES[kind].fullmatch(value) is None:
            self.refuse(path, f"not a FHIR {kind}", code="structure")
            return None
        return value

    def _beside_primitive(self, value: Any, element: Element, path: str) -> None:
        """Let extensions of a primitive pass if it only documents; of another, they may change it."""
        if element.kind in STRUCTURES or element.kind == "Extension":
            self.refuse(path, "only a primitive has such a member", code="structure")
        elif element.fate is Fate.KEPT:
            self.refuse(path, "an extension of this value may change what is granted and cannot be kept")
        else:
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    self._extended(one, path)

    def _extended(self, value: Any, path: str) -> None:
        if not isinstance(value, dict) or not value or not set(value) <= {"id", "extension"}:
            self.refuse(path, "an id and extensions are expected here", code="structure")
        for extension in value.get("extension", ()) if isinstance(value, dict) else ():
            self._extension(extension, path)

    def _extension(self, value: Any, path: str) -> None:
        """An extension that is not a modifier may be passed over (R4, 2.4.0); what is absent may not."""
        if not isinstance(value, dict) or not isinstance(value.get("url"), str):
            self.refuse(path, "an extension has a url", code="structure")
        for name, member in _members(value):
            if name == "modifierExtension":
                self.refuse(path, "a modifier extension may change what is granted and cannot be kept")
            if name == "url" and member == ABSENT:
                self.refuse(path, "a value that is said to be absent or unknown cannot be kept")


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every member at any depth."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name, member
            yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)


_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def _shown(name: str) -> str:
    """Return an element's name; one that cannot be one is not repeated, for it may be anything."""
    return name if _NAME.fullmatch(name) else "?"
