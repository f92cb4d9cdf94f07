"""A hostile client: another laboratory's ids everywhere, scopes it has not, tokens that are none, what is no request.

Nothing leaks, nothing fails inside, and each attempt stands in an audit trail or, where it is nobody's, in the log.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from structlog.testing import capture_logs

from interface.api.app import MOST_BODY_BYTES, routes
from interface.api.bodies import MOST_DEPTH
from interface.domain.model import ResultStatus
from interface.domain.permissions import Role
from interface.domain.views import Audience
from interface.flow.actors import FAILURES_TO_LOCK
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.search.fields import Link
from interface.store.search.kinds import kinds
from tests.api.bench import PASSWORD, Answer, Bench, Laboratory, found_laboratory

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Named:
    """What a request can name of somebody's records: ids, numbers and values."""

    ids: Mapping[str, UUID]
    mrn: str
    number: str
    barcode: str
    value: str

    @property
    def words(self) -> tuple[str, ...]:
        return (*map(str, self.ids.values()), self.mrn, self.number, self.barcode, self.value)


async def with_records(laboratory: Laboratory, value: str) -> Named:
    mrn, number, barcode = f"m{uuid4().hex}", f"n{uuid4().hex}", f"b{uuid4().hex}"
    order = await laboratory.order(barcode, mrn=mrn, number=number)
    result = await laboratory.result(order, value, ResultStatus.FINAL)
    return Named({**order, "result": result}, mrn, number, barcode, value)


def unknown(of: Named) -> Named:
    """The same shape, of records that nobody has."""
    return Named(
        {name: uuid7() for name in of.ids}, f"m{uuid4().hex}", f"n{uuid4().hex}", f"b{uuid4().hex}", of.value[:-1] + "9"
    )


OWN_IDS = {"Patient": "patient", "Specimen": "specimen", "ServiceRequest": "item", "DiagnosticReport": "order",
           "Observation": "result"}  # fmt: skip


def searches(named: Named) -> Iterator[str]:
    """Every parameter of every type, every chain, _has and include that there can be, with what names the records."""
    every = ",".join(map(str, named.ids.values()))
    words = f"{named.number},{named.mrn},{named.barcode}"
    values = {"value-quantity": named.value, "identifier": f"{words},urn:hospital|{named.mrn}", "_id": every}
    for name, kind in kinds(Audience.EMR).items():
        own = str(named.ids[OWN_IDS.get(name, "patient")])
        yield f"{name}/{own}"
        yield f"{name}?_id={own}&_include=*&_revinclude=*"
        for parameter in kind.parameters:
            if not isinstance(parameter.field, Link):
                yield f"{name}?{parameter.name}={values.get(parameter.name, words)}"
                continue
            yield f"{name}?{parameter.name}={every}"
            for other in parameter.field.targets:
                of = f"{parameter.name}:{other}"
                yield f"{name}?{of}._id={every}&{of}.identifier={words}"
                yield f"{name}?{of}.identifier={words}"
                yield f"{other}?_has:{name}:{parameter.name}:_id={own}"
                yield f"{other}?_id={every}&_revinclude={name}:{parameter.name}"
                yield f"{name}?_id={every}&_include={name}:{of}"


def unnamed(body: bytes, *named: Named) -> bytes:
    """The body without what the request itself named, nor what is each request's own."""
    for each in named:
        for at, word in enumerate(each.words):
            body = body.replace(word.encode(), b"<%d>" % at)
    return re.sub(rb"(?<=page=)[\w-]+", b"<page>", body)


async def test_another_laboratorys_records_answer_like_none_everywhere(database: Database, bench: Bench) -> None:
    mine, theirs = await found_laboratory(database), await found_laboratory(database)
    victim = await with_records(theirs, "15.5505")
    await with_records(mine, "16.6606")
    nobody = unknown(victim)
    token = await mine.client_token("system/*.cruds")
    paths = list(dict.fromkeys(zip(searches(victim), searches(nobody), strict=True)))
    assert len(paths) > 100
    for path, alike in paths:
        answer, other = await bench.get(f"/fhir/{path}", token), await bench.get(f"/fhir/{alike}", token)
        assert answer.status < 500, path
        assert answer.status == other.status, path
        assert unnamed(answer.body, victim, nobody) == unnamed(other.body, victim, nobody), path
        asked = [word for word in victim.words if word in path]
        seen = [word for word in victim.words if word.encode() in answer.body and word not in asked]
        assert seen == [], path


