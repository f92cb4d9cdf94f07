"""private_key_jwt at the token endpoint, with keys kept and keys fetched."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from aiohttp import web

from interface.api.key_fetch import AT_MOST_EVERY_S, KEPT_S, MOST_BYTES, KeyFetcher
from interface.domain.views import Actor, ActorKind
from interface.errors import ApiError
from interface.flow import actors
from interface.flow.client_keys import CLOCK_SKEW_S, LONGEST_AHEAD_S, ClientKeys, KeysUnavailable
from interface.link.tls import dial_context, listen_context
from interface.settings import DialTls
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory, serving
from tests.api.signing import Signer, ec_key, public, rsa_key
from tests.link.certificates import Authority, listen_tls

KEYS = {"keys": [public(rsa_key(), "rsa"), public(ec_key(), "ec")]}


def administrator(laboratory: Laboratory) -> Actor:
    return Actor(ActorKind.USER, uuid7(), "admin", laboratory.organization_id, frozenset({"client:write"}))


async def signing(bench: Bench, laboratory: Laboratory, keys: ClientKeys | None = None, hosts: str = "") -> Signer:
    made = await actors.create_client(
        laboratory.database, administrator(laboratory), f"s-{uuid7()}", ["system/*.rs"], keys or ClientKeys(KEYS),
        frozenset({hosts}),
    )  # fmt: skip
    assert made.secret == ""
    return Signer(made.client_id, f"{bench.url}/oauth/token")


async def answer(bench: Bench, form: dict[str, str], **options: Any) -> str:
    """`200`, or the status and OAuth's word for what is wrong."""
    found = await bench.ask("POST", "/oauth/token", data=form, **options)
    if found.status == 200:
        assert (await bench.get("/fhir/Patient", found.json["access_token"])).status == 200
        return "200"
    assert "access_token" not in found.json
    return f"{found.status} {found.json['error']}"


async def reasons(laboratory: Laboratory) -> list[str]:
    return [row["detail"].get("reason", row["outcome"]) for row in await laboratory.audit("token")]


async def test_a_client_gets_a_token_for_what_it_signs_once(bench: Bench, laboratory: Laboratory) -> None:
    signer = await signing(bench, laboratory)
    for form in (signer.form(signer.sign()), signer.form(signer.sign(), client_id=signer.client_id)):
        assert await answer(bench, form) == "200"
        assert await answer(bench, form) == "401 invalid_client", "replayed"
    rs = replace(signer, key=rsa_key(), kid="rsa", algorithm="RS384")
    assert await answer(bench, rs.form(rs.sign())) == "200"
    assert await reasons(laboratory) == ["ok", "replayed", "ok", "replayed", "ok"]


def unsigned(signer: Signer) -> str:
    return jwt.encode(signer.claims(), "", "none", {"kid": signer.kid})


def by_public_key(signer: Signer) -> str:
    """As if the key that everybody may know were a secret (HS384)."""
    parts = (orjson.dumps(part) for part in ({"alg": "HS384", "kid": signer.kid}, signer.claims()))
    said = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    secret = orjson.dumps(KEYS["keys"][1])
    mac = hmac.digest(secret, said, "sha384")
    return b".".join((said, base64.urlsafe_b64encode(mac).rstrip(b"="))).decode()


async def test_clocks_may_differ_by_a_little(bench: Bench, laboratory: Laboratory) -> None:
    signer, now = await signing(bench, laboratory), int(time.time())
    allowed: list[dict[str, Any]] = [
        {"exp": now - CLOCK_SKEW_S + 5},
        {"nbf": now + CLOCK_SKEW_S - 5},
        {"exp": now + LONGEST_AHEAD_S},
    ]
    for changed in allowed:
        assert await answer(bench, signer.form(signer.sign(**changed))) == "200", changed


