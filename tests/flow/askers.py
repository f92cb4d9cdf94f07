"""Analyzers that ask for work, as their drivers' vectors have it: an order for what each vector's worklist says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from interface.domain.model import Priority, Sex
from interface.domain.views import IdentifierView
from interface.driver import registry
from interface.driver.defaults import DEFAULT_ANSWERS
from interface.driver.manifest import Driver, LinkFraming
from interface.driver.proof import host_messages
from interface.driver.receiving import received
from interface.driver.registry import Vector
from interface.flow.context import LinkContext, register
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.wire import hl7
from interface.wire.trace import Direction, parse_trace
from tests.flow.laboratory import Laboratory
from tests.link.bench import EOT


@dataclass(frozen=True, slots=True)
class Asking:
    """One vector of a host query: what the analyzer sends, what the host is to say, and of which orders."""

    driver: Driver
    name: str
    session: tuple[bytes, ...]  # what it sends until the host's turn
    query: bytes
    said: tuple[bytes, ...]
    work: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.driver.id}-{self.name}"

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.work["now"]).replace(tzinfo=UTC)

    @property
    def codes(self) -> list[str]:
        return [code for one in self.work.get("specimens", ()) for code in codes_of(one)]


def codes_of(specimen: dict[str, Any]) -> list[str]:
    return [test if isinstance(test, str) else test["code"] for test in specimen["tests"]]


def askings() -> list[Asking]:
    """Every vector with a worklist, of every driver that answers queries by its own dialect."""
    found = []
    for driver_id in sorted(registry.folders()):
        driver = registry.load(driver_id)
        if driver.law is not None or (driver.answer or DEFAULT_ANSWERS.get(driver.protocol)) is None:
            continue
        found += [made for vector in registry.vectors(driver_id) if (made := _asking(driver, vector)) is not None]
    return found


def _asking(driver: Driver, vector: Vector) -> Asking | None:
    file = vector.trace.with_suffix(".work.json")
    if not file.is_file():
        return None
    trace = parse_trace(vector.trace.read_text(encoding="utf-8"))
    sent = trace.bytes_of(Direction.ANALYZER)
    heard = host_messages(driver, trace.bytes_of(Direction.HOST))
    said = tuple(one for one in heard if not hl7.message_type(one).startswith("ACK"))
    own = [step.data for step in trace.steps if step.direction is Direction.ANALYZER]
    session = tuple(own[: own.index(EOT) + 1] if EOT in own else own[:1])
    return Asking(
        driver, vector.name, session, received(driver, [sent])[0], said, json.loads(file.read_text(encoding="utf-8"))
    )  # fmt: skip


def catalogue_code(driver_id: str, code: str) -> str:
    return f"{driver_id}:{code}"


async def link_of(lab: Laboratory, driver: Driver, codes: Sequence[str], connection: Connection) -> LinkContext:
    """A link of such an analyzer, whose codes each mean a test of its own."""
    settings = LinkSettings(
        driver.id, lab.context.settings.organization, driver.id,
        Transport(
            TransportType.MLLP_LISTEN if driver.link is LinkFraming.MLLP else TransportType.TCP_LISTEN,
            Address("127.0.0.1", 0),
        ),
    )  # fmt: skip
    for code in dict.fromkeys(codes):
        test_id = uuid7()
        await lab.owner.execute(
            "insert into lab.test (id, organization_id, code, name) values ($1, $2, $3, $3)",
            test_id, lab.organization_id, catalogue_code(driver.id, code),
        )  # fmt: skip
        await lab.owner.execute(
            "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
            " values ($1, $2, $3, $4, $5, 'site', '2020-01-01')",
            uuid7(), lab.organization_id, driver.id, code, test_id,
        )  # fmt: skip
    return await register(connection, lab.organization_id, settings, driver)


async def place(lab: Laboratory, asking: Asking, connection: Connection) -> None:
    """The orders of a vector's worklist."""
    for one in asking.work.get("specimens", ()):
        patient = one.get("patient", {})
        family, _, given = patient.get("name", "Testa^Anna").partition("^")
        collected = one.get("collected")
        order = NewOrder(
            (
                NewSpecimen(
                    tuple(catalogue_code(asking.driver.id, code) for code in codes_of(one)),
                    one["specimen_id"],
                    one.get("type", ""),
                    datetime.fromisoformat(collected).replace(tzinfo=UTC) if collected else None,
                    asking.now,
                ),
            ),
            NewPatient(
                (IdentifierView("TEST", patient.get("patient_id") or f"X-{one['specimen_id']}"),),
                family,
                given,
                birth_date=date.fromisoformat(patient["birth_date"]) if "birth_date" in patient else None,
                sex=Sex(patient["sex"]) if "sex" in patient else Sex.UNKNOWN,
            ),
            priority=Priority(one.get("priority", "routine")),
        )
        await create_order(connection, lab.context.actor, order)
