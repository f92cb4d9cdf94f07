"""Patients' results as the deciding writes them, many at once and at any time: for what follows or simulates them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from interface.domain.permissions import Role
from interface.domain.views import Actor
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.records import Laboratory, user

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Measured:
    """One analyzer's result; its ids are of the time at which it was decided."""

    at: datetime
    number: str
    comparator: str = ""
    unit: str = "g/dL"
    module: str = ""
    held: tuple[str, ...] = ()
    status: str = "final"
    version: int = 1
    origin: str = "analyzer"
    kind: str = "numeric"
    order_id: UUID | None = None
    specimen_id: UUID | None = field(default_factory=uuid7)
    test: str = "HGB"
    instrument_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Patients:
    """`laboratory` with results in it; `director` may do everything of quality control."""

    laboratory: Laboratory
    director: Actor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "director", user(self.laboratory.organization_id, Role.LABORATORY_DIRECTOR, "dora"))

    @property
    def database(self) -> Database:
        return self.laboratory.database

    @property
    def organization_id(self) -> UUID:
        return self.laboratory.organization_id

    async def measure(self, results: Iterable[Measured]) -> list[UUID]:
        """Write them; the ids of the versions."""
        rows = [(uuid7(_ms(one.at)), uuid7(_ms(one.at)), one) for one in results]
        lab = self.laboratory
        versions = [
            (version_id, result_id, one.version, one.status, " ".join(one.held), one.module, one.kind, one.comparator,
             Decimal(one.number) if one.kind == "numeric" else None, one.number, one.unit, one.instrument_at, one.at)
            for version_id, result_id, one in rows
        ]  # fmt: skip
        pointers = [
            (result_id, version_id.bytes, one.specimen_id, one.order_id, lab.tests[one.test], version_id, one.status,
             " ".join(one.held), one.origin)
            for version_id, result_id, one in rows
        ]  # fmt: skip
        async with self.database.transaction(self.organization_id) as connection:
            await connection.execute(
                """insert into lab.result_version (id, organization_id, result_id, version, status, held, module, kind,
                       comparator, number, value, unit, instrument_at, actor_kind, created_at)
                   select a, $1, b, c, d, string_to_array(e, ' '), f, g, h, i, j, k, l, 'link', m
                     from unnest($2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
                                 $9::text[], $10::numeric[], $11::text[], $12::text[], $13::timestamptz[],
                                 $14::timestamptz[]) as t (a, b, c, d, e, f, g, h, i, j, k, l, m)""",
                lab.organization_id, *map(list, zip(*versions, strict=True)),
            )  # fmt: skip
            await connection.execute(
                """insert into lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, order_id,
                       test_id, version_id, status, held, origin)
                   select a, $1, b, $2, c, d, e, f, g, string_to_array(h, ' '), i
                     from unnest($3::uuid[], $4::bytea[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::text[],
                                 $10::text[], $11::text[]) as t (a, b, c, d, e, f, g, h, i)""",
                lab.organization_id, lab.analyzer_id, *map(list, zip(*pointers, strict=True)),
            )  # fmt: skip
        return [version_id for version_id, _, _ in rows]

    async def order_of(self, ward: str = "", group: str = "") -> UUID:
        order_id = uuid7()
        async with self.database.transaction(self.organization_id) as connection:
            await connection.execute(
                "insert into lab.lab_order (id, organization_id, number, ward, patient_group)"
                " values ($1, $2, $3, $4, $5)",
                order_id, self.organization_id, order_id.hex, ward, group,
            )  # fmt: skip
        return order_id


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def healthy(days: int, a_day: int, *, begin: datetime = BEGIN, seed: int = 1, shift: str = "0") -> Sequence[Measured]:
    """Haemoglobins about 13.5 g/dL, SD 1.2, `a_day` on each day, some minutes apart."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    every = timedelta(days=1) / a_day
    return [
        Measured(
            begin + timedelta(days=day) + number * every,
            f"{Decimal(round(rng.gauss(135, 12))).scaleb(-1) + Decimal(shift)}",
        )
        for day in range(days)
        for number in range(a_day)
    ]
