"""Storage in a process that is killed between two steps of an erasure, or of an upload.

Run by `test_killed_erasures.py` and `test_killed_uploads.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from itertools import count
from typing import Any

from salus.contracts.obligations import Obligations
from salus.contracts.reactor_host import ReactorHost
from salus.contracts.service import run
from salus.events.contexts.storage import ObjectStored, SubjectErased, SubjectKeyDestroyed
from salus.objects import S3Objects
from salus.runtime.publishing import ServicePublisher
from salus.storage.__main__ import SERVICE
from salus.storage.adapters.vault import FOLDER, BucketVault
from salus.storage.handlers.sealed_upload import SealedUpload
from salus.storage.handlers.upload_parts import UploadParts

# So many parts of a resumable upload are durable then.
PARTS_BEFORE_DEATH = 4
UPLOAD_STEPS = ("midway", "stored", "named")
# After so many segments, of which some are in the object store.
SEGMENTS_BEFORE_DEATH = 20
# So many parts of a resumable upload are durable then.
PARTS_BEFORE_DEATH = 4
STEPS = ("stated", "folded", "taken", "halfway", "destroyed", "recorded")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(
    owner: type, name: str, *, when: Callable[..., bool] = lambda *_: True, before: bool = False
) -> None:
    """Have the process killed right before or after a method, of the calls that are meant."""
    method = getattr(owner, name)

    @wraps(method)
    def last_of_thread(*arguments: Any, **named: Any) -> Any:
        answer = method(*arguments, **named)
        if when(*arguments):
            die()
        return answer

    @wraps(method)
    async def last(*arguments: Any, **named: Any) -> Any:
        if before and when(*arguments):
            die()
        answer = await method(*arguments, **named)
        if when(*arguments):
            die()
        return answer

    setattr(owner, name, last if iscoroutinefunction(method) else last_of_thread)


def about(kind: type) -> Callable[..., bool]:
    return lambda _, data, *__: isinstance(data, kind)


def nth(number: int) -> Callable[..., bool]:
    numbers = count(1)
    return lambda *_: next(numbers) == number


def main(step: str) -> None:  # noqa: C901  # a list of steps
    match step:
        case "stated":
            dying(ServicePublisher, "publish", when=about(SubjectErased))
        case "folded":
            dying(ReactorHost, "perform", before=True)
        case "taken":
            dying(Obligations, "seize")
        case "halfway":
            dying(S3Objects, "destroy", when=lambda _, key: key.startswith(f"{FOLDER}/"))
        case "destroyed":
            dying(BucketVault, "destroy")
        case "recorded":
            dying(ServicePublisher, "publish", when=about(SubjectKeyDestroyed))
        case "midway":
            dying(SealedUpload, "_sealed", when=lambda _, index, *__: index == SEGMENTS_BEFORE_DEATH)
        case "parted":
            dying(UploadParts, "add", when=nth(PARTS_BEFORE_DEATH))
        case "stored":
            dying(S3Objects, "put_stream", when=lambda *_: True)
        case "named":
            dying(ServicePublisher, "publish", when=about(ObjectStored))
        case _:
            sys.exit(f"no such step: {step}")
    run(SERVICE)


if __name__ == "__main__":
    main(sys.argv[1])
