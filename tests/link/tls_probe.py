"""What a listener with TLS takes: each protocol and each cipher that OpenSSL knows, one handshake each."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from interface.settings import Address

EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
FORWARD = frozenset({"kx-ecdhe", "kx-dhe", "kx-any"})  # any: of TLS 1.3, which has no other


@dataclass(frozen=True, slots=True)
class Taken:
    """A handshake that came about. `secret`: whether what is recorded stays secret when the key is known one day."""

    version: str
    cipher: str
    secret: bool


def _context(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of old versions
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


def _asked() -> Iterator[tuple[ssl.SSLContext, bool]]:
    for version in (*OLD, ssl.TLSVersion.TLSv1_3):
        yield _context(version, EVERYTHING), version not in OLD
    for cipher in _context(ssl.TLSVersion.TLSv1_2, EVERYTHING).get_ciphers():
        if cipher["protocol"] != "TLSv1.3":
            name = str(cipher["name"])
            try:
                context = _context(ssl.TLSVersion.TLSv1_2, f"{name}:@SECLEVEL=0")
            except ssl.SSLError:
                continue  # it needs what is not there: SRP, PSK
            yield context, cipher["kea"] in FORWARD


def probe(address: Address) -> list[Taken]:
    """In a thread, beside the loop that serves."""
    taken = []
    for context, secret in _asked():
        try:
            with (
                socket.create_connection((address.host, address.port), 10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as line,
            ):
                found = line.cipher()
                assert found is not None
                taken.append(Taken(str(line.version()), found[0], secret))
        except (ssl.SSLError, ConnectionError):
            continue  # refused
    return taken
