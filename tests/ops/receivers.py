"""Who gets the messages in the tests: a real SMTP server and a real HTTP server on this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from interface.settings import Address, ChannelSettings, ChannelType, MailSecurity
from tests.link.certificates import Authority


@dataclass
class MailServer:
    """`refuse`: what is answered in place of taking a recipient (RCPT, or RCPT of an address) or a message (DATA)."""

    address: Address
    ca: Path
    got: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if refused := self.refuse.get("RCPT") or self.refuse.get(f"RCPT {address}"):
            return refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        assert isinstance(envelope.content, bytes)
        self.got.append(message_from_bytes(envelope.content, EmailMessage, policy=policy.default))
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.arrived.set()
        return "250 2.0.0 Ok: queued as 4F1"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        return AuthResult(success=data.password == b"right", handled=False)

    def channel(self, id: str = "mail", **changes: Any) -> ChannelSettings:
        known: dict[str, Any] = {
            "server": self.address, "security": MailSecurity.STARTTLS, "sender": "Labora <labora@lab.example>",
            "user": "labora", "secret": "right", "ca": self.ca, "wait_s": 5.0,
        }  # fmt: skip
        return ChannelSettings(id, ChannelType.SMTP, **(known | changes))


@asynccontextmanager
async def mail_server(folder: Path, *, tls: bool = False) -> AsyncIterator[MailServer]:
    """With STARTTLS and login; `tls`: from the first byte."""
    authority = Authority(folder)
    pair = authority.pair("mail", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    made = MailServer(Address("localhost", 0), authority.file)
    loop = asyncio.get_running_loop()

    made_of: list[SMTP] = []

    def protocol() -> SMTP:
        made_of.append(SMTP(
            made, hostname="mail.test", ident="test", loop=loop, timeout=10,
            authenticator=None if tls else made.authenticate, tls_context=None if tls else context,
            auth_require_tls=not tls, auth_required=not tls,
        ))  # fmt: skip
        return made_of[-1]

    server = await loop.create_server(protocol, "localhost", 0, ssl=context if tls else None, family=2)
    made.address = Address("localhost", server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        for one in made_of:  # a handshake that failed leaves its connection open
            if one.transport is not None and not one.transport.is_closing():
                one.transport.close()
        await asyncio.sleep(0)


@dataclass(slots=True)
class Asked:
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class WebServer:
    """`answers`: (status, text) for the next requests; then 200 ok."""

    url: str
    ca: Path
    got: list[Asked] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append(
            Asked(request.path, request.rel_url.raw_query_string, dict(request.headers), await request.read())
        )
        status, text = self.answers.pop(0) if self.answers else (200, "ok")
        self.arrived.set()
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, text=text, headers=headers)

    def channel(self, type: ChannelType, id: str = "", **changes: Any) -> ChannelSettings:
        known: dict[str, Any] = {"url": f"{self.url}/hook", "ca": self.ca, "wait_s": 5.0}
        if type in (ChannelType.SLACK, ChannelType.TEAMS):
            known |= {"url": "{secret}", "secret": f"{self.url}/services/T0/s3cret"}
        return ChannelSettings(id or type.value, type, **(known | changes))


@asynccontextmanager
async def web_server(folder: Path) -> AsyncIterator[WebServer]:
    """Over TLS, as everything beyond this machine is."""
    authority = Authority(folder, "web-ca")
    pair = authority.pair("web", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    made = WebServer("", authority.file)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    made.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
