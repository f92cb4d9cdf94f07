"""A hospital's link over real PostgreSQL, and its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from interface.domain.views import Actor, Audience, OrderView
from interface.flow.context import LinkContext
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.requests import Requests
from interface.link.intake import Receipt
from interface.settings import LinkRole
from interface.store import lab as reads
from interface.store.lab import OrderFilter
from interface.wire import hl7
from tests.flow.laboratory import Laboratory, laboratory

PEER = "127.0.0.1:1"
_CONTROL = count(1)
PID = "PID|1||P-1^^^HOSP^MR||MUSTER^MARIA||19800501|F"


def header(kind: str, control_id: str = "", *, version: str = "2.5.1", accept: str = "", application: str = "") -> str:
    number = control_id or f"H{next(_CONTROL)}"
    return f"MSH|^~\\&|HIS|HOSP|LABORA|LAB|20260105080000+0100||{kind}|{number}|P|{version}|||{accept}|{application}"


def message(kind: str, *segments: str, **more: str) -> bytes:
    return "".join(f"{line}\r" for line in (header(kind, **more), *segments)).encode()


def order(
    placer: str, code: str = "K", *more: str, control: str = "NW", spm: str = "SPM|1|{barcode}||SER", barcode: str = "",
    group: str = "", priority: str = "", obr: str = "",
) -> list[str]:  # fmt: skip
    """One ORC with its OBR and SPM. `more`: segments between OBR and SPM; `obr`: fields of OBR from 5 on."""
    lines = [f"ORC|{control}|{placer}||{group}"]
    if priority:
        lines.append(f"TQ1|1||||||||{priority}")
    lines += [f"OBR|1|{placer}||{code}|{obr}", *more]
    return [*lines, spm.format(barcode=barcode)] if spm else lines


@dataclass(slots=True)
class Said:
    """An application's reply: MSA-1, and of each order ORC-1, placer, filler, status; the ERR with their places."""

    receipt: Receipt
    reply: hl7.Message
    kind: str
    code: str
    orders: list[tuple[str, str, str, str]] = field(default_factory=list)
    errors: list[tuple[str, str, str]] = field(default_factory=list)  # place, code, severity
    words: list[str] = field(default_factory=list)
    barcodes: list[str] = field(default_factory=list)

    @property
    def controls(self) -> list[str]:
        return [one[0] for one in self.orders]


def read(receipt: Receipt) -> Said:
    assert receipt.reply is not None
    block = receipt.then[-1] if receipt.then else receipt.reply
    reply = hl7.check_syntax(block)
    msa = reply.first("MSA")
    assert msa is not None
    return Said(
        receipt, reply, reply.type, msa.value(1),
        [(one.value(1), one.value(2), one.value(3), one.value(5)) for one in reply.all("ORC")],
        [(one.field(2), one.value(3), one.value(4)) for one in reply.all("ERR")],
        [one.value(8) for one in reply.all("ERR")],
        [one.value(3) for one in reply.all("SAC")],
    )  # fmt: skip


@dataclass(slots=True)
class Hospital:
    lab: Laboratory
    context: LinkContext
    intake: LinkIntake

    async def send(self, block: bytes) -> Said:
        return read(await self.intake.block(block, PEER))

    async def oml(self, *segments: str, pid: str = PID, **more: str) -> Said:
        return await self.send(message("OML^O21^OML_O21", *([pid] if pid else []), *segments, **more))

    async def adt(self, event: str, *segments: str, **more: str) -> Said:
        return await self.send(message(f"ADT^{event}", "EVN||20260105080000", *segments, **more))

    async def orders(self) -> list[OrderView]:
        """All there are, oldest first."""
        async with self.lab.database.organization(self.lab.organization_id) as connection:
            found = await reads.find_orders(connection, OrderFilter(), Audience.STAFF)
        return sorted(found, key=lambda one: one.id)

    async def tests(self) -> list[list[tuple[str, str, str]]]:
        """Of each order the tests with their status and barcode."""
        return [
            [(item.test_code, item.status.value, item.barcode) for item in one.items] for one in await self.orders()
        ]

    async def count(self, table: str) -> int:
        return int(await self.lab.owner.fetchval(f"select count(*) from lab.{table}"))  # noqa: S608 - a test's own word

    async def everything(self) -> dict[str, int]:
        """How many rows there are of what an order or a patient may write."""
        tables = ("lab_order", "order_item", "specimen", "specimen_event", "placer_order", "placer_item", "patient",
                  "patient_identifier", "practitioner", "patient_merge")  # fmt: skip
        return {table: await self.count(table) for table in tables}

    @property
    def actor(self) -> Actor:
        return self.lab.context.actor


def link_of(lab: Laboratory, **settings: object) -> tuple[LinkContext, LinkIntake]:
    changed = replace(lab.context.settings, role=LinkRole.HOSPITAL, **settings)  # type: ignore[arg-type]
    context = replace(lab.context, settings=changed)
    return context, LinkIntake(context, lab.journal, requests=Requests(context, lab.database, HANDLERS, 20.0))


@asynccontextmanager
async def hospital(database_url: str, **settings: object) -> AsyncIterator[Hospital]:
    async with laboratory(database_url, "generic_hospital") as lab:
        context, intake = link_of(lab, **settings)
        yield Hospital(lab, context, intake)
