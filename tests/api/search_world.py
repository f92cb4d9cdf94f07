"""A laboratory of made-up people, orders and results of every kind, by a seed: what searches are compared over."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from interface.store import people
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.api.bench import Laboratory

FAMILIES = ("Muster", "Öztürk", "van der Berg", "O'Brien", "Łukasz", "Şahin", "Mus", "")
GIVENS = ("Eva Maria", "Ada", "José", "Eva", "Zoë Ada", "")
TESTS = ("HGB", "WBC", "PLT", "GLU")
STATUSES = (
    "final", "final", "final", "corrected", "amended", "preliminary", "registered", "cancelled", "entered-in-error",
)  # fmt: skip
VALUES: tuple[dict[str, Any], ...] = (
    {"kind": "numeric", "number": Decimal("5.40"), "value": "5.40", "unit": "mmol/L"},
    {"kind": "numeric", "number": Decimal("5.4"), "value": "5.4", "unit": "g/dL"},
    {"kind": "numeric", "number": Decimal("5.405"), "value": "5.405", "unit": "g/dL"},
    {"kind": "numeric", "number": Decimal("100"), "value": "100", "unit": ""},
    {"kind": "numeric", "comparator": "<", "number": Decimal("5.4"), "value": "<5.4", "unit": "g/dL"},
    {"kind": "numeric", "comparator": "<=", "number": Decimal("5.4"), "value": "<=5.4", "unit": "g/dL"},
    {"kind": "numeric", "comparator": ">", "number": Decimal("5.4"), "value": ">5.4", "unit": "g/dL"},
    {"kind": "numeric", "comparator": ">=", "number": Decimal("100"), "value": ">=100", "unit": "g/dL"},
    {"kind": "text", "value": "Few Ölig cells"},
    {"kind": "text", "value": "few"},
    {"kind": "coded", "value": "Negative"},
    {"kind": "coded", "value": "positive"},
    {"kind": "failed", "value": ""},
    {"kind": "empty", "value": ""},
)
SOME_DAY = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Maker:
    """Puts rows into a laboratory; every choice is the seed's."""

    def __init__(self, laboratory: Laboratory, seed: int) -> None:
        self._laboratory, self._random = laboratory, random.Random(seed)  # noqa: S311
        self._patients: list[UUID] = []
        self._practitioners: list[UUID] = []
        self._tests: dict[str, UUID] = {}
        self._taken_back = 0

    async def make(self, patients: int, orders: int) -> None:
        async with self._laboratory.database.transaction(self._laboratory.organization_id) as connection:
            rows = await connection.fetch(
                "select id, code, name, loinc from lab.test where code = any($1)", list(TESTS)
            )
            self._catalogue = [dict(row.items()) for row in rows]
            for _ in range(patients):
                await self._patient(connection)
            prior, survivor = self._patients[0], self._patients[1]
            await connection.execute("update lab.patient set merged_into_id = $2 where id = $1", prior, survivor)
            for name in ("House", "Öztürk", ""):
                await self._practitioner(connection, name)
            for number in range(orders):
                await self._order(connection, number)

    def _moment(self) -> datetime:
        return SOME_DAY + timedelta(
            days=self._random.choice((-400, -31, -1, 0, 0, 1, 40)), seconds=self._random.choice((0, 1, 60, 86399)),
            microseconds=self._random.choice((0, 0, 250_000)),
        )  # fmt: skip

    async def _insert(self, connection: Connection, table: str, **columns: Any) -> UUID:
        columns.setdefault("id", uuid7())
        await self._laboratory._insert(connection, table, **columns)
        id: UUID = columns["id"]
        return id

    async def _patient(self, connection: Connection) -> None:
        choose = self._random.choice
        family, given = choose(FAMILIES), choose(GIVENS)
        born = choose((None, date(1980, 5, 1), date(1980, 5, 2), date(1981, 1, 1), date(2000, 12, 31)))
        id = await self._insert(
            connection, "patient", family=family, given=given, birth_date=born, active=choose((True, True, False)),
            sex=choose(("female", "male", "other", "unknown")), updated_at=self._moment(),
        )  # fmt: skip
        await people.write_words(connection, self._laboratory.organization_id, id, family, given)
        for authority in self._random.sample(("urn:hospital", "WARD", ""), choose((0, 1, 2))):
            await self._insert(
                connection, "patient_identifier", patient_id=id, authority=authority,
                value=f"M-{len(self._patients) % 7}-{authority}", type=choose(("MR", "")),
                ended_at=choose((None, None, SOME_DAY)),
            ) if not await self._taken(connection, authority) else None  # fmt: skip
        self._patients.append(id)

    async def _taken(self, connection: Connection, authority: str) -> bool:
        number = f"M-{len(self._patients) % 7}-{authority}"
        text = "select exists (select from lab.patient_identifier where authority = $1 and value = $2)"
        taken: bool = await connection.fetchval(text, authority, number)
        return taken

    async def _practitioner(self, connection: Connection, family: str) -> None:
        id = await self._insert(
            connection, "practitioner", family=family, given="Ada Zoë" if family else "", active=bool(family),
            updated_at=self._moment(),
        )  # fmt: skip
        await self._insert(
            connection, "practitioner_identifier", practitioner_id=id, authority="St. Anna", type="DN",
            value=f"D-{len(self._practitioners)}",
        )  # fmt: skip
        self._practitioners.append(id)

    async def _order(self, connection: Connection, number: int) -> None:
        choose = self._random.choice
        patient_id = choose((*self._patients, None))
        at = self._moment()
        order_id = await self._insert(
            connection, "lab_order", patient_id=patient_id, number=f"N-{number}", ordered_at=self._moment(),
            placer_number=choose(("", f"N-{number + 1}", f"PL-{number}")), updated_at=at,
            placer_authority=("", "urn:emr", "St. Anna")[number % 3],  # without the dice: what follows stays as it was
            priority=choose(("stat", "asap", "routine", "preop")), cancelled_at=choose((None, None, None, at)),
            requester_id=choose((*self._practitioners, None)),
        )  # fmt: skip
        specimens = [
            await self._insert(
                connection, "specimen", barcode=f"B-{number}-{place}", order_id=order_id, patient_id=patient_id,
                type=choose(("SER", "EDTA", "")), collected_at=choose((None, self._moment())),
                updated_at=self._moment(),
            )
            for place in range(2)
        ]  # fmt: skip
        stray = await self._insert(
            connection, "specimen", barcode=f"S-{number}", patient_id=choose((patient_id, None)),
            updated_at=self._moment(),
        )  # fmt: skip
        for test in self._random.sample(self._catalogue, choose((1, 2, 3))):
            item_id = await self._insert(
                connection, "order_item", order_id=order_id, test_id=test["id"],
                specimen_id=choose((*specimens, None)),
                status=choose(("requested", "received", "in_progress", "completed", "verified", "cancelled")),
            )  # fmt: skip
            for _ in range(choose((0, 1, 1, 2))):
                await self._result(connection, test, order_id, item_id, choose((*specimens, stray)), patient_id)
        if choose((True, False)):  # without an order
            await self._result(connection, choose(self._catalogue), None, None, stray, patient_id)

    async def _result(
        self, connection: Connection, test: dict[str, Any], order_id: UUID | None, item_id: UUID | None,
        specimen_id: UUID, patient_id: UUID | None,
    ) -> None:  # fmt: skip
        choose = self._random.choice
        result_id, version_id, status = uuid7(), uuid7(), choose(STATUSES)
        held = choose(([], [], [], ["questionable"]))
        released = self._moment() if status in ("final", "corrected", "amended") or choose((True, False)) else None
        await self._insert(
            connection, "result_version", id=version_id, result_id=result_id, status=status, held=held, code="X",
            test_code=test["code"], test_name=test["name"], loinc=choose((test["loinc"], "")), actor_kind="link",
            instrument_at=choose((None, self._moment())), flags=["N"], version=2, **choose(VALUES),
        )  # fmt: skip
        await self._insert(
            connection, "result", id=result_id, natural_key=result_id.bytes, analyzer_id=self._laboratory.analyzer_id,
            specimen_id=specimen_id, patient_id=patient_id, order_id=order_id, order_item_id=item_id,
            test_id=test["id"], version_id=version_id, version=2, status=status, held=held, released_at=released,
            reportable=choose((True, True, True, False)), updated_at=self._moment(),
            created_at=SOME_DAY + timedelta(days=2),  # of some an instrument's clock is not to be believed
        )  # fmt: skip
        if status in ("registered", "cancelled"):
            await self._was_preliminary(connection, result_id)

    async def _was_preliminary(self, connection: Connection, result_id: UUID) -> None:
        """Every other one of what is not: an EMR may have seen it. Without the dice."""
        self._taken_back += 1
        if self._taken_back % 2:
            return
        await self._insert(
            connection, "result_version", result_id=result_id, status="preliminary", code="X", actor_kind="link",
            kind="numeric", number=Decimal("7.7"), value="7.7", version=1,
        )  # fmt: skip
