"""Resolves did:key, and did:web at whoever's host: the address of a stranger, which may lead anywhere.

Who gives us a DID chooses where we connect. So a host is looked up once, every address that it has must be
one of the public Internet or of a network that the caller named, and the connection goes to the very address
that was looked at, while certificate and `Host` are those of the name. No redirect is followed, no proxy of
the environment is used, and one deadline holds for everything.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from salus.client.bounded_http import AnswerTooLargeError, bounded_client
from salus.client.did_documents import DidDocument, read_did_document
from salus.client.errors import DidError
from salus.events.did import key_of
from salus.events.party_form import objection_to_did

DOCUMENT_BYTES_MAX = 64 * 1024
RESOLVE_S_MAX = 10.0
# A name may have many addresses; the first that takes the connection serves.
ADDRESSES_MAX = 4
_ACCEPT = "application/did+ld+json, application/did+json, application/json;q=0.9, */*;q=0.1"
_HTTPS_PORT = 443
_PORT_MAX = 65_535
# A last label like these makes an IP address of a name (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"0(?:x[0-9a-f]*|[0-9]*)|[1-9][0-9]*")
# RFC 6052: an address of IPv4 in the last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")
# IANA's special-purpose addresses, where clouds have their metadata; Python takes most of them for public.
_SPECIAL = IPv4Network("192.0.0.0/24")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LookUp = Callable[[str, int], Awaitable[Sequence[str]]]


async def look_up(host: str, port: int) -> Sequence[str]:
    """Return the IP addresses of a name, as the machine's resolver has them; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class DidResolver:
    """Resolves DIDs.

    `inside` are networks that may be connected to though they are not public, and `tls` says whose
    certificates are good; those of the machine by default.
    """

    inside: Sequence[Network] = ()
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    look_up: LookUp = look_up
    seconds_max: float = RESOLVE_S_MAX

    async def resolve(self, did: str) -> DidDocument:
        """Return what a DID's own document says of its keys.

        Raises:
            DidError: there is none to be trusted; its `code` says why.
        """
        objection = objection_to_did(did)
        if objection is not None:
            raise DidError("invalid-did", objection.why)
        if did.startswith("did:key:"):
            multibase = did.removeprefix("did:key:")
            return DidDocument(did, {f"{did}#{multibase}": key_of(multibase)})
        try:
            async with asyncio.timeout(self.seconds_max):
                document = await self._read(did)
        except TimeoutError:
            why = f"its host had not answered after {self.seconds_max:g} s"
            raise DidError("did-unreachable", why) from None
        return read_did_document(did, document)

    async def _read(self, did: str) -> bytes:
        host, port, path = place_of(did)
        if not 1 <= port <= _PORT_MAX:
            raise DidError("invalid-did", f"its port is not one of 1 to {_PORT_MAX}")
        addresses = await self._addresses(host, port)
        options = {"verify": self.tls, "trust_env": False, "timeout": self.seconds_max}
        async with bounded_client(DOCUMENT_BYTES_MAX, follow_redirects=False, **options) as client:
            refused: httpx.HTTPError | None = None
            for address in addresses[:ADDRESSES_MAX]:
                literal = f"[{address}]" if address.version == 6 else str(address)
                request = client.build_request(
                    "GET",
                    f"https://{literal}:{port}{path}",
                    headers={"Host": host if port == _HTTPS_PORT else f"{host}:{port}", "Accept": _ACCEPT},
                    extensions={"sni_hostname": host},
                )
                try:
                    return _document_in(await client.send(request))
                except httpx.ConnectError as error:
                    refused = error
                except AnswerTooLargeError as error:
                    raise DidError("did-document-invalid", str(error)) from None
                except httpx.HTTPError as error:
                    raise _unreachable(error) from None
        raise _unreachable(refused)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, all of which may be connected to."""
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise DidError("invalid-did", "its host is an IP address, and did:web takes names alone")
        try:
            found = [ip_address(text.partition("%")[0]) for text in await self.look_up(host, port)]
        except (OSError, UnicodeError):
            raise DidError("did-unreachable", "its host has no address") from None
        if not found:
            raise DidError("did-unreachable", "its host has no address")
        if not all(is_public(address) or self._is_inside(address) for address in found):
            raise DidError("did-inward", "its host has an address that is not of the public Internet")
        return found

    def _is_inside(self, address: Address) -> bool:
        return any(address in network for network in self.inside)


def place_of(did: str) -> tuple[str, int, str]:
    """Return host, port and path where the document of a well-formed did:web is."""
    place, *segments = did.removeprefix("did:web:").split(":")
    host, _, port = place.partition("%3A")
    path = "/".join(segments) or ".well-known"
    return host, int(port or _HTTPS_PORT), f"/{path}/did.json"


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public Internet, and leads to no other one."""
    if isinstance(address, IPv6Address):
        within = _within(address)
        if within is not None:
            return is_public(within)
        if address.is_site_local:
            return False
    elif address in _SPECIAL:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _within(address: IPv6Address) -> IPv4Address | None:
    """Return the address of IPv4 that a router or the kernel takes out of one of IPv6."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _document_in(answer: httpx.Response) -> bytes:
    match answer.status_code:
        case 200:
            return answer.content
        case 404:
            raise DidError("did-not-found", "its host has no document of it (404)")
        case 410:
            raise DidError("did-deactivated", "its host says that it is deactivated (410)")
        case status if answer.is_redirect or 300 <= status < 400:
            raise DidError("did-redirected", f"its host sends us elsewhere ({status}), and nobody follows")
        case status:
            raise DidError("did-unreachable", f"its host answered {status}")


def _unreachable(error: httpx.HTTPError | None) -> DidError:
    if _is_of_certificate(error):
        return DidError("did-unreachable", "its certificate is not good for its host")
    return DidError("did-unreachable", "no connection to its host, or none that lasted")


def _is_of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
