"""Members' own event types: what a program that publishes such events makes of their JSON Schema."""

from __future__ import annotations

from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType, schema_file
from salus.events.type_definition import definition, faults_of_definition
from salus.ledger.json_reader import read_json


def own_event_type(schema: bytes, *, member: str) -> EventType:
    """Return the event type of a JSON Schema, whose `data` is the class of what is published.

    `member` is the DID of whose type it is. The schema is the one that identity shows, or the file that it
    was proposed from: the same in whatever way it is written.

    Raises:
        ValueError: it is no schema of an event type of this member; the sentence says where and why.
    """
    content = read_json(schema)
    topics = CATALOGUE.topics_of_members()
    faults = faults_of_definition(content, size=len(schema), member=member, topics=topics)
    if faults:
        raise ValueError("; ".join(faults))
    return definition(schema_file(content))
