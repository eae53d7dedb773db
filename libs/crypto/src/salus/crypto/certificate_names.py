"""The name that Java, and so Kafka, gives who shows an X.509 certificate."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

# The attributes that RFC 2253 has words for; Java writes every other one by its number, and its value in hex.
_WORDS = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
}
_ESCAPED = frozenset(',=+<>#;"\\')


# Texts that Java reads as they are; of older kinds it makes something else, or something that varies.
_UTF8, _PRINTABLE, _IA5 = 0x0C, 0x13, 0x16
_LENGTH_OF_LENGTH = 0x80


def principal_of(subject: x509.Name) -> str:
    """Return the name that Kafka gives who shows a certificate, where `ssl.principal.mapping.rules` is unset.

    It is that of Java's X500Principal: RFC 2253, the last attribute first.

    Raises:
        ValueError: an attribute is no UTF8String, PrintableString or IA5String.
    """
    return ",".join("+".join(map(_attribute, rdn)) for rdn in reversed(subject.rdns))


def _attribute(one: x509.NameAttribute[str | bytes]) -> str:
    word, value = _WORDS.get(one.oid), _der_value(one)
    if value[0] not in {_UTF8, _PRINTABLE, _IA5} or isinstance(one.value, bytes):
        raise ValueError(f"{one.oid.dotted_string} is a text of an old kind: take the name from Kafka's log")
    if word is None:
        return f"{one.oid.dotted_string}=#{value.hex()}"
    escaped = "".join(f"\\{c}" if c in _ESCAPED else "\\00" if c == "\0" else c for c in one.value)
    inner = escaped.strip(" ")
    before = len(escaped) - len(escaped.lstrip(" "))
    after = len(escaped) - before - len(inner)
    return f"{word}=" + "\\ " * before + inner + "\\ " * after


def _der_value(one: x509.NameAttribute[str | bytes]) -> bytes:
    """Return an attribute's value as the certificate has it: behind three headers and the number."""
    der = x509.Name([one]).public_bytes()
    for _ in range(3):
        der = der[2 if der[1] < _LENGTH_OF_LENGTH else 2 + der[1] - _LENGTH_OF_LENGTH :]
    return der[2 + der[1] :]
