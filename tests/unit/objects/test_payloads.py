"""Payloads are signed wherever nothing else sees to it that they arrive as they were sent."""

from __future__ import annotations

import pytest

from salus.objects.s3 import arrives_whole


@pytest.mark.parametrize(
    ("endpoint", "whole"),
    [
        ("https://minio.storage.svc:9000", True),
        ("https://192.0.2.1", True),
        ("http://127.0.0.1:9000", True),
        ("http://127.8.9.1:9000", True),
        ("http://[::1]:9000", True),
        ("http://localhost:9000", True),
        ("http://minio.storage.svc:9000", False),
        ("http://localhost.example:9000", False),
        ("http://127.0.0.1.example:9000", False),
        ("http://192.0.2.1:9000", False),
        ("http://0.0.0.0:9000", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_only_tls_and_the_machine_itself_carry_a_payload_whole(endpoint: str, *, whole: bool) -> None:
    assert arrives_whole(endpoint) is whole