async def test_what_is_signed_otherwise_is_refused_and_in_the_audit(bench: Bench, laboratory: Laboratory) -> None:
    signer = await signing(bench, laboratory)
    other = await signing(bench, laboratory, ClientKeys({"keys": [public(ec_key("other"), "ec")]}))
    stranger = Signer(f"{laboratory.organization_id.hex}.{uuid7().hex}", signer.token_url)
    long_ago = signer.sign(exp=1_700_000_000)
    now = int(time.time())
    cases = (
        (signer.form(unsigned(signer)), "algorithm"),
        (signer.form(by_public_key(signer)), "algorithm"),
        (signer.form(replace(signer, key=rsa_key(), kid="rsa", algorithm="RS256").sign()), "algorithm"),
        (signer.form(replace(signer, kid="rsa").sign()), "unknown_key"),  # another algorithm's
        (signer.form(signer.sign({"crit": ["b64"]})), "malformed"),
        (signer.form(signer.sign(sub=other.client_id)), "signature"),
        (signer.form(signer.sign(nbf=now + 60)), "not_yet"),
        (signer.form(signer.sign(exp=now + 3600)), "too_long"),
        (signer.form(signer.sign(exp=str(now))), "time"),
        (signer.form(signer.sign(exp=now - 11)), "expired"),
        (signer.form(replace(signer, key=ec_key("another")).sign()), "signature"),
        (signer.form(replace(signer, kid="none").sign()), "unknown_key"),
        (signer.form(signer.sign({"jku": "https://127.0.0.1/keys"})), "jku"),
        (signer.form(long_ago), "expired"),
        (signer.form(signer.sign(aud=f"{bench.url}/fhir")), "audience"),
        (signer.form(signer.sign(iss=other.client_id)), "issuer"),
        (signer.form(signer.sign(), client_id=other.client_id), "issuer"),
        (signer.form(signer.sign(jti=None)), "jti"),
        (signer.form(stranger.sign()), "unknown_client"),
    )
    for form, _ in cases:
        assert await answer(bench, form) == "401 invalid_client"
    assert await reasons(laboratory) == [reason for _, reason in cases]
    assert all(row["outcome"] == "refused" and row["address"] for row in await laboratory.audit("token"))
    assert await answer(bench, signer.form(signer.sign(), scope="system/Patient.c")) == "400 invalid_scope"
    assert (await reasons(laboratory))[-1] == "scope"


async def test_a_request_that_mixes_ways_is_refused(bench: Bench, laboratory: Laboratory) -> None:
    signer = await signing(bench, laboratory)
    good = signer.form(signer.sign())
    basic = {"Authorization": "Basic eDp5"}
    assert await answer(bench, {**good, "client_secret": "x"}) == "400 invalid_request"
    assert await answer(bench, good, headers=basic) == "400 invalid_request"
    assert await answer(bench, {**good, "client_assertion_type": "x"}) == "400 invalid_request"
    assert await answer(bench, {key: good[key] for key in good if "assertion" not in key}) == "401 invalid_client"
    assert await answer(bench, {**good, "client_assertion": ""}) == "401 invalid_client"
    by_secret = {"grant_type": "client_credentials", "client_id": signer.client_id, "client_secret": ""}
    assert await answer(bench, by_secret) == "401 invalid_client"
    assert await answer(bench, {**by_secret, "client_secret": "\0" * 32}) == "401 invalid_client", "it has no secret"
    assert await answer(bench, good) == "200"


