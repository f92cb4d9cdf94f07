"""Where an EMR may have itself told of changes: the endpoints a site allows, and the addresses they may be at.

A client names the endpoint that we send to, so it must not be able to make us speak to the site's own machines (server-
side request forgery). An endpoint lies below an entry of the site's list. What its name resolves to must be a public
address, or in a network that the site names, or be the entry itself; the connection goes to the address that was
checked. Some addresses nobody can allow: link-local ones, where clouds answer with credentials, and groups.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

MOST_URL_CHARACTERS: Final = 500
PORTS: Final = {"http": 80, "https": 443}
# As strict as it can be: no user, query or fragment, where secrets and patients would stand in logs; no backslash,
# escape or second way to write a host, which different readers take for different things.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?"
    r"(?P<path>(/[A-Za-z0-9._~-]+)*)/?",
    re.ASCII,
)
_PUBLIC_6: Final = IPv6Network("2000::/3")  # RFC 4291 2.4: what is allocated of the global unicast addresses
_TUNNELS: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("64:ff9b::/96"))  # other addresses

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send to; `path` has no slash at its end."""

    scheme: str
    host: str  # without the brackets of an IPv6 address
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != PORTS[self.scheme] else "")

    @property
    def literal(self) -> Address | None:
        """The address that the host is; None for a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        return self.host == "localhost" or (self.literal is not None and self.literal.is_loopback)

    def below(self, entry: Endpoint) -> bool:
        """Whether the entry allows it: the same server, and a path below its own."""
        same = (self.scheme, self.host, self.port) == (entry.scheme, entry.host, entry.port)
        return same and f"{self.path}/".startswith(f"{entry.path}/")


def read_endpoint(text: str) -> Endpoint:
    """An endpoint as it is written. ValueError for what is none, with a text for the reader that does not repeat it."""
    match = _URL.fullmatch(text) if len(text) <= MOST_URL_CHARACTERS else None
    if match is None:
        raise ValueError("is not https://host[:port][/path] in lower case, without user, query, fragment and escapes")
    host, port = match["host"].strip("[]"), int(match["port"] or PORTS[match["scheme"]])
    if not 0 < port < 65536:
        raise ValueError("has a port that is none")
    if any(part in (".", "..") for part in match["path"].split("/")):
        raise ValueError("has a path that goes up")
    found = Endpoint(match["scheme"], host, port, match["path"])
    if (":" in host or re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.rpartition(".")[2])) and (
        found.literal is None or str(found.literal) != host
    ):
        raise ValueError("has an address that is not written as usual")  # 127.1 and 0x7f000001 are addresses to some
    if found.scheme == "http" and not found.loopback:
        raise ValueError("is not https, which only this machine's own addresses may do without")
    return found


def allowed(text: str, entries: Sequence[Endpoint]) -> Endpoint:
    """The endpoint, if the site allows it. ValueError otherwise, with a text for whoever asked for it."""
    found = read_endpoint(text)
    if not any(found.below(entry) for entry in entries):
        raise ValueError("is not on the laboratory's list of endpoints ([api] hooks)")
    return found


def reachable(address: str, endpoint: Endpoint, networks: Sequence[str]) -> bool:
    """Whether we may connect to this address for an endpoint that is allowed."""
    ip: Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if never(ip):
        return False
    if ip.is_loopback:
        return endpoint.loopback
    if ip == endpoint.literal or any(ip in ip_network(network) for network in networks):
        return True
    return ip.is_global and (isinstance(ip, IPv4Address) or (ip in _PUBLIC_6 and not any(ip in t for t in _TUNNELS)))


def never(ip: Address) -> bool:
    """Addresses that no site can allow."""
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback)
