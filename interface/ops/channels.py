"""Sends one message by one channel: e-mail, a chat's webhook, a gateway for SMS.

What becomes of it is said as of subscriptions (`errors`): taken, to come again, refused for what it says. The addresses
are the administrator's own configuration; still no redirect is followed, certificates are checked, nothing of the
environment names a proxy, and an attempt ends after `wait_s`. What a server said is shown without its secrets.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Final
from uuid import UUID

import aiohttp
from yarl import URL

from interface.domain import templates
from interface.domain.alerts import Severity
from interface.errors import DeliveryAmbiguous, DeliveryRejected, DeliveryTransient
from interface.render.json import dumps
from interface.settings import Address, ChannelSettings, ChannelType, MailSecurity

MOST_ANSWER_BYTES: Final = 4096
MOST_SMS_CHARACTERS: Final = 300
_PORTS: Final = {MailSecurity.STARTTLS: 587, MailSecurity.TLS: 465, MailSecurity.NONE: 25}
# Whatever the message says, the server does not want us (now).
_OF_THE_SERVER: Final = frozenset({401, 403, 404, 405, 407, 408, 410, 421, 423, 425, 429})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`id` is the same however often it is sent: the receiver may know by it that it has it already."""

    id: UUID
    to: str
    title: str
    body: str
    severity: Severity = Severity.NOTICE


async def send(channel: ChannelSettings, message: Outgoing) -> str:
    """Returns what the server answered when it was taken. Raises DeliveryTransient, DeliveryAmbiguous,
    DeliveryRejected."""
    try:
        async with asyncio.timeout(channel.wait_s):
            if channel.type is ChannelType.SMTP:
                return await _mail(channel, message)
            return await _ask(channel, message)
    except TimeoutError:
        text = f"{_place(channel)} did not answer within {channel.wait_s:g} s"
        raise DeliveryAmbiguous(text) from None


def _context(channel: ChannelSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(channel.ca) if channel.ca else None)
    except OSError as error:  # it was there when the configuration was read; SSLError is one: it is no certificate
        reason = "it is no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise DeliveryTransient(f"the authorities' file {channel.ca} cannot be read: {reason}") from None


def _place(channel: ChannelSettings) -> str:
    """Which server, without what may be secret in its address."""
    if channel.type is ChannelType.SMTP:
        return str(channel.server)
    url = URL(templates.fill_url(channel.url, {}) if channel.url != "{secret}" else channel.secret)
    return f"{url.host}:{url.port}"


# ---- e-mail ---------------------------------------------------------------------------------------------------------


def mail(channel: ChannelSettings, message: Outgoing) -> EmailMessage:
    """As RFC 5322 and RFC 3834 have it: made by a program, which wants no answer."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = channel.sender, message.to, message.title
    made["Date"] = formatdate(usegmt=True)
    made["Message-ID"] = f"<{message.id}@{parseaddr(channel.sender)[1].rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    if message.severity is Severity.URGENT:
        made["Importance"] = "high"
    made.set_content(message.body.rstrip() + "\n")
    return made


async def _mail(channel: ChannelSettings, message: Outgoing) -> str:
    import aiosmtplib  # for those who send mail: a start is quicker without it

    server = channel.server or Address("", 0)
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port or _PORTS[channel.security],
        username=channel.user or None,
        password=channel.secret or None,
        timeout=channel.wait_s,
        use_tls=channel.security is MailSecurity.TLS,
        start_tls=channel.security is MailSecurity.STARTTLS,  # refused where the server does not offer it
        tls_context=_context(channel) if channel.security is not MailSecurity.NONE else None,
    )
    at = str(server)
    try:
        async with client:
            refused, answer = await client.send_message(mail(channel, message))
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [one.code for one in error.recipients]
        text = f"{at} does not take mail for the address ({', '.join(map(str, codes))})"
        raise (DeliveryRejected(text) if all(code >= 500 for code in codes) else DeliveryTransient(text)) from None
    except aiosmtplib.SMTPAuthenticationError as error:
        raise DeliveryTransient(f"{at} refuses the login ({error.code})") from None
    except aiosmtplib.SMTPResponseException as error:
        text = f"{at} answered {error.code} {_words(error.message)}"
        data = isinstance(error, aiosmtplib.SMTPDataError) and error.code >= 500
        raise (DeliveryRejected(text) if data else DeliveryTransient(text)) from None
    except ssl.SSLCertVerificationError as error:
        raise DeliveryTransient(f"{at} shows a certificate that is not trusted: {error.verify_message}") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise DeliveryTransient(_why(at, error)) from None
    return _words(answer) if not refused else "taken"


def _why(at: str, error: Exception) -> str:
    """What it is that keeps us from the server, the certificate if it is that."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{at} shows a certificate that is not trusted: {cause.verify_message}"
        if isinstance(cause, ConnectionRefusedError):
            return f"{at} refuses the connection"
        cause = cause.__cause__ or cause.__context__
    return f"{at} cannot be reached, or broke off ({type(error).__name__})"


