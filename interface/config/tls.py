"""The `tls` table of a link: paths become settings, and what is wrong with the files is said at their keys."""

from __future__ import annotations

from pathlib import Path

from interface.config.table import Table
from interface.settings import DialTls, ListenTls


def read_tls(table: Table, *, dials: bool) -> ListenTls | DialTls | None:
    """The link's TLS settings; None when one of their problems leaves none."""
    from interface.link import tls  # OpenSSL's library is loaded for those who use it

    found = _dial(table) if dials else _listen(table)
    table.close()
    if found is None:
        return None
    problems = tls.dial_problems(found) if isinstance(found, DialTls) else tls.listen_problems(found)
    for key, text in problems:
        table.problem(key, text)
    return found


def read_server_tls(table: Table) -> ListenTls | None:
    """The certificate of the HTTP server; None when a problem leaves none. Clients prove who they are by tokens."""
    from interface.link import tls

    cert, key = _path(table, "cert", required=True), _path(table, "key", required=True)
    table.close()
    if cert is None or key is None:
        return None
    found = ListenTls(cert, key)
    for name, text in tls.listen_problems(found):
        table.problem(name, text)
    return found


def _listen(table: Table) -> ListenTls | None:
    cert, key, ca = (_path(table, name, required=name != "client_ca") for name in ("cert", "key", "client_ca"))
    allow = table.texts("allow")
    for index, text in enumerate(allow):
        if not text.strip():
            table.problem(f"allow[{index}]", "must not be empty")
    if allow and not table.has("client_ca"):
        table.problem("allow", "needs client_ca: without it no peer shows a certificate")
    if cert is None or key is None:
        return None
    from interface.link.tls import normalised

    return ListenTls(cert, key, ca, frozenset(map(normalised, allow)))


def _dial(table: Table) -> DialTls | None:
    ca, cert, key = (_path(table, name) for name in ("ca", "cert", "key"))
    for one, other in (("cert", "key"), ("key", "cert")):
        if table.has(one) and not table.has(other):
            table.problem(other, f"is missing: {one} is of no use without it")
    return DialTls(ca, cert, key, table.text("server_name"))


def _path(table: Table, key: str, required: bool = False) -> Path | None:
    text = table.text(key, required=required)
    if not text:
        return None
    if not text.startswith("/"):
        table.problem(key, f'"{text}" must be an absolute path')
        return None
    return Path(text)