async def test_new_keys_and_the_end_of_a_client(bench: Bench, laboratory: Laboratory) -> None:
    admin, made = administrator(laboratory), await laboratory.client("system/*.rs")
    token = (await actors.client_token(laboratory.database, made.client_id, made.secret, "", 600)).token
    name, signer = made.client.name, Signer(made.client_id, f"{bench.url}/oauth/token")
    assert await answer(bench, signer.form(signer.sign())) == "401 invalid_client"
    await actors.set_client_keys(laboratory.database, admin, name, ClientKeys(KEYS), frozenset())
    assert (await bench.get("/fhir/Patient", token)).status == 401, "the tokens of the secret have ended"
    with pytest.raises(actors.BadCredentials):
        await actors.client_token(laboratory.database, made.client_id, made.secret, "", 600)
    assert await answer(bench, signer.form(signer.sign())) == "200"
    await actors.disable_client(laboratory.database, admin, name)
    assert await answer(bench, signer.form(signer.sign())) == "401 invalid_client"
    [listed] = await actors.list_clients(laboratory.database, admin)
    assert listed.disabled_at is not None
    assert listed.authentication == "jwks"
    for change in (
        actors.set_client_keys(laboratory.database, admin, "nobody", ClientKeys(KEYS), frozenset()),
        actors.disable_client(laboratory.database, admin, "nobody"),
    ):
        with pytest.raises(ApiError, match="no such client"):
            await change


async def test_what_was_proved_by_keys_that_have_been_changed_meanwhile_gives_no_token(
    bench: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change ends the tokens that there are; one that is made after it, by the old key, would have lived on."""
    admin, signer = administrator(laboratory), await signing(bench, laboratory)
    [client] = await actors.list_clients(laboratory.database, admin)
    scopes = actors._with_scopes

    async def changed(*of: Any) -> Actor:
        await actors.set_client_keys(laboratory.database, admin, client.name, ClientKeys(KEYS), frozenset())
        return await scopes(*of)

    form = signer.form(signer.sign())
    with monkeypatch.context() as patch:
        patch.setattr(actors, "_with_scopes", changed)
        assert await answer(bench, form) == "200", "the same keys again"
        other = ClientKeys({"keys": [public(ec_key("newer"), "newer")]})
        await actors.set_client_keys(laboratory.database, admin, client.name, other, frozenset())
        newer = replace(signer, key=ec_key("newer"), kid="newer")
        assert await answer(bench, newer.form(newer.sign())) == "401 invalid_client"


async def test_an_assertion_is_taken_once_by_whatever_process(database: Database, laboratory: Laboratory) -> None:
    url = "http://127.0.0.1:1"
    async with serving(database, base_url=url) as one, serving(database, base_url=url) as two:
        signer = await signing(one, laboratory)
        signer.token_url = f"{url}/oauth/token"
        form = signer.form(signer.sign())
        answers = await asyncio.gather(*(answer(bench, form) for bench in (one, two) * 4))
        assert sorted(answers) == ["200", *["401 invalid_client"] * 7]
    async with serving(database, base_url=url) as after:
        assert await answer(after, form) == "401 invalid_client"


async def test_the_configuration_says_what_is_true(bench: Bench) -> None:
    for path in ("/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration"):
        told = (await bench.get(path)).json
        assert told["token_endpoint"] == f"{bench.url}/oauth/token"
        assert set(told["token_endpoint_auth_signing_alg_values_supported"]) == {"RS384", "ES384"}
        assert "private_key_jwt" in told["token_endpoint_auth_methods_supported"]
        assert "client-confidential-asymmetric" in told["capabilities"]


# ---- keys that are fetched ------------------------------------------------------------------------------------------


class Served:
    """An EMR's key server over TLS; `answer` is what it says next."""

    def __init__(self) -> None:
        self.answer: web.Response = web.json_response(KEYS)
        self.asked = 0
        self.address = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.answer.body, status=self.answer.status, headers=self.answer.headers)


@asynccontextmanager
async def key_server(authority: Authority) -> AsyncIterator[Served]:
    served = Served()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = listen_context(listen_tls(authority.pair("keys", "localhost")))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    served.address = f"localhost:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        await runner.cleanup()