async def test_every_route_takes_another_laboratorys_id_for_an_unknown_one(database: Database, bench: Bench) -> None:
    mine, theirs = await found_laboratory(database), await found_laboratory(database)
    victim = await with_records(theirs, "15.5505")
    nobody = uuid7()
    client, user = await mine.client_token("system/*.cruds"), await mine.user_token(Role.LABORATORY_DIRECTOR)
    for route in routes():
        if "{" not in route.path or route.need.public:
            continue
        token = client if route.need.resource and not route.need.permission else user
        answers = {}
        for id in (*victim.ids.values(), nobody):
            path = re.sub(r"\{\w+\}", str(id), route.path)
            body: dict[str, Any] = {} if route.method in ("GET", "HEAD", "DELETE") else {"json": {}}
            answer = await bench.ask(route.method, path, token, **body)
            answers[answer.status, answer.body.replace(str(id).encode(), b"<id>")] = id
            assert answer.status < 500, route
        assert len(answers) == 1, (route, answers)


# ---- scopes ---------------------------------------------------------------------------------------------------------


async def test_a_scope_cannot_be_widened(database: Database, bench: Bench, laboratory: Laboratory) -> None:
    records = await with_records(laboratory, "17.7707")
    made = await laboratory.client("system/Observation.s?status=final")

    async def granted(scope: str) -> str:
        form = {"grant_type": "client_credentials", "client_id": made.client_id, "client_secret": made.secret}
        answer = await bench.ask("POST", "/oauth/token", data={**form, "scope": scope})
        return str(answer.json.get("scope") or answer.json["error"])

    for scope in (
        "system/*.cruds", "system/Observation.cruds", "system/Observation.rs", "system/*.s system/Observation.s",
        "system/Observation.s?status=final system/Patient.rs",
    ):  # fmt: skip
        assert await granted(scope) == "system/Observation.s?status=final", scope
    for scope in ("system/Patient.rs", "user/Observation.rs", "system/Observation.rs offline_access", "*", "\x00",
                  "system/Observation.s?status=final&status:not=x", "system/Observation.s\n"):  # fmt: skip
        assert await granted(scope) in ("invalid_scope", "system/Observation.s?status=final"), scope
    token = await laboratory.client_token("system/Observation.s?status=final")
    patient = str(records.ids["patient"])
    found = await bench.get(f"/fhir/Observation?patient={patient}&_include=*&_revinclude=*", token)
    assert {entry["resource"]["resourceType"] for entry in found.json.get("entry", ())} == {"Observation"}
    for path in (
        f"Observation/{records.ids['result']}", f"Patient/{patient}", f"Observation?patient.identifier={records.mrn}",
        f"Patient?_has:Observation:patient:_id={records.ids['result']}", f"Specimen/{records.ids['specimen']}",
    ):  # fmt: skip
        answer = await bench.get(f"/fhir/{path}", token)
        assert answer.status in (200, 403, 404), path
        assert answer.status != 200 or not answer.json.get("entry"), path
    assert [row["outcome"] for row in await laboratory.audit("token")].count("refused") >= 4


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fhir/Observation?_include=Observation:subject", 403),
        ("GET", "/fhir/Observation?patient.name=x", 403),
        ("POST", "/fhir/Observation/_search?_revinclude=Provenance:target", 403),
        ("GET", "/api/changes?type=Patient", 403), ("POST", "/fhir", 403), ("GET", "/fhir/Patient", 403),
        ("GET", "/fhir/Observation?_cursor=of-somebody-else", 410),
    ],
)  # fmt: skip
async def test_whoever_reaches_beyond_a_scope_is_in_the_audit(
    bench: Bench, laboratory: Laboratory, method: str, path: str, status: int
) -> None:
    token = await laboratory.client_token("system/Observation.rs", "system/ServiceRequest.c")
    stranger = {"resourceType": "Patient", "identifier": [{"system": "urn:h", "value": "1"}]}
    wanted = [{"resource": stranger, "request": {"method": "POST", "url": "Patient"}}]
    body = {"resourceType": "Bundle", "type": "transaction", "entry": wanted} if path == "/fhir" else None
    assert (await bench.ask(method, path, token, json=body)).status == status
    await bench.writer.flush()
    refused = [row for row in await laboratory.audit(method.lower()) if row["outcome"] == "refused"]
    assert [row["entity_kind"] for row in refused] == ["route"], "once"


