"""The lines of docs/own-event-types.md that seal a field work as they stand there."""

from __future__ import annotations

import ast
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.own_types import HOSPITAL

from salus.client import own_event_type
from salus.client.identifiers import new_id
from salus.crypto.sealing import generate_key_pair, seal, unseal
from salus.events.did import LocalSigner
from salus.events.event_types import schema_file
from salus.events.fields import Sealed
from salus.events.sealing_context import sealing_context
from salus.events.type_definition import with_sealed
from salus.ledger.json_reader import read_json

PAGE = (Path(__file__).parents[3] / "docs" / "own-event-types.md").read_text()
PATIENT = "urn:uuid:6f1c3a52-7a0e-8d5f-9c2b-1f2e3d4c5b6a"


class Publisher:
    """Keeps what it is to publish."""

    async def publish(self, data: object, *, subject: str, id: str) -> None:  # noqa: A002  # as the real one
        self.data, self.subject, self.id = data, subject, id


async def test_the_lines_that_seal_a_field_seal_what_its_reader_opens() -> None:
    (schema,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (lines,) = re.findall(r"```python\n(event_id = .*?)```", PAGE, re.DOTALL)
    bed_occupied = own_event_type(schema_file(with_sealed(read_json(schema.encode()))), member=HOSPITAL)
    pair, publisher = generate_key_pair(), Publisher()
    names: dict[str, Any] = {
        "UTC": UTC,
        "b64decode": b64decode,
        "datetime": datetime,
        "new_id": new_id,
        "seal": seal,
        "Sealed": Sealed,
        "sealing_context": sealing_context,
        "bed_occupied": bed_occupied,
        "key": {"key": f"{PATIENT}#1", "public_key": b64encode(pair.public_key).decode()},
        "patient": PATIENT,
        "publisher": publisher,
        "signer": LocalSigner.from_seed(b"h" * 32),
    }
    code = compile(lines, "own-event-types.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    await eval(code, names)  # our own page

    source = names["signer"].did
    context = sealing_context(bed_occupied.data, source=source, id=publisher.id)
    sealed = publisher.data.reason  # type: ignore[attr-defined]  # the class is made of the page's schema
    assert unseal(sealed, private_key=pair.private_key, context=context) == b"pneumonia"
    assert publisher.subject == PATIENT