async def test_keys_at_an_address_are_fetched_and_looked_for_again(
    database: Database, laboratory: Laboratory, tmp_path: Path
) -> None:
    authority, now = Authority(tmp_path), [0.0]
    context = dial_context(DialTls(authority.file))
    async with key_server(authority) as served:
        hosts, url = frozenset({served.address}), f"https://{served.address}/keys"
        async with serving(database) as bench:  # names no host
            with pytest.raises(ApiError, match="jwks_hosts"):
                await signing(bench, laboratory, ClientKeys(url=url))
            signer = await signing(bench, laboratory, ClientKeys(url=url), served.address)
            assert await answer(bench, signer.form(signer.sign())) == "401 invalid_client"
            assert served.asked == 0
        async with serving(database, keys=KeyFetcher(hosts, clock=lambda: now[0], context=context)) as bench:
            signer.token_url = f"{bench.url}/oauth/token"
            for _ in range(2):
                assert await answer(bench, signer.form(signer.sign())) == "200"
            assert served.asked == 1
            newer = replace(signer, key=ec_key("newer"), kid="newer")
            served.answer = web.json_response({"keys": [public(ec_key("newer"), "newer")]})
            assert await answer(bench, newer.form(newer.sign())) == "401 invalid_client"
            assert served.asked == 1, "not more often than every ten seconds"
            now[0] = AT_MOST_EVERY_S
            assert await answer(bench, newer.form(newer.sign())) == "200"
            assert served.asked == 2
            assert await answer(bench, signer.form(signer.sign())) == "401 invalid_client", "the old key is withdrawn"


@pytest.mark.parametrize(
    "said",
    [
        web.Response(status=500), web.Response(body=b"<html>"),
        web.Response(body=orjson.dumps({"keys": [], "x": "x" * MOST_BYTES})),
        web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"}),
        web.Response(body=b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": "gzip"}),
    ],
)  # fmt: skip
async def test_an_address_that_says_something_else_has_no_keys(said: web.Response, tmp_path: Path) -> None:
    authority, now = Authority(tmp_path), [0.0]
    context = dial_context(DialTls(authority.file))
    async with key_server(authority) as served:
        served.answer = said
        fetcher = KeyFetcher(frozenset({served.address}), clock=lambda: now[0], context=context)
        url = f"https://{served.address}/keys"
        for _ in range(3):
            with pytest.raises(KeysUnavailable):
                await fetcher.fetch(url, again=True)
        assert served.asked == 1, "a fault is not asked for again and again"
        served.answer = web.json_response(KEYS)
        now[0] = AT_MOST_EVERY_S
        assert await fetcher.fetch(url) == KEYS
        now[0] += KEPT_S - 1
        assert await fetcher.fetch(url) == KEYS
        assert served.asked == 2
        untrusting = KeyFetcher(frozenset({served.address}))
        with pytest.raises(KeysUnavailable):
            await untrusting.fetch(url)
        assert served.asked == 2, "its certificate is nobody's we know"


async def test_keys_that_were_fetched_stand_for_their_time_though_they_cannot_be_fetched_again(tmp_path: Path) -> None:
    """A key id that nobody has makes for another request, unauthenticated: where that failed, good keys were gone, and
    the client could not sign in until they were fetched again."""
    authority, now = Authority(tmp_path), [0.0]
    async with key_server(authority) as served:
        fetcher = KeyFetcher(
            frozenset({served.address}), clock=lambda: now[0], context=dial_context(DialTls(authority.file))
        )
        url = f"https://{served.address}/keys"
        served.answer = web.json_response(KEYS)
        assert await fetcher.fetch(url) == KEYS
        served.answer = web.Response(status=503)
        now[0] = AT_MOST_EVERY_S
        assert await fetcher.fetch(url, again=True) == KEYS
        assert await fetcher.fetch(url, again=True) == KEYS
        assert served.asked == 2, "a fault is not asked for again and again"
        now[0] = KEPT_S - 1
        assert await fetcher.fetch(url) == KEYS
        now[0] = KEPT_S + AT_MOST_EVERY_S
        with pytest.raises(KeysUnavailable):
            await fetcher.fetch(url)
        served.answer = web.json_response(KEYS)
        now[0] += AT_MOST_EVERY_S
        assert await fetcher.fetch(url) == KEYS
