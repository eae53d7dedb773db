"""A service that takes no commands: whether its key signs, as everybody else sees it (issue 12 item 1)."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.asking import NETWORK, UNASKED
from tests.founding import public_key

from salus.anchoring.adapters.kafka import KafkaAlarms
from salus.archive.report import Finding
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.runtime.own_key import AnnouncingKey, OwnKeyError

SIGNER = LocalSigner.from_seed(bytes(31) + b"\x09")
DAMAGE = Finding(severity="error", code="body-hash", bucket="ledger", key="k", detail="d")
LOST = {
    "key-revoked": KeyRevoked(SIGNER.did, SIGNER.verification_method, "compromised", request=UNASKED),
    "does not hold the role anchoring": RoleWithdrawn(SIGNER.did, "anchoring", request=UNASKED),
}


def ring(*, registered: bool = True) -> KeyRing:
    made = KeyRing(CATALOGUE, NETWORK)
    if registered:
        keys = (public_key(SIGNER),)
        made.apply(PartyRegistered(SIGNER.did, "service", keys, ("anchoring",), request=UNASKED))
    return made


@pytest.mark.parametrize("why", LOST)
async def test_a_service_whose_key_signs_no_more_says_so_and_announces_nothing(why: str) -> None:
    known, key = ring(), AnnouncingKey(SIGNER, role="anchoring")
    key.look(known)
    key.require()
    await key.check()
    known.apply(LOST[why])
    # It would fail in another way if it came as far as a broker.
    nothing = cast("Any", None)
    announcements = KafkaAlarms(nothing, SIGNER, key, origin="salus.test/log", outcome=nothing)

    with pytest.raises(OwnKeyError, match=why):
        await key.check()
    with pytest.raises(OwnKeyError, match=why):
        await announcements.announce(size=1, checkpoint="c")
    with pytest.raises(OwnKeyError, match=why):
        await announcements.raise_alarm(DAMAGE, event_id="1")


@pytest.mark.parametrize("why", ["not read yet", "unknown-key"])
async def test_a_key_that_identity_has_not_registered_yet_is_waited_for_by_alarms_alone(why: str) -> None:
    key = AnnouncingKey(SIGNER, role="anchoring")
    if why == "unknown-key":
        key.look(ring(registered=False))

    await key.check()
    with pytest.raises(OwnKeyError, match=why):
        key.require()
