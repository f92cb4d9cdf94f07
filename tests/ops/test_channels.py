"""Messages by real servers: e-mail with TLS and login, chats, SMS gateways; what each answer means."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from interface.domain.alerts import Severity
from interface.errors import DeliveryAmbiguous, DeliveryError, DeliveryRejected, DeliveryTransient
from interface.ops.channels import Outgoing, send
from interface.settings import Address, ChannelType, MailSecurity
from tests.link.certificates import Authority
from tests.ops.receivers import MailServer, WebServer, mail_server, web_server

ID = UUID("01930000-0000-7000-8000-000000000001")
MESSAGE = Outgoing(
    ID, "anna@lab.example", "[main] URGENT: Disk <full> & loud “ä”", "First line.\n\nSecond.\n", Severity.URGENT
)


async def test_mail_goes_over_starttls_with_login(post: MailServer) -> None:
    assert "queued as 4F1" in await send(post.channel(), MESSAGE)
    (got,) = post.got
    assert (got["To"], got["Subject"], got["Message-ID"]) == (
        "anna@lab.example", MESSAGE.title, f"<{ID}@lab.example>",
    )  # fmt: skip
    assert (got["Auto-Submitted"], got["Importance"]) == ("auto-generated", "high")
    assert got.get_content().splitlines() == MESSAGE.body.splitlines()
    assert (post.logins, post.encrypted) == (["labora"], [True])


async def test_mail_goes_over_tls_from_the_first_byte(tmp_path: Path) -> None:
    async with mail_server(tmp_path, tls=True) as post:
        await send(post.channel(security=MailSecurity.TLS, user=""), MESSAGE)
        assert post.encrypted == [True]


@pytest.mark.parametrize(
    ("changes", "refuse", "kind", "text"),
    [
        ({"secret": "wrong"}, {}, DeliveryTransient, "refuses the login (535)"),
        ({"ca": None}, {}, DeliveryTransient, "certificate that is not trusted"),
        ({}, {"RCPT": "550 5.1.1 no such user"}, DeliveryRejected, "does not take mail for the address (550)"),
        ({}, {"RCPT": "450 4.2.0 greylisted"}, DeliveryTransient, "does not take mail for the address (450)"),
        ({}, {"DATA": "554 5.7.1 looks like spam"}, DeliveryRejected, "answered 554 5.7.1 looks like spam"),
        ({}, {"DATA": "452 4.3.1 no space"}, DeliveryTransient, "answered 452"),
        ({"security": MailSecurity.TLS}, {}, DeliveryTransient, "cannot be reached, or broke off"),
    ],
)
async def test_what_a_mail_server_says_is_understood(
    post: MailServer, changes: dict[str, Any], refuse: dict[str, str], kind: type[DeliveryError], text: str
) -> None:
    post.refuse = refuse
    with pytest.raises(kind) as error:
        await send(post.channel(**changes), MESSAGE)
    assert text in str(error.value)
    assert "right" not in str(error.value) and post.got == []


async def test_a_mail_server_that_offers_no_tls_gets_nothing(tmp_path: Path) -> None:
    """A man in the middle takes the offer out: then there is no mail, and no password in the clear."""
    async with mail_server(tmp_path, tls=True) as post:
        with pytest.raises(DeliveryError):
            await send(post.channel(wait_s=0.3), MESSAGE)
        assert (post.got, post.logins) == ([], [])


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as post, web_server(tmp_path) as web:
        mail, hook = post.channel(), web.channel(ChannelType.WEBHOOK)
    for channel in (mail, hook):
        with pytest.raises(DeliveryTransient, match="refuses the connection"):
            await send(channel, MESSAGE)


async def test_a_webhook_a_chat_and_a_gateway_are_asked_in_their_words(web: WebServer) -> None:
    for kind in (ChannelType.WEBHOOK, ChannelType.SLACK, ChannelType.TEAMS):
        assert (await send(web.channel(kind), MESSAGE)).endswith("answered 200 ok")
    own, slack, teams = (json.loads(asked.body) for asked in web.got)
    assert own == {"id": str(ID), "title": MESSAGE.title, "text": MESSAGE.body, "severity": "urgent", "to": MESSAGE.to}
    assert slack == {"text": "*[main] URGENT: Disk &lt;full&gt; &amp; loud “ä”*\nFirst line.\n\nSecond.\n"}
    card = teams["attachments"][0]
    assert (teams["type"], card["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    assert [block["text"] for block in card["content"]["body"]] == [MESSAGE.title, "First line.", "Second."]
    assert {asked.headers["Idempotency-Key"] for asked in web.got} == {str(ID)}
    assert [asked.path for asked in web.got] == ["/hook", "/services/T0/s3cret", "/services/T0/s3cret"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"content_type": "application/json", "body": '{"to": "{to}", "msg": {"text": "{text}"}, "id": "{key}"}'},
         json.dumps({"to": '"}x', "msg": {"text": "a&b\"c”{to}"}, "id": str(ID)}, separators=(", ", ": "))),
        ({"content_type": "application/x-www-form-urlencoded", "body": "to={to}&text={text}&apikey={secret}"},
         "to=%22%7Dx&text=a%26b%22c%E2%80%9D%7Bto%7D&apikey=k%26y"),
        ({"content_type": "text/plain", "body": "{text}"}, 'a&b"c”{to}'),
    ],
)  # fmt: skip
async def test_no_text_changes_what_stands_around_it(web: WebServer, changes: dict[str, Any], expected: str) -> None:
    channel = web.channel(
        ChannelType.SMS, secret="k&y", headers=(("Authorization", "Bearer {secret}"), ("X-To", "{to}\r\n")), **changes
    )
    await send(channel, Outgoing(ID, '"}x', 'a&b"c”{to}', "the body is not in an SMS"))
    (asked,) = web.got
    if changes["content_type"] == "application/json":
        assert json.loads(asked.body) == json.loads(expected)
    else:
        assert asked.body.decode() == expected
    assert asked.headers["Authorization"] == "Bearer k&y"
    assert asked.headers["X-To"] == '"}x'


async def test_a_gateway_may_be_asked_by_its_address(web: WebServer) -> None:
    url = f"{web.url}/send?user=lab&to={{to}}&text={{text}}"
    await send(web.channel(ChannelType.SMS, url=url, method="GET"), dataclasses.replace(MESSAGE, to="+49 1&x=1"))
    (asked,) = web.got
    assert asked.query.startswith("user=lab&to=%2B49%201%26x%3D1&text=%5Bmain%5D%20URGENT")
    assert asked.body == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, DeliveryTransient), (503, DeliveryTransient), (429, DeliveryTransient), (404, DeliveryTransient),
     (302, DeliveryTransient), (307, DeliveryTransient), (400, DeliveryRejected), (422, DeliveryRejected)],
)  # fmt: skip
async def test_what_a_web_server_says_is_understood_and_no_redirect_followed(
    web: WebServer, status: int, kind: type[DeliveryError]
) -> None:
    web.answers = [(status, f"no {web.url}/services/T0/s3cret")]
    with pytest.raises(kind) as error:
        await send(web.channel(ChannelType.SLACK), MESSAGE)
    assert f"answered {status}" in str(error.value)
    assert "s3cret" not in str(error.value), "a secret is not repeated"
    assert len(web.got) == 1


async def test_a_certificate_nobody_vouches_for_gets_nothing(web: WebServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").file
    for ca in (None, other):
        with pytest.raises(DeliveryTransient, match="certificate that is not trusted"):
            await send(web.channel(ChannelType.WEBHOOK, ca=ca), MESSAGE)
    assert web.got == []


async def test_a_server_that_says_nothing_is_given_up(unused_tcp_server: Address) -> None:
    """`wait_s` holds for the whole attempt."""
    from interface.settings import ChannelSettings

    channel = ChannelSettings("mail", ChannelType.SMTP, unused_tcp_server, MailSecurity.NONE, "a@b", wait_s=0.1)
    with pytest.raises(DeliveryAmbiguous, match=r"did not answer within 0\.1 s"):
        await send(channel, MESSAGE)


@pytest.fixture
async def unused_tcp_server() -> AsyncIterator[Address]:
    """Takes connections and says nothing."""
    import asyncio

    ended = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    ended.set()
    server.close()
