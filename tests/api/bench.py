"""A laboratory with its HTTP server on loopback, its database, its people and its clients."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from aiohttp import ClientSession, web

from interface.api.app import LinkStatus, Readiness, build_app
from interface.api.connections import MOST_CONNECTIONS, listen
from interface.api.context import ENDING
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.views import Actor, ActorKind
from interface.flow import actors
from interface.flow.client_keys import KeySource
from interface.flow.feed import Feed
from interface.settings import Address, ApiSettings, Preliminary, Settings
from interface.store import people
from interface.store.audit import AuditWriter
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.api.conforming import conforms

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Laboratory:
    """One organization. `analyzer_id` has no link: results are put in as the deciding would."""

    database: Database
    organization_id: UUID
    name: str
    analyzer_id: UUID = field(default_factory=uuid7)

    async def user(self, *roles: Role, name: str = "") -> str:
        """A new user of these roles; returns the name. The first is made by setup, so it is an administrator too."""
        name = name or f"u-{uuid4().hex[:12]}"
        async with self.database.organization(self.organization_id) as connection:
            first = not await connection.fetchval("select exists (select from lab.app_user)")
        if first:
            actor = actors.setup_actor(self.organization_id)
            roles = (*roles, Role.ADMINISTRATOR)
        else:
            permissions = frozenset({"user:write", "client:write"})
            actor = Actor(ActorKind.USER, uuid7(), "admin", self.organization_id, permissions)
        new = actors.NewUser(name, PASSWORD, tuple(role.value for role in roles))
        await actors.create_user(self.database, actor, new)
        return name

    async def user_token(self, *roles: Role) -> str:
        issued = await actors.login(self.database, self.name, await self.user(*roles), PASSWORD, 600)
        return issued.token

    async def client(self, *scopes: str) -> actors.IssuedClient:
        actor = Actor(ActorKind.USER, uuid7(), "admin", self.organization_id, frozenset({"client:write"}))
        return await actors.create_client(self.database, actor, f"c-{uuid4().hex[:12]}", scopes)

    async def client_token(self, *scopes: str) -> str:
        made = await self.client(*scopes)
        return (await actors.client_token(self.database, made.client_id, made.secret, "", 600)).token

    async def audit(self, action: str) -> list[asyncpg.Record]:
        async with self.database.organization(self.organization_id) as connection:
            return await connection.fetch("select * from lab.audit_event where action = $1 order by id", action)

    async def order(self, barcode: str = "", **changed: Any) -> dict[str, UUID]:
        """A patient with an order for HGB on one specimen; the ids of each."""
        ids = {name: uuid7() for name in ("patient", "identifier", "order", "specimen", "item")}
        async with self.database.transaction(self.organization_id) as connection:
            test_id = await connection.fetchval("select id from lab.test where code = 'HGB'")
            await self._insert(
                connection, "patient", id=ids["patient"], family="Muster", given="Eva Maria", sex="female"
            )
            await self._insert(
                connection, "patient_identifier", id=ids["identifier"], patient_id=ids["patient"],
                authority="urn:hospital", value=changed.get("mrn", uuid4().hex), type="MR",
            )  # fmt: skip
            await people.write_words(connection, self.organization_id, ids["patient"], "Muster", "Eva Maria")
            await self._insert(
                connection, "lab_order", id=ids["order"], patient_id=ids["patient"],
                number=changed.get("number", f"N-{uuid4().hex}"), placer_number=changed.get("placer", ""),
            )  # fmt: skip
            await self._insert(
                connection, "specimen", id=ids["specimen"], barcode=barcode or uuid4().hex[:12],
                order_id=ids["order"], patient_id=ids["patient"],
            )  # fmt: skip
            await self._insert(
                connection, "order_item", id=ids["item"], order_id=ids["order"], test_id=test_id,
                specimen_id=ids["specimen"], status="received",
            )  # fmt: skip
        return ids

    async def result(
        self,
        of: Mapping[str, UUID],
        value: str = "13.50",
        status: ResultStatus = ResultStatus.FINAL,
        held: Sequence[HoldReason] = (),
        within: Connection | None = None,
        **changed: Any,
    ) -> UUID:
        """A result of the order's item in one version, as the deciding writes it; `changed` are version columns.
        `within`: a transaction that is under way."""
        result_id, version_id = uuid7(), uuid7()
        own = self.database.transaction(self.organization_id)
        async with nullcontext(within) if within is not None else own as connection:
            test_id = await connection.fetchval("select id from lab.test where code = 'HGB'")
            columns: dict[str, Any] = {
                "code": "HB", "raw_value": value, "test_code": "HGB", "test_name": "Haemoglobin", "loinc": "718-7",
                "kind": "numeric", "value": value, "number": None if "kind" in changed else Decimal(value),
                "unit": "g/dL", "low": Decimal("11.90"),
                "high": Decimal("15.0"), "flags": ["N"], "actor_kind": "link",
            }  # fmt: skip
            await self._insert(
                connection, "result_version", id=version_id, result_id=result_id, status=status.value,
                held=[reason.value for reason in held], **columns | changed,
            )  # fmt: skip
            await self._insert(
                connection, "result", id=result_id, natural_key=result_id.bytes, analyzer_id=self.analyzer_id,
                specimen_id=of["specimen"], patient_id=of["patient"], order_id=of["order"], order_item_id=of["item"],
                test_id=test_id, version_id=version_id, status=status.value, held=[reason.value for reason in held],
            )  # fmt: skip
        return result_id

    async def _insert(self, connection: Connection, table: str, **columns: Any) -> None:
        columns["organization_id"] = self.organization_id
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        text = " ".join(("insert into", f"lab.{table}", f"({', '.join(columns)}) values ({places})"))
        await connection.execute(text, *columns.values())


async def found_laboratory(database: Database) -> Laboratory:
    made = await actors.create_organization(database, f"lab-{uuid4().hex}", title="Test Laboratory")
    laboratory = Laboratory(database, made.id, made.name)
    async with database.transaction(made.id) as connection:
        await laboratory._insert(connection, "analyzer", id=laboratory.analyzer_id, name="hema")
    return laboratory


@dataclass(slots=True)
class Bench:
    """The server and a way to talk to it; `token` where one is needed."""

    url: str
    session: ClientSession
    writer: AuditWriter
    app: web.Application
    readiness: list[Readiness]
    links: list[LinkStatus]

    async def ask(self, method: str, path: str, token: str = "", **options: Any) -> Answer:
        headers = dict(options.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = path if path.startswith("http") else self.url + path
        async with self.session.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, token: str = "", **options: Any) -> Answer:
        return await self.ask("GET", path, token, **options)


@asynccontextmanager
async def serving(
    database: Database,
    preliminary: Preliminary = Preliminary.HIDDEN,
    *,
    keys: KeySource | None = None,
    feed: Feed | None = None,
    state_dir: Path = Path("unused"),
    context: ssl.SSLContext | None = None,
    most_connections: int = MOST_CONNECTIONS,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """The application on a free loopback port; `settings`: more of `[api]`."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    unlimited = {"client_rate": 0, "address_rate": 0}  # a test asks as fast as it can
    api = ApiSettings(listen=Address("127.0.0.1", port), preliminary=preliminary, **unlimited | settings)
    readiness, links = [Readiness(True, True)], list[LinkStatus]()
    writer = AuditWriter(database)
    writer.start()
    app = build_app(
        database, Settings(state_dir, api=api), writer, ready=lambda: readiness[0], link_status=lambda: links,
        keys=keys, feed=feed,
    )  # fmt: skip
    app.on_response_prepare.append(conforms)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        server = await listen(runner, context, most=most_connections, sock=listener)
        async with ClientSession() as session:
            yield Bench(f"{'https' if context else 'http'}://127.0.0.1:{port}", session, writer, app, readiness, links)
    finally:
        server.close()
        app[ENDING].set()  # streams of events end now, not with their next heartbeat
        await runner.cleanup()
        await writer.close()
