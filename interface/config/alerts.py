"""The `[alerts]` table: thresholds, and the channels by which alerts leave. Secrets are not in the file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from interface.config.api import is_loopback
from interface.config.credentials import secret as secret_of
from interface.config.table import Table
from interface.domain import templates
from interface.domain.hours import read_hours
from interface.settings import AlertSettings, ChannelSettings, ChannelType, Content, MailSecurity

SYSTEM_ROSTER = Path("/etc/labora/roster.toml")
_TYPES = ", ".join(ChannelType)
_HTTP_KEYS = ("url", "method", "body", "content_type", "headers")
_MAIL_KEYS = ("server", "security", "from", "user")
_ADDRESS = re.compile(r"(?:[^<>\r\n\"]{1,80} <)?[^\s<>@,;\"]{1,64}@[A-Za-z0-9.-]{1,190}>?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110 5.6.2: a header's name
_DAY_S = 86400.0


def secret_names(channel: str) -> tuple[str, str]:
    """Where a channel's secret comes from: a variable of the environment, a credential of systemd's."""
    return f"LABORA_ALERT_{re.sub('[^A-Z0-9]', '_', channel.upper())}", f"labora.alert-{channel}"


def read_alerts(table: Table | None, environ: Mapping[str, str]) -> AlertSettings:
    """The settings; what is wrong is noted in the table."""
    default = AlertSettings()
    if table is None:
        return default
    channels = [read_channel(one, environ) for one in table.tables("channel")]
    ids: dict[str, int] = {}
    for index, channel in enumerate(channels):
        if channel.id and (first := ids.setdefault(channel.id, index)) != index:
            table.problem(f"channel[{index}].id", f'"{channel.id}" is already the id of channel[{first}]')
    settings = AlertSettings(
        channels=tuple(channels),
        roster=_roster(table),
        timezone=_timezone(table),
        critical_content=table.choice("critical_content", Content.NONE),
        notice_content=table.choice("notice_content", Content.NONE),
        gather_s=table.seconds("gather_s", default.gather_s, 0.0, 600.0),
        apart_s=table.seconds("apart_s", default.apart_s, 0.0, 3600.0),
        link_down_after_s=table.seconds("link_down_after_s", default.link_down_after_s, 0.0, _DAY_S),
        database_after_s=table.seconds("database_after_s", default.database_after_s, 1.0, 3600.0),
        backlog_messages=table.whole("backlog_messages", default.backlog_messages, 0, 10_000_000),
        backlog_age_s=table.seconds("backlog_age_s", default.backlog_age_s, 0.0, _DAY_S),
        held_after_s=table.seconds("held_after_s", default.held_after_s, 0.0, 31 * _DAY_S),
        unmapped_after_s=table.seconds("unmapped_after_s", default.unmapped_after_s, 0.0, 31 * _DAY_S),
        qc_due_min=table.whole("qc_due_min", default.qc_due_min, 0, 7 * 24 * 60),
    )
    for index, channel in enumerate(channels):
        told = (settings.critical_content, settings.notice_content)
        if any(one is not Content.NONE for one in told) and any(
            templates.uses(channel.url, word) for word in ("title", "text")
        ):
            table.problem(
                f"channel[{index}].url",
                'holds {text}, and critical_content or notice_content is not "none": order numbers do not belong into'
                " addresses, which servers log; put {text} into the body",
            )
    table.close()
    return settings


def _roster(table: Table) -> Path | None:
    text = table.text("roster")
    if not text:
        return SYSTEM_ROSTER if SYSTEM_ROSTER.is_file() else None
    path = Path(os.path.expanduser(text))
    if not path.is_absolute():
        table.problem("roster", f'"{text}" must be an absolute path')
        return None
    return path


def _timezone(table: Table) -> str:
    zone = table.text("timezone", "UTC")
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, LookupError):
        table.problem("timezone", f'"{zone}" is not an IANA time zone such as Asia/Jakarta that this machine has')
        return "UTC"
    return zone


def read_channel(table: Table, environ: Mapping[str, str]) -> ChannelSettings:
    id, written = table.name("id", required=True), table.text("type", required=True)
    kind = table.choice("type", ChannelType.SMTP) if written else ChannelType.SMTP
    variable, name = secret_names(id)
    secret = secret_of(variable, name, environ) if id else ""
    mail = kind is ChannelType.SMTP
    for key in _HTTP_KEYS if mail else _MAIL_KEYS:
        if table.has(key):
            table.get(key)
            table.problem(key, f"is of no use with {kind}")
    channel = ChannelSettings(
        id=id,
        type=kind,
        wait_s=table.seconds("wait_s", 20.0, 1.0, 120.0),
        ca=_ca(table),
        secret=secret,
        **(_mail(table, secret, variable) if mail else _http(table, kind, secret, variable)),  # type: ignore[arg-type]
    )
    table.close()
    return channel


def _ca(table: Table) -> Path | None:
    text = table.text("ca")
    if not text:
        return None
    from interface.link import tls

    problems = tls.ca_problems("ca", Path(text))
    for key, problem in problems:
        table.problem(key, problem)
    return None if problems else Path(text)


def _mail(table: Table, secret: str, variable: str) -> dict[str, object]:
    server = table.address("server")
    security = table.choice("security", MailSecurity.STARTTLS)
    sender, user = table.text("from", required=True), table.text("user")
    if sender and not _ADDRESS.fullmatch(sender):
        table.problem("from", f'"{sender}" is not an address such as labora@lab.example.org or "Labora <labora@…>"')
    if security is MailSecurity.NONE and server is not None and not is_loopback(server.host):
        table.problem("security", f"none: what is sent to {server.host} would be read by anybody on the way")
    if user and not secret:
        table.problem("user", f"needs a password: set {variable}, or give the credential of systemd's")
    return {"server": server, "security": security, "sender": sender, "user": user}


def _http(table: Table, kind: ChannelType, secret: str, variable: str) -> dict[str, object]:
    url, method = table.text("url"), table.text("method", "POST")
    body, content_type = table.text("body"), table.text("content_type", "application/json")
    if kind in (ChannelType.SLACK, ChannelType.TEAMS):
        # Whoever has the address of an incoming webhook may post: https://docs.slack.dev "keep them secret"
        for key in _HTTP_KEYS:
            if table.has(key):
                table.get(key)
                text = f"is a secret: set {variable}" if key == "url" else f"is not needed with {kind}"
                table.problem(key, text)
        if not secret:
            table.problem("", f"needs the webhook's address: set {variable}, or give the credential of systemd's")
        elif problem := _url_problem(secret):
            table.problem("", f"{variable} {problem}")
        return {"url": "{secret}"}
    if method not in ("POST", "GET", "PUT"):
        table.problem("method", f'"{method}" is none of POST, PUT, GET')
    headers = _headers(table)
    for key, text in (("url", url), ("body", body), *((f"headers.{name}", value) for name, value in headers)):
        for word in templates.unknown(text):
            known = ", ".join(f"{{{one}}}" for one in templates.WORDS)
            table.problem(key, f"holds {{{word}}}, which is none of {known}")
        if templates.uses(text, "secret") and not secret:
            table.problem(key, f"holds {{secret}}: set {variable}, or give the credential of systemd's")
    if not url:
        table.problem("url", "is missing")
    elif problem := _url_problem(url):
        table.problem("url", problem)
    if kind is ChannelType.SMS and not any(templates.uses(text, "text") for text in (url, body)):
        table.problem("body", "holds no {text}: nothing would be said")
    return {"url": url, "method": method, "body": body, "content_type": content_type, "headers": headers}


def _headers(table: Table) -> tuple[tuple[str, str], ...]:
    inner = table.table("headers") if table.has("headers") else None
    if inner is None:
        return ()
    found = tuple((name, inner.text(name)) for name in inner.names)
    for name, _ in found:
        if not _TOKEN.fullmatch(name):
            inner.problem(name, "is not the name of a header")
    return found


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL: check the host and the port"
    if parts.scheme not in ("https", "http") or not parts.hostname or "{" in parts.netloc or port == 0:
        return "is not an https:// URL"
    if parts.username is not None or parts.password is not None:
        return "carries a user: put what is secret into a header, as {secret}"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "is not https: what is sent would be read by anybody on the way"
    return ""


def read_working_hours(table: Table, key: str) -> tuple[str, ...]:
    """As they are written; `domain.hours` reads them again."""
    found = table.texts(key)
    for index, text in enumerate(found):
        try:
            read_hours(text)
        except ValueError as error:
            table.problem(f"{key}[{index}]", str(error))
    return found
