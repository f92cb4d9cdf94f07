"""A stream whose control failed, for tests of whoever looks at it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from interface.domain.model import ResultStatus
from interface.domain.qc import Evaluation, Point, QcVerdict, Stream
from interface.domain.views import Actor, ActorKind
from interface.flow import qc_gate
from interface.flow.qc_sweep import sweep
from interface.store import qc_gate as rows
from interface.store.db import Connection
from interface.store.ids import uuid7
from tests.qc_records import Site


async def add_point(
    connection: Connection, actor: Actor, stream: Stream, lot_id: UUID, at: datetime, verdict: QcVerdict, *,
    level: int = 1, lot: str = "", run: UUID | None = None,
) -> UUID:  # fmt: skip
    """A control that was judged, as `flow.qc` writes it; `lot`: of the reagent."""
    await rows.lock_judging(connection, actor.organization_id, stream.analyzer_id)
    point_id = uuid7()
    await connection.execute(
        """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, test_id, measured_at)
           values ($1, $2, $3, $4, 'qc', 'numeric', $5, $6)""",
        point_id, actor.organization_id, point_id.bytes, stream.analyzer_id, stream.test_id, at,
    )  # fmt: skip
    await connection.execute(
        """insert into lab.qc_point (qc_result_id, organization_id, analyzer_id, module, test_id, lot_id, level_number,
               run_id, measured_at, reagent_lot, verdict, steps, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '[]', clock_timestamp())""",
        point_id, actor.organization_id, stream.analyzer_id, stream.module, stream.test_id, lot_id, level,
        run or point_id, at, lot, verdict,
    )  # fmt: skip
    point = Point(str(point_id), at, str(run or point_id), level, str(lot_id), "", None)
    await qc_gate.judge(connection, actor, stream, point, Evaluation(verdict))
    return point_id


async def add_level(connection: Connection, organization_id: UUID, level: int = 1) -> UUID:
    """A lot of a material of its own; analyzers call it QC and its level."""
    material_id, lot_id = uuid7(), uuid7()
    await connection.execute(
        "insert into lab.qc_material (id, organization_id, name) values ($1, $2, $3)",
        material_id, organization_id, f"serum {material_id}",
    )  # fmt: skip
    await connection.execute(
        """insert into lab.qc_lot (id, organization_id, material_id, lot, level_number, identifiers)
           values ($1, $2, $3, 'L', $4, $5)""",
        lot_id, organization_id, material_id, level, [f"QC{level}"],
    )  # fmt: skip
    return lot_id


async def looked_back_at(site: Site, result_id: UUID) -> UUID:
    """The list of a control of the result's analyzer and test that failed just now; it has this result."""
    async with site.database.transaction(site.organization_id) as connection:
        test_id = await connection.fetchval(
            "select test_id from lab.result where id = $1 and status = $2", result_id, ResultStatus.FINAL
        )
        assert test_id is not None
        actor = Actor(ActorKind.LINK, None, "hema-1", site.organization_id)
        lot_id = await add_level(connection, site.organization_id)
        stream = Stream(site.analyzer_id, test_id)
        await add_point(connection, actor, stream, lot_id, datetime.now(UTC), QcVerdict.REJECT)
    await sweep(site.database, site.organization_id)
    async with site.database.transaction(site.organization_id) as connection:
        failed = "select id from lab.qc_lookback where analyzer_id = $1 and test_id = $2 and closed_at is null limit 1"
        lookback_id: UUID = await connection.fetchval(failed, site.analyzer_id, test_id)
    return lookback_id
