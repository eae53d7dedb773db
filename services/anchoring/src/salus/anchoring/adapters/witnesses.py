"""Members' witnesses over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import httpx

from salus.anchoring.domain import cosigning_request
from salus.anchoring.ports import OtherSizeError, WitnessError
from salus.ledger.base import int_of_decimal

# A few ML-DSA-44 signatures; an answer beyond this is none.
ANSWER_BYTES_MAX = 32_768
SIZE = "text/x.tlog.size"


class HttpWitness:
    """One witness; the client is shared, keeps connections alive and is closed by whoever made it."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/") + "/add-checkpoint"

    async def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
        """Return its signature lines."""
        body = cosigning_request(old_size, proof, note)
        try:
            async with self._client.stream("POST", self._url, content=body) as answer:
                content = await _read(answer)
        except httpx.HTTPError as error:
            raise WitnessError(f"it does not answer: {type(error).__name__}") from error
        if answer.status_code == HTTPStatus.OK:
            return content
        if answer.status_code == HTTPStatus.CONFLICT and answer.headers.get("content-type") == SIZE:
            try:
                size = int_of_decimal(content.decode("ascii").removesuffix("\n"))
            except ValueError:
                raise WitnessError("it tells a size that is none") from None
            raise OtherSizeError(size)
        raise WitnessError(f"it refuses: {answer.status_code}")


async def _read(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise WitnessError(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(content)
