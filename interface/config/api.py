"""The `[api]` table, and what would be unsafe in it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from interface.config.hooks import read_hooks
from interface.config.table import Table
from interface.config.tls import read_server_tls
from interface.settings import ApiSettings, Preliminary

_HOST = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
MOST_RATE, MOST_API_WORKERS = 1_000_000, 16


def read_api(table: Table | None) -> ApiSettings:
    """The settings; what is wrong is noted in the table."""
    default = ApiSettings()
    if table is None:
        return default
    base_url = table.text("base_url")
    if base_url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", base_url):
        table.problem("base_url", "is not an http:// or https:// URL without user, query and fragment")
    elif base_url.startswith("http:") and not is_loopback(urlsplit(base_url).hostname or ""):
        table.problem("base_url", "is not https: beyond this machine tokens and results would be read by anybody")
    listen = table.address("listen", default.listen) or default.listen
    tls = table.table("tls") if table.has("tls") else None
    behind_proxy = table.flag("behind_proxy") or False
    if tls is None and not table.has("tls") and not behind_proxy and not is_loopback(listen.host):
        table.problem(
            "listen",
            f"{listen} is reached from other machines, without TLS: set [api] tls, or behind_proxy = true where only a"
            " proxy with TLS reaches it",
        )
    trusted_proxies = _networks(table, "trusted_proxies")
    if behind_proxy and not table.has("trusted_proxies"):
        table.problem(
            "trusted_proxies",
            "is missing: name the proxy's address, or all who come by it are one to the limits and the audit, and who"
            " guesses passwords keeps everybody from logging in",
        )
    hooks, hook_networks = read_hooks(table)
    settings = ApiSettings(
        listen=listen,
        base_url=base_url.rstrip("/"),
        preliminary=table.choice("preliminary", Preliminary.HIDDEN),
        token_lifetime_s=table.whole("token_lifetime_s", default.token_lifetime_s, 60, 86400),
        jwks_hosts=_hosts(table, "jwks_hosts"),
        workers=table.whole("workers", default.workers, 1, MOST_API_WORKERS),
        hooks=hooks,
        hook_networks=hook_networks,
        tls=read_server_tls(tls) if tls is not None else None,
        behind_proxy=behind_proxy,
        trusted_proxies=trusted_proxies,
        address_rate=table.whole("address_rate", default.address_rate, 0, MOST_RATE),
        client_rate=table.whole("client_rate", default.client_rate, 0, MOST_RATE),
    )
    table.close()
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _hosts(table: Table, key: str) -> frozenset[str]:
    found = table.texts(key)
    for index, text in enumerate(found):
        if not _HOST.fullmatch(text):
            table.problem(f"{key}[{index}]", f'"{text}" is not a host in lower case, or host:port')
    return frozenset(found)


def _networks(table: Table, key: str) -> tuple[str, ...]:
    found = []
    for index, text in enumerate(table.texts(key)):
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            table.problem(f"{key}[{index}]", f'"{text}" is not an address or a network, such as 10.1.2.0/24')
    return tuple(found)
