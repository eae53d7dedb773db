"""The key ring that a service keeps by following the identity topic, and what it says of later records."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.asking import NETWORK

from salus.events.contexts import CATALOGUE
from salus.events.effect import Refused
from salus.events.keyring import KeyRing
from salus.runtime.identity_view import IdentityView, NotFoldedYetError


class Network:
    def new_ring(self) -> KeyRing:
        return KeyRing(CATALOGUE, NETWORK, position=5)


def test_of_a_record_that_is_not_folded_yet_nobody_says_that_it_is_refused() -> None:
    # Red team 4: identity's database would have left out its effect for ever.
    view = IdentityView(cast("Any", None), cast("Any", Network()))

    for offset in (5, 6, 1000):
        with pytest.raises(NotFoldedYetError) as caught:
            view.outcome(offset)
        assert (caught.value.offset, caught.value.position) == (offset, 5)
    assert view.outcome(4) == Refused("folded-long-ago")
