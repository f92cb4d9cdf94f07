"""Materials, lots, targets and points of quality control, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from interface.domain.permissions import Role
from interface.domain.qc_lots import LotView, TargetView
from interface.domain.views import Actor
from interface.flow import qc_lots, qc_targets
from interface.flow.qc_lots import LotChange, MaterialChange
from interface.flow.qc_targets import Place, Wanted
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.qc_lots import read_materials
from tests.records import Laboratory, user

WHY = "new lot"


def director(laboratory: Laboratory) -> Actor:
    return user(laboratory.organization_id, Role.LABORATORY_DIRECTOR, "dora")


async def add_lot(
    laboratory: Laboratory, lot: str = "4711", level: str = "low", number: int = 1, **said: object
) -> LotView:
    """A level of a lot of the material `Control`."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        known = await read_materials(connection, names=["Control"])
        actor = director(laboratory)
        material = (
            known[0] if known else await qc_lots.create_material(connection, actor, MaterialChange("Control", "Maker"))
        )
        change = LotChange(lot, level, number, **said)  # type: ignore[arg-type]
        return await qc_lots.create_lot(connection, actor, material.id, change)


async def add_target(
    laboratory: Laboratory, lot: str = "4711", mean: str = "12.0", sd: str = "0.5", test: str = "HGB", **said: object
) -> TargetView:
    """Of the analyzer `hema`, from yesterday on."""
    place = Place(lot, "hema", test, module=str(said.pop("module", "")), reagent_lot=str(said.pop("reagent_lot", "")))
    said = {"unit": "g/dL", "valid_from": datetime.now(UTC) - timedelta(days=1)} | said
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        wanted = Wanted(Decimal(mean), Decimal(sd), **said)  # type: ignore[arg-type]
        return await qc_targets.set_target(connection, director(laboratory), place, wanted, WHY)


class Site(Protocol):
    """A laboratory with an analyzer, of whichever tests."""

    @property
    def database(self) -> Database: ...
    @property
    def organization_id(self) -> UUID: ...
    @property
    def analyzer_id(self) -> UUID: ...


async def add_points(
    laboratory: Site,
    lot_id: UUID,
    numbers: Sequence[str],
    *,
    test: str = "HGB",
    begin: datetime | None = None,
    every: timedelta = timedelta(days=1),
    target_id: UUID | None = None,
    module: str = "",
    reagent_lot: str = "",
    excluded: bool = False,
    verdict: str = "unknown",
) -> list[UUID]:
    """Counted points as arrival would have written them, `every` so often, the last of them just now."""
    start = begin or datetime.now(UTC) - every * len(numbers)
    ids = [uuid7() for _ in numbers]
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        test_id = await connection.fetchval("select id from lab.test where code = $1", test)
        for place, (id, number) in enumerate(zip(ids, numbers, strict=True)):
            at = start + every * place
            await connection.execute(
                "insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, test_id, kind, number,"
                " value, measured_at) values ($1, $2, $3, $4, 'qc', $5, 'numeric', $6::text::numeric, $6::text, $7)",
                id, laboratory.organization_id, id.bytes, laboratory.analyzer_id, test_id, number, at,
            )  # fmt: skip
            await connection.execute(
                "insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, module, test_id, lot_id,"
                " target_id, run_id, measured_at, number, reagent_lot, verdict, steps, excluded_at)"
                " values ($1, $2, $3, $4, $5, $6, $7, $1, $8, $9::text::numeric, $10, $12, '[]',"
                " case when $11 then now() end)",
                id, laboratory.organization_id, laboratory.analyzer_id, module, test_id, lot_id,
                target_id, at, number, reagent_lot, excluded, verdict,
            )  # fmt: skip
    return ids


async def add_judged(
    laboratory: Laboratory,
    lot: LotView,
    target: TargetView,
    zs: Sequence[str],
    begin: datetime,
    every: timedelta,
    *,
    module: str = "",
    comment: str = "",
) -> list[UUID]:
    """Points of a target by their z, beyond 3 SD rejected, beyond 2 warned; `comment`: of the first."""
    ids = [uuid7() for _ in zs]
    rows = []
    for place, (id, z) in enumerate(zip(ids, map(Decimal, zs), strict=True)):
        verdict, rules = ("reject", ["1-3s"]) if abs(z) > 3 else ("warn", ["1-2s"]) if abs(z) > 2 else ("accept", [])
        number, at = target.mean + z * target.sd, begin + place * every
        said = comment if place == 0 else ""
        rows.append((id, at, number, z, verdict, rules, said, id.bytes))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        of = laboratory.organization_id, target.analyzer_id, target.test_id
        await connection.executemany(
            "insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, test_id, kind, number,"
            " value, measured_at, comment) values ($1, $6, $5, $7, 'qc', $8, 'numeric', $3, $3::numeric::text, $2, $4)",
            [(id, at, number, said, key, *of) for id, at, number, _, _, _, said, key in rows],
        )
        await connection.executemany(
            "insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, module, test_id, lot_id, target_id,"
            " level_number, run_id, measured_at, number, z, verdict, rules, steps)"
            " values ($1, $7, $8, $10, $9, $11, $12, $13, $1, $2, $3, $4, $5, $6, '[]')",
            [
                (id, at, number, z, verdict, rules, *of, module, lot.id, target.id, lot.level_number)
                for id, at, number, z, verdict, rules, _, _ in rows
            ],
        )
    return ids
