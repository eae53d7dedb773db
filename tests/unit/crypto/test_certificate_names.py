"""A certificate's subject as Java's X500Principal.getName() writes it, seen on Java 17.

Kafka's own word for the same names is in tests/integration/messaging/test_kafka_accounts.py.
"""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509 import NameAttribute, RelativeDistinguishedName
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from salus.crypto.certificate_names import principal_of

COUNTRY, ORGANISATION = NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        (
            [(COUNTRY, "AT"), (ORGANISATION, "St. Anna"), (NameOID.COMMON_NAME, "ehr")],
            "CN=ehr,O=St. Anna,C=AT",
        ),
        ([(ORGANISATION, 'A, "B" + <x>;#\\ = y')], 'O=A\\, \\"B\\" \\+ \\<x\\>\\;\\#\\\\ \\= y'),
        ([(NameOID.COMMON_NAME, " klinik ö ")], "CN=\\ klinik ö\\ "),
        ([(NameOID.COMMON_NAME, "   ")], "CN=\\ \\ \\ "),
        ([(NameOID.COMMON_NAME, "a  b")], "CN=a  b"),
        (
            [(NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.SERIAL_NUMBER, "12")],
            "2.5.4.5=#13023132,1.2.840.113549.1.9.1=#16056140622e63",
        ),
        (
            [(NameOID.USER_ID, "u"), (NameOID.STREET_ADDRESS, "s"), (NameOID.LOCALITY_NAME, "l")],
            "L=l,STREET=s,UID=u",
        ),
        # A length of two bytes.
        ([(NameOID.TITLE, "ö" * 64)], "2.5.4.12=#0c8180" + "c3b6" * 64),
    ],
)
def test_a_subject_is_written_as_java_writes_it(
    attributes: list[tuple[x509.ObjectIdentifier, str]], name: str
) -> None:
    assert principal_of(x509.Name([NameAttribute(oid, value) for oid, value in attributes])) == name


def test_attributes_side_by_side_are_joined_with_a_plus() -> None:
    both = RelativeDistinguishedName(
        [NameAttribute(NameOID.COMMON_NAME, "b"), NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a")]
    )
    above = RelativeDistinguishedName([NameAttribute(NameOID.DOMAIN_COMPONENT, "org")])

    assert principal_of(x509.Name([both, above])) == "DC=org,CN=b+OU=a"


def test_a_text_of_an_old_kind_is_not_guessed() -> None:
    old = NameAttribute(NameOID.COMMON_NAME, "é", _type=_ASN1Type.BMPString)

    with pytest.raises(ValueError, match="old kind"):
        principal_of(x509.Name([old]))