# ---- tokens ---------------------------------------------------------------------------------------------------------


async def reasons(bench: Bench, laboratory: Laboratory, action: str) -> list[str]:
    await bench.writer.flush()
    return [row["detail"].get("reason", "") for row in await laboratory.audit(action) if row["outcome"] == "refused"]


async def test_tokens_that_are_none_open_nothing_and_are_in_the_audit(
    database: Database, bench: Bench, laboratory: Laboratory
) -> None:
    other = await found_laboratory(database)
    good = await laboratory.client_token("system/*.rs")
    head, organization, secret = good.split(".")

    async def changed(column: str) -> str:
        token = await laboratory.client_token("system/*.rs")
        async with database.transaction(laboratory.organization_id) as connection:
            await connection.execute(
                " ".join(("update lab.access_token set", column, "= clock_timestamp() where token_hash = sha256($1)")),
                token.encode(),
            )
        return token

    def part(content: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")

    unsigned = f"{part({'alg': 'none'})}.{part({'sub': organization})}."
    told = (
        (await changed("expires_at"), "expired"),
        (await changed("revoked_at"), "revoked"),
        (f"{head}.{organization}.{'A' * 43}", "unknown"),
    )
    for token, _ in told:
        assert (await bench.get("/fhir/Patient", token)).status == 401
    nobodys = f"{head}.{uuid4().hex}.{secret}"
    for token in (unsigned, unsigned + "x", nobodys, f"{good}.", good[:-1], "null", "'; drop table lab.result; --"):
        assert (await bench.get("/fhir/Patient", token)).status == 401, token
    moved = f"{head}.{other.organization_id.hex}.{secret}"
    assert (await bench.get("/fhir/Patient", moved)).status == 401
    assert await reasons(bench, laboratory, "authenticate") == [reason for _, reason in told]
    assert await reasons(bench, other, "authenticate") == ["unknown"]
    assert (await bench.get("/fhir/Patient", good)).status == 200


# ---- injection ------------------------------------------------------------------------------------------------------

SQL = (
    "' or '1'='1", "'; drop table lab.result; --", "\" or 1=1 --", "$1", "%27%20or%201=1", "1) or (1=1",
    "\\'; select 1", "x' union select secret_hash from lab.client --", "{}", "pg_sleep(9)", "\u02bc or 1=1", "%00",
    "\ud7ff",
)  # fmt: skip


async def test_sql_is_a_text_like_any_other(database: Database, bench: Bench, laboratory: Laboratory) -> None:
    await with_records(laboratory, "18.8808")
    client = await laboratory.client_token("system/*.rs", "system/AuditEvent.rs")
    user = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    texts = cycle(SQL)  # each parameter gets two of them, and each of them goes to many parameters
    for name, kind in kinds(Audience.EMR).items():
        for one in [parameter.name for parameter in kind.parameters] * 2:
            value = next(texts)
            answer = await bench.get(f"/fhir/{name}", client, params={one: value})
            assert answer.status in (200, 400), (name, one, value)
            assert answer.status == 400 or not answer.json.get("entry"), (name, one, value)
    for value in SQL:
        for control in ("_sort", "_elements", "_include", "_has:Observation:patient:code", "_lastUpdated", "page"):
            assert (await bench.get("/fhir/Patient", client, params={control: value})).status in (200, 400, 410)
        for key in ("q", "barcode", "test", "cursor", "status"):
            answer = await bench.get("/api/results", user, params={key: value})
            assert answer.status in (200, 400, 410, 422), (key, value)
        form = {"grant_type": "client_credentials", "client_id": value, "client_secret": value, "scope": value}
        assert (await bench.ask("POST", "/oauth/token", data=form)).status in (400, 401, 429)
    body = {"organization": SQL[0], "username": SQL[1], "password": SQL[2]}
    assert (await bench.ask("POST", "/api/login", json=body)).status == 401
    assert (await bench.get("/fhir/Observation?_count=0", client)).json["total"] == 1


@dataclass(slots=True)
class Raw:
    """A connection on which anything can be said."""

    port: int

    async def say(self, *parts: bytes, end: bool = False) -> bytes:
        """What is answered until the server closes, or has said one whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            if end:
                writer.write_eof()
            async with asyncio.timeout(20):
                return await reader.read(1 << 20)
        except ConnectionResetError:
            return b""
        finally:
            writer.transport.abort()  # what the server did not read is not waited for


def port(bench: Bench) -> int:
    return int(bench.url.rpartition(":")[2])


MALFORMED = (
    b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + b"\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nA b: 1\r\n\r\n",
    b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
)  # fmt: skip


async def test_what_is_no_request_is_refused_without_a_word_about_us(bench: Bench, laboratory: Laboratory) -> None:
    for said in MALFORMED:
        answer = await Raw(port(bench)).say(said)
        assert re.match(rb"HTTP/1.[01] 4|$", answer), said[:60]
        for word in (b"aiohttp", b"Python", b"Traceback", b"site-packages"):
            assert word not in answer, said[:60]
        assert answer.count(b"HTTP/1.1 ") <= 1, "one request has one answer"
    assert (await bench.get("/health")).status == 200


TOO_LONG = (
    (b"GET /fhir/Patient?x=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /fhir/Patient?x=" + b"a" * 20_000, 414),
    (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
    (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(150)) + b"\r\n", 431),
)


async def test_what_is_too_long_to_be_read_is_said_to_be(bench: Bench) -> None:
    for said, status in TOO_LONG:
        head, _, body = (await Raw(port(bench)).say(said)).partition(b"\r\n\r\n")  # and the connection is closed
        assert head.split()[1] == b"%d" % status, said[:40]
        assert b"Content-Type: application/problem+json" in head
        assert orjson.loads(body) | {"detail": "", "title": ""} == {
            "type": "about:blank", "title": "", "status": status, "code": "too-long", "detail": "",
        }  # fmt: skip


async def test_what_is_asked_for_without_limit_fills_no_audit(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.cruds")
    for path in ("/health", "/ready", "/metrics"):
        assert (await bench.ask("DELETE", path, token)).status == 405
    await bench.writer.flush()
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        assert await connection.fetchval("select count(*) from lab.audit_event where outcome = 'refused'") == 0


async def test_what_there_is_not_is_asked_for_before_the_audit(bench: Bench, laboratory: Laboratory) -> None:
    """A method that a path has not, a path that there is not: the path may name a patient."""
    records = await with_records(laboratory, "17.7707")
    token = await laboratory.client_token("system/*.cruds")
    patient = f"/fhir/Patient/{records.ids['patient']}"
    for method, path, status in (
        ("DELETE", patient, 405), ("PATCH", patient, 405), ("POST", f"{patient}/$match", 404),
        ("GET", f"{patient}/x/y", 404),
    ):  # fmt: skip
        answer = await bench.ask(method, path, token)
        assert (answer.status, answer.json["resourceType"]) == (status, "OperationOutcome")
        assert status != 405 or answer.headers["Allow"] == "GET,HEAD"
        assert (await bench.ask(method, path)).status == status, "of nobody"
    await bench.writer.flush()
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        rows = await connection.fetch("select * from lab.audit_event where outcome = 'refused' order by id")
    assert [(row["action"], row["detail"]["route"], row["detail"]["status"]) for row in rows] == [
        ("delete", "/fhir/Patient/{id}", "405"), ("patch", "/fhir/Patient/{id}", "405"), ("post", "unknown", "404"),
        ("get", "unknown", "404"),
    ]  # fmt: skip


async def test_a_body_that_does_not_come_as_it_says_is_no_fault_of_ours(bench: Bench) -> None:
    head = b"POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with capture_logs() as logs:
        odd = await Raw(port(bench)).say(head + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
        await Raw(port(bench)).say(head + b"Content-Length: 50\r\n\r\nab", end=True)
        assert (await bench.get("/health")).status == 200
    assert odd.startswith(b"HTTP/1.1 400 ")
    assert not [line for line in logs if line["log_level"] == "error"]


@pytest.mark.parametrize("path", [b"/health", b"/nothing"])
async def test_what_nobody_can_expect_is_refused_in_our_words(bench: Bench, path: bytes) -> None:
    answer = await Raw(port(bench)).say(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nExpect: the-worst\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Server: Labora\r\n" in answer
    assert b"worst" not in answer


async def test_a_header_says_nothing_for_us(bench: Bench, laboratory: Laboratory) -> None:
    await with_records(laboratory, "19.9909")
    token = await laboratory.client_token("system/*.rs")
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6;host=evil.example", "X-Real-IP": "6.6.6.6",
            "X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/api/users"}  # fmt: skip
    answer = await bench.get("/fhir/Observation?_count=1", token, headers=evil)
    assert answer.status == 200
    assert b"evil.example" not in answer.body
    assert "Strict-Transport-Security" not in answer.headers
    for path in ("/fhir/Patient/x%0d%0aSet-Cookie:%20a=1", "/fhir/Patient?name=x%0d%0aSet-Cookie:%20a=1",
                 "/%0d%0aSet-Cookie:%20a=1"):  # fmt: skip
        answer = await bench.get(path, token)
        assert answer.status in (200, 400, 404)
        assert "Set-Cookie" not in answer.headers
    await bench.writer.flush()
    assert {row["address"] for row in await laboratory.audit("search")} == {"127.0.0.1"}


# ---- bodies ---------------------------------------------------------------------------------------------------------


FORMS = (
    ("bogus", b"code=718-7", 415), ("utf-16", b"code=718-7", 415), ("idna", b"code=xn--80ak6aa92e", 415),
    ("unicode_escape", b"code=\\ud800", 415), ("utf-8", b"code=\xff\xfe", 400), ("", b"code=\xff\xfe", 400),
    ("utf-8", b"&".join([b"code=718-7"] * 2000), 413), ("UTF-8", b"code=718-7", 200), ("", b"code=718-7", 200),
    ("iso-8859-1", b"code=718-7&_format=json", 200), ("", b"code=718-7&_format=xml", 406),
)  # fmt: skip


@pytest.mark.parametrize(("charset", "body", "status"), FORMS)
async def test_a_form_is_what_it_says_it_is_or_refused(
    bench: Bench, laboratory: Laboratory, charset: str, body: bytes, status: int
) -> None:
    """In some charsets the fields had other names, which nobody knows: a search without its condition finds all."""
    kind = {"Content-Type": FORM["Content-Type"] + (f"; charset={charset}" if charset else "")}
    token = await laboratory.client_token("system/*.cruds")
    for path in ("/fhir/Observation/_search", "/fhir/Subscription/_search"):
        answer = await bench.ask("POST", path, token, data=body, headers=kind)
        assert answer.status == status, path
    if status == 200:
        answer = await bench.ask("POST", "/fhir/Observation/_search", token, data=body, headers=kind)
        assert answer.json["link"][0]["url"].endswith("/fhir/Observation?code=718-7")
    answer = await bench.ask("POST", "/oauth/token", data=body, headers=kind)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


async def test_a_posted_search_needs_no_body(bench: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.rs")
    answer = await bench.ask("POST", "/fhir/Observation/_search?code=718-7", token)
    assert (answer.status, answer.json["total"]) == (200, 0)


async def test_bodies_without_measure_are_refused(bench: Bench, laboratory: Laboratory) -> None:
    client = await laboratory.client_token("system/*.cruds")
    user = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    big, deep = b'{"a": "' + b"x" * (10 << 20) + b'"}', b"[" * 100_000
    hidden = b'{"x": ' + b'{"x": ' * MOST_DEPTH + b"1" + b"}" * (MOST_DEPTH + 1)
    fhir, json = {"Content-Type": "application/fhir+json"}, {"Content-Type": "application/json"}
    bomb = gzip.compress(b" " * (50 << 20))
    assert len(bomb) < 1 << 17 < MOST_BODY_BYTES
    targets = (("/fhir/ServiceRequest", client, fhir), ("/fhir", client, fhir), ("/api/orders", user, json))
    for path, token, kind in targets:
        for body, statuses in ((big, (413,)), (deep, (400,)), (hidden, (400,)), (b"\xff\xfe{}", (400,)), (b"", (400,))):
            answer = await bench.ask("POST", path, token, data=BytesIO(body), headers=kind)
            assert answer.status in statuses, (path, body[:9], answer.body)
            assert answer.headers["Content-Type"].startswith(("application/fhir+json", "application/problem+json"))
        answer = await bench.ask("POST", path, token, data=bomb, headers={**kind, "Content-Encoding": "gzip"})
        assert answer.status in (400, 413), path
    for path in ("/oauth/token", "/api/login"):
        answer = await bench.ask("POST", path, data=b"a=" + b"x" * (70 << 10), headers=FORM)
        assert answer.status == 413, "what needs no token takes less"

    async def endless() -> Answer:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b" " * 65536

        return await bench.ask("POST", "/api/orders", user, data=chunks(), headers=json)

    assert (await endless()).status == 413
    assert (await bench.get("/fhir/Observation", client)).status == 200


@pytest.mark.parametrize("path", ["/oauth/token", "/api/login"])
async def test_guessing_is_slowed_down_and_is_in_the_audit(bench: Bench, laboratory: Laboratory, path: str) -> None:
    from interface.api.limits import LIMITS, MOST_FAILURES

    now = [0.0]
    bench.app[LIMITS].clock = lambda: now[0]
    made = await laboratory.client("system/*.rs")
    form = {"grant_type": "client_credentials", "client_id": made.client_id, "client_secret": "wrong"}
    body = {"organization": "no-such-laboratory", "username": "x", "password": ""}
    options: dict[str, Any] = {"data": form} if path == "/oauth/token" else {"json": body}
    statuses = []
    with capture_logs() as logs:
        for _ in range(int(MOST_FAILURES) + 2):
            answer = await bench.ask("POST", path, **options)
            statuses.append(answer.status)
    assert statuses == [401] * int(MOST_FAILURES) + [429, 429]
    assert int(answer.headers["Retry-After"]) >= 1
    assert [log["action"] for log in logs if log["action"] == "api.throttled"] == ["api.throttled"], "once a minute"
    if path == "/oauth/token":
        assert await reasons(bench, laboratory, "token") == ["wrong_secret"] * int(MOST_FAILURES)
    good = {**form, "client_secret": made.secret}
    assert (await bench.ask("POST", "/oauth/token", data=good)).status == 429
    now[0] += 1.0
    assert (await bench.ask("POST", "/oauth/token", data=good)).status == 200, "a right one does not count"


# ---- requests of ours to elsewhere ----------------------------------------------------------------------------------

ELSEWHERE = (
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://2130706433:{port}/",
    "http://0x7f.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "https://127.0.0.1:{port}/", "http://0:{port}/",
    "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:{port}/",
    "https://emr.example@127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://127.0.0.1:{port}/\r\nX: y",
)  # fmt: skip


async def test_no_subscription_sends_anything_where_nobody_allowed(bench: Bench, laboratory: Laboratory) -> None:
    asked = asyncio.Event()

    def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    token = await laboratory.client_token("system/*.cruds")
    for pattern in ELSEWHERE:
        endpoint = pattern.format(port=server.sockets[0].getsockname()[1])
        wish = {
            "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation?",
            "channel": {"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json"},
        }  # fmt: skip
        answer = await bench.ask("POST", "/fhir/Subscription", token, json=wish)
        assert answer.status in (400, 422), endpoint
    assert not asked.is_set()
    server.close()
    await bench.writer.flush()
    rows = [row for row in await laboratory.audit("post") if row["outcome"] == "refused"]
    assert [row["detail"]["route"] for row in rows] == ["/fhir/Subscription"] * len(ELSEWHERE)


# ---- passwords ------------------------------------------------------------------------------------------------------


async def test_wrong_passwords_lock_a_user_out_over_rest(bench: Bench, laboratory: Laboratory) -> None:
    name = await laboratory.user(Role.VIEWER)
    body = {"organization": laboratory.name, "username": name}
    for _ in range(FAILURES_TO_LOCK):
        answer = await bench.ask("POST", "/api/login", json={**body, "password": "wrong horse battery"})
        assert answer.status == 401
    right = await bench.ask("POST", "/api/login", json={**body, "password": PASSWORD})
    assert (right.status, right.body) == (401, answer.body), "nor is it said that the user is locked"
    rows = [row["detail"]["reason"] for row in await laboratory.audit("login")]
    assert rows == ["wrong_password"] * (FAILURES_TO_LOCK - 1) + ["wrong_password, now locked", "locked"]
