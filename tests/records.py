"""A small laboratory for tests: catalogue, analyzer, people, and results as the deciding would have written them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from interface.domain.identity import natural_key
from interface.domain.model import HoldReason, Observed, ObservedSpecimen, ResultStatus, Step, ValueKind
from interface.domain.permissions import Role, permissions
from interface.domain.values import parse_value
from interface.domain.views import Actor, ActorKind, IdentifierView, OrderView
from interface.flow import orders
from interface.store.db import Database
from interface.store.explanations import write_steps
from interface.store.ids import uuid7
from interface.store.journal import frame_id, new_message_id

TESTS = {"HGB": ("Haemoglobin", "718-7", "g/dL"), "WBC": ("Leukocytes", "6690-2", "10*9/L"), "GLU": ("Glucose", "", "")}


def user(organization_id: UUID, role: Role = Role.TECHNOLOGIST, name: str = "vera") -> Actor:
    roles = frozenset({role.value})
    return Actor(ActorKind.USER, uuid7(), name, organization_id, permissions(roles), roles)


def patient(identifier: str = "", family: str = "Muster") -> orders.NewPatient:
    return orders.NewPatient((IdentifierView("urn:hospital", identifier or uuid4().hex),), family, "Eva")


def order(*tests: str, barcode: str = "", placer_number: str = "") -> orders.NewOrder:
    specimen = orders.NewSpecimen(tests or ("HGB",), barcode)
    return orders.NewOrder((specimen,), patient(), placer_number=placer_number)


@dataclass(frozen=True, slots=True)
class Laboratory:
    """`organization_id` has the tests above, the panel CBC of HGB and WBC, and one analyzer with one link."""

    database: Database
    organization_id: UUID
    analyzer_id: UUID
    link_id: UUID
    tests: Mapping[str, UUID]
    technologist: Actor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "technologist", user(self.organization_id))

    async def order(self, new: orders.NewOrder | None = None) -> OrderView:
        async with self.database.transaction(self.organization_id) as connection:
            return await orders.create_order(connection, self.technologist, new or order())

    async def result(
        self,
        of: OrderView | None,
        value: str = "13.5",
        *,
        status: ResultStatus = ResultStatus.PRELIMINARY,
        held: tuple[HoldReason, ...] = (),
        kind: ValueKind = ValueKind.NUMERIC,
        barcode: str = "",
        message_id: UUID | None = None,
        location: str = "R 1",
        comparator: str = "",
        calculated: Mapping[str, str] | None = None,
    ) -> UUID:
        """A result of the order's first item (of nothing: a specimen and a test that are not known). `calculated`: of
        which values of which tests."""
        result_id = uuid7()
        item = of.items[0] if of else None
        specimen = ObservedSpecimen(specimen_id=barcode or (item.barcode if item else ""))
        key = natural_key(str(self.analyzer_id), specimen, Observed("HB", parse_value(value)), message=str(result_id))
        version_id = await self.version(
            result_id, value, 1, status, held, kind, of, barcode, message_id, location, comparator,
            calculated=calculated,
        )  # fmt: skip
        async with self.database.transaction(self.organization_id) as connection:
            await connection.execute(
                """
                insert into lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, patient_id,
                    order_id, order_item_id, test_id, version_id, status, held, released_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when $13 then now() end)
                """,
                result_id, self.organization_id, key, self.analyzer_id, item and item.specimen_id,
                of and of.patient_id, of and of.id, item and item.id, item and self.tests[item.test_code], version_id,
                status.value, list(held), status is ResultStatus.FINAL,
            )  # fmt: skip
            if calculated:
                await connection.execute("update lab.result set origin = 'calculation' where id = $1", result_id)
            if item and not held:
                await connection.execute("update lab.order_item set status = 'completed' where id = $1", item.id)
        return result_id

    async def version(
        self,
        result_id: UUID,
        value: str,
        version: int,
        status: ResultStatus,
        held: tuple[HoldReason, ...],
        kind: ValueKind = ValueKind.NUMERIC,
        of: OrderView | None = None,
        barcode: str = "",
        message_id: UUID | None = None,
        location: str = "R 1",
        comparator: str = "",
        flags: tuple[str, ...] = ("N",),
        calculated: Mapping[str, str] | None = None,
    ) -> UUID:
        version_id = uuid7()
        item = of.items[0] if of else None
        number = Decimal(value) if kind is ValueKind.NUMERIC else None
        steps = [Step("decode", "ok", "read by the driver", "test 1"), Step("map", "ok", "HGB", "test map 1")]
        steps += [Step("calculation", "ok", "by a formula", inputs=dict(calculated))] if calculated else []
        async with self.database.transaction(self.organization_id) as connection:
            await connection.execute(
                """
                insert into lab.result_version (id, organization_id, result_id, version, status, held, message_id,
                    location, specimen_as_sent, code, raw_value, test_code, test_name, loinc, kind, number, value, unit,
                    flags, actor_kind, actor_id, comparator, steps, driver_revision, map_revision)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'HB', $10, $11, 'Haemoglobin', $12, $13, $14, $10, 'g/dL',
                        $18, 'link', $15, $16, $17, 'test 1', 1)
                """,
                version_id, self.organization_id, result_id, version, status.value, list(held), message_id, location,
                barcode or (item.barcode if item else ""), value, item.test_code if item else "",
                item.loinc if item else "", kind.value, number, self.link_id, comparator, write_steps(steps),
                list(flags),
            )  # fmt: skip
        return version_id

    async def change(
        self,
        result_id: UUID,
        value: str,
        held: tuple[HoldReason, ...] = (HoldReason.CHANGED_AFTER_RELEASE,),
        version: int = 2,
        kind: ValueKind = ValueKind.NUMERIC,
    ) -> UUID:
        """A change to a released result arrives, and waits."""
        version_id = await self.version(result_id, value, version, ResultStatus.REGISTERED, held, kind)
        async with self.database.transaction(self.organization_id) as connection:
            await connection.execute(
                "update lab.result set pending_version_id = $2 where id = $1", result_id, version_id
            )
        return version_id

    async def count(self, table: str, where: str, *values: object) -> int:
        statement = " ".join(("select count(*) from", f"lab.{table}", "where", where))
        async with self.database.transaction(self.organization_id) as connection:
            counted: int = await connection.fetchval(statement, *values)
            return counted


async def found(database: Database, organization_id: UUID) -> Laboratory:
    """Give an organization its laboratory."""
    tests = {code: uuid7() for code in TESTS}
    analyzer_id, link_id = uuid7(), uuid7()
    async with database.transaction(organization_id) as connection:
        for code, (name, loinc, unit) in TESTS.items():
            await connection.execute(
                "insert into lab.test (id, organization_id, code, name, loinc, unit) values ($1, $2, $3, $4, $5, $6)",
                tests[code], organization_id, code, name, loinc, unit,
            )  # fmt: skip
        await connection.execute(
            "insert into lab.panel (id, organization_id, code, name, test_ids) values ($1, $2, 'CBC', 'Count', $3)",
            uuid7(), organization_id, [tests["HGB"], tests["WBC"]],
        )  # fmt: skip
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name) values ($1, $2, 'hema')", analyzer_id, organization_id
        )
        await connection.execute(
            "insert into lab.link (id, organization_id, name, analyzer_id, driver, role)"
            " values ($1, $2, 'hema-1', $3, 'generic_lis2', 'analyzer')",
            link_id, organization_id, analyzer_id,
        )  # fmt: skip
    return Laboratory(database, organization_id, analyzer_id, link_id, tests)


async def store_message(laboratory: Laboratory, *frames: tuple[int | None, bytes], control_id: str = "") -> UUID:
    """A complete message with these frames (frame number, bytes as on the wire), as the journal would have it."""
    message_id = new_message_id()
    now = datetime.now(UTC)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "insert into lab.message (id, organization_id, link_id, protocol, state, settled, reply, control_id, bytes,"
            " received_at, sealed_at) values ($1, $2, $3, $4, 'complete', 'released', 'sent', $5, $6, $7, $7)",
            message_id, laboratory.organization_id, laboratory.link_id, "hl7" if frames[0][0] is None else "lis2",
            control_id, sum(len(data) for _, data in frames), now,
        )  # fmt: skip
        for ordinal, (fn, data) in enumerate(frames):
            await connection.execute(
                "insert into lab.frame (id, organization_id, message_id, ordinal, attempt, fn, bytes, digest,"
                " received_at) values ($1, $2, $3, $4, 0, $5, $6, $7, $8)",
                frame_id(message_id, ordinal, 0), laboratory.organization_id, message_id, ordinal, fn, data, b"-", now,
            )  # fmt: skip
    return message_id
