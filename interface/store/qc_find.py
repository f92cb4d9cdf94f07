"""Looking for controls: what was sent, the point made of it, why none was. For people; never what decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.qc import QcVerdict
from interface.domain.qc_views import ControlView, PointView, ProblemView, RemarkView
from interface.store.db import Connection
from interface.store.explanations import read_steps
from interface.store.query import FIRST_PAGE, Page, Query


@dataclass(frozen=True, slots=True)
class ControlFilter:
    """All that is given must be so. `since`, `until`: measured, the second exclusively; `problem`: one that waits."""

    ids: tuple[UUID, ...] = ()
    message_ids: tuple[UUID, ...] = ()
    analyzer: str = ""
    module: str | None = None
    test: str = ""
    lot_ids: tuple[UUID, ...] = ()
    level: str = ""
    role: str = ""
    origin: str = ""
    verdicts: tuple[QcVerdict, ...] = ()
    rule: str = ""
    excluded: bool | None = None
    problems: bool | None = None  # True: those that wait for a person
    problem: str = ""
    specimen_as_sent: str = ""
    since: datetime | None = None
    until: datetime | None = None
    page: Page = FIRST_PAGE


_CONTROLS = """
select r.id, r.analyzer_id, a.name as analyzer, r.module, r.role, r.origin, t.id as test_id,
       coalesce(t.code, '') as test, coalesce(t.name, '') as test_name, coalesce(t.unit, '') as unit, r.code,
       r.specimen_as_sent, r.lot_as_sent,
       r.level_as_sent, r.value, r.raw_value, r.raw_flags, r.unit as sent_unit, r.instrument_time, r.measured_at,
       r.created_at, r.message_id, r.location, r.reagent_lot, r.calibrator_lot, r.comment,
       coalesce(u.username, '') as by_name,
       b.kind as problem, b.text as problem_text, b.created_at as problem_at, b.ended_at, b.ended_by_name, b.end_reason,
       p.qc_result_id as point_id, p.lot_id, m.name as material, l.lot, l.level, p.level_number, p.target_id, g.mean,
       g.sd, coalesce(g.unit, '') as target_unit, p.number, p.z, p.verdict, p.rules, p.insufficient, p.run_id,
       p.reagent_lot as point_reagent_lot, p.calibrator_lot as point_calibrator_lot, p.created_at as judged_at,
       p.excluded_at, p.excluded_by_name, p.exclude_reason, {steps}
from lab.qc_result r join lab.analyzer a on a.id = r.analyzer_id
left join lab.qc_point p on p.qc_result_id = r.id
left join lab.test t on t.id = coalesce(p.test_id, r.test_id)
left join lab.app_user u on u.id = r.actor_id
left join lab.qc_problem b on b.qc_result_id = r.id
left join lab.qc_lot l on l.id = p.lot_id
left join lab.qc_material m on m.id = l.material_id
left join lab.qc_target g on g.id = p.target_id
where
"""


async def find_controls(connection: Connection, filter: ControlFilter) -> list[ControlView]:
    """Controls in the order of the page."""
    query = Query()
    query.any("r.id = any(?::uuid[])", filter.ids)
    query.any("r.message_id = any(?::uuid[])", filter.message_ids)
    for condition, value in (
        ("a.name = ?", filter.analyzer), ("t.code = ?", filter.test), ("l.level = ?", filter.level),
        ("r.role = ?", filter.role), ("r.origin = ?", filter.origin), ("? = any(p.rules)", filter.rule),
        ("b.kind = ?", filter.problem), ("r.specimen_as_sent = ?", filter.specimen_as_sent),
    ):  # fmt: skip
        if value:
            query.where(condition, value)
    if filter.module is not None:
        query.where("r.module = ?", filter.module)
    query.any("p.lot_id = any(?::uuid[])", filter.lot_ids)
    query.any("p.verdict = any(?::text[])", [one.value for one in filter.verdicts])
    if filter.excluded is not None:
        query.where(f"p.excluded_at is {'not ' if filter.excluded else ''}null and p.qc_result_id is not null")
    if filter.problems is not None:
        query.where(f"(b.qc_result_id is not null and b.ended_at is null) = {'true' if filter.problems else 'false'}")
    query.between("r.measured_at", filter.since, filter.until)
    tail = query.page(filter.page, "r.created_at", "r.id")
    if filter.ids or filter.message_ids:  # few: not to be looked for along the order of the page
        tail = tail.replace("order by r.created_at", "order by r.created_at + interval '0'", 1)
    text = _CONTROLS.format(steps="null::text as steps")
    return [_control(row) for row in await connection.fetch(f"{text} {query.conditions} {tail}", *query.values)]


async def read_control(connection: Connection, id: UUID) -> ControlView | None:
    """One with its explanation and with what was said of it."""
    row = await connection.fetchrow(f"{_CONTROLS.format(steps='p.steps::text as steps')} r.id = $1", id)
    if row is None:
        return None
    remarks = await connection.fetch(
        """select id, kind, text, created_at as at, actor_name as by from lab.qc_action where qc_result_id = $1
           order by created_at, id""",
        id,
    )
    return _control(row, tuple(RemarkView(**dict(one.items())) for one in remarks))


def _control(row: Record, remarks: tuple[RemarkView, ...] = ()) -> ControlView:
    problem = None
    if row["problem"] is not None:
        problem = ProblemView(
            row["problem"], row["problem_text"], row["problem_at"], row["ended_at"], row["ended_by_name"],
            row["end_reason"],
        )  # fmt: skip
    return ControlView(
        row["id"], row["analyzer_id"], row["analyzer"], row["module"], row["role"], row["origin"], row["test_id"],
        row["test"], row["test_name"], row["code"], row["specimen_as_sent"], row["lot_as_sent"], row["level_as_sent"],
        row["value"], row["raw_value"], row["raw_flags"], row["sent_unit"], row["instrument_time"], row["measured_at"],
        row["created_at"], row["message_id"], row["location"], row["reagent_lot"], row["calibrator_lot"],
        row["comment"], row["by_name"], problem, _point(row) if row["point_id"] else None, remarks,
    )  # fmt: skip


def _point(row: Record) -> PointView:
    return PointView(
        row["material"], row["lot_id"], row["lot"], row["level"], row["level_number"], row["target_id"], row["mean"],
        row["sd"], row["target_unit"], row["number"], row["unit"], row["z"], QcVerdict(row["verdict"]),
        tuple(row["rules"]), tuple(row["insufficient"]), row["run_id"], row["point_reagent_lot"],
        row["point_calibrator_lot"], row["judged_at"], row["excluded_at"], row["excluded_by_name"],
        row["exclude_reason"], tuple(read_steps(row["steps"])) if row["steps"] else (),
    )  # fmt: skip