def _words(text: str) -> str:
    return " ".join(text.split())[:200]


# ---- over HTTP ------------------------------------------------------------------------------------------------------


async def _ask(channel: ChannelSettings, message: Outgoing) -> str:
    try:
        url, headers, body = request(channel, message)
        at = _place(channel)
    except ValueError:  # what is in it may be secret
        raise DeliveryTransient("its address cannot be read") from None
    connector = aiohttp.TCPConnector(limit=1, ssl=_context(channel))
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None), headers={"User-Agent": "Labora"},
            ) as session,
            session.request(
                channel.method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as answer,
        ):  # fmt: skip
            status, text = answer.status, await _read(answer)
    except aiohttp.ClientConnectorCertificateError:
        raise DeliveryTransient(f"{at} shows a certificate that is not trusted") from None
    except aiohttp.ClientConnectorError as error:
        raise DeliveryTransient(_why(at, error.os_error)) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DeliveryAmbiguous(f"{at} gave no answer that could be read ({type(error).__name__})") from None
    if channel.secret:
        text = text.replace(channel.secret, "***")
    said = f"{at} answered {status} {text}".strip()
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise DeliveryTransient(f"{at} answered {status}: it sends on to elsewhere, which is not followed")
    if 400 <= status < 500 and status not in _OF_THE_SERVER:
        raise DeliveryRejected(said)
    raise DeliveryTransient(said)


async def _read(answer: aiohttp.ClientResponse) -> str:
    found = await answer.content.read(MOST_ANSWER_BYTES)
    return _words(found.decode(errors="replace"))


def request(channel: ChannelSettings, message: Outgoing) -> tuple[str, dict[str, str], bytes | None]:
    """Address, headers and body of what is asked."""
    short = message.title if len(message.title) <= MOST_SMS_CHARACTERS else f"{message.title[:299]}…"
    text = short if channel.type is ChannelType.SMS else f"{message.title}\n\n{message.body}"
    values = {
        "to": message.to, "title": message.title, "text": text, "key": str(message.id), "secret": channel.secret
    }  # fmt: skip
    url = channel.secret if channel.url == "{secret}" else templates.fill_url(channel.url, values)
    headers = {name: templates.fill_header(value, values) for name, value in channel.headers}
    headers.setdefault("Idempotency-Key", str(message.id))
    if channel.method == "GET":
        return url, headers, None
    headers["Content-Type"] = channel.content_type
    return url, headers, _body(channel, message, values)


def _body(channel: ChannelSettings, message: Outgoing, values: dict[str, str]) -> bytes:
    if channel.type is ChannelType.SLACK:
        # https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: {"text": …}; &, < and > are
        # the three characters that mean something in it (…/formatting-message-text, "Escaping text")
        return dumps({"text": f"*{_slack(message.title)}*\n{_slack(message.body)}"})
    if channel.type is ChannelType.TEAMS:
        return dumps(_card(message))
    if channel.body:
        return templates.fill_body(channel.body, channel.content_type, values).encode()
    return dumps(
        {"id": str(message.id), "title": message.title, "text": message.body, "severity": message.severity.value,
         "to": message.to}
    )  # fmt: skip


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _card(message: Outgoing) -> dict[str, object]:
    """Workflows take Adaptive Cards only, in a message's attachment:
    https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using"""
    urgent = message.severity is Severity.URGENT
    blocks: list[dict[str, object]] = [
        {"type": "TextBlock", "text": message.title, "weight": "Bolder", "wrap": True,
         **({"color": "Attention"} if urgent else {})}
    ]  # fmt: skip
    blocks += [{"type": "TextBlock", "text": part, "wrap": True} for part in message.body.splitlines() if part.strip()]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": blocks,
    }  # fmt: skip
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }
