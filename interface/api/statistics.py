"""Reports of the laboratory's own work over REST, as JSON, CSV or PDF: for its staff, never for an EMR."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

from aiohttp import web

from interface.api.bodies import read_body
from interface.api.context import Need, Route, actor_of, json_response, note_read, services
from interface.api.lists import Query, read_query
from interface.api.media import wanted
from interface.api.qc_charts import printed
from interface.domain.permissions import Permission
from interface.domain.report import Paper
from interface.domain.statistics import (
    By,
    Period,
    QcSummary,
    Stage,
    Target,
    TurnaroundReport,
    WorkloadReport,
    qc_summary,
)
from interface.flow import qc_reports, statistics
from interface.render import statistics_table as tables
from interface.store.db import Connection

T = TypeVar("T")
_CSV, _PDF = "text/csv", "application/pdf"
_PERIOD = ("from", "to", "zone", "by", "form", "paper")


class Form(StrEnum):
    JSON = "json"
    CSV = "csv"
    PDF = "pdf"


_FORMS = {"application/json": Form.JSON, _CSV: Form.CSV, _PDF: Form.PDF}
_MEDIA = tuple(_FORMS)
_BY_ACCEPT = {"Vary": "Accept, Authorization"}
_OFFERED = "a report is application/json, text/csv or application/pdf"


@dataclass(frozen=True, slots=True)
class _Asked:
    form: Form
    paper: Paper
    zone: str
    words: str


def _form(request: web.Request, query: Query) -> _Asked:
    """`form` says it; without it Accept does."""
    forms, papers = query.choices("form", Form), query.choices("paper", Paper)
    form = forms[0] if forms else _FORMS[wanted(request, _MEDIA, _OFFERED)]
    return _Asked(form, papers[0] if papers else Paper.A4, query.text("zone"), query.words)


async def _period(
    request: web.Request, kind: str, make: Callable[[Connection, Period, By], Awaitable[T]]
) -> tuple[_Asked, T]:
    query = read_query(request, f"api/reports/{kind}", _PERIOD)
    asked, first, last = _form(request, query), query.day("from"), query.day("to")
    by = (query.choices("by", By) or (By.DEPARTMENT,))[0]
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        period = await statistics.period_of(connection, first, last, asked.zone)
        return asked, await make(connection, period, by)


async def get_workload(request: web.Request) -> web.StreamResponse:
    """How much was done from `from` to `to`, both included, `by` what; as `form` wants it."""
    asked, made = await _period(request, "workload", statistics.workload)
    pages = partial(tables.workload_pdf, made, asked.paper, datetime.now(UTC), actor_of(request).name)
    return await _answer(request, asked, "workload", made, partial(tables.workload_csv, made), pages)


async def get_turnaround(request: web.Request) -> web.StreamResponse:
    """How long it took, stage by stage, for what was released from `from` to `to`, both included, `by` what."""
    asked, made = await _period(request, "turnaround", statistics.turnaround)
    pages = partial(tables.turnaround_pdf, made, asked.paper, datetime.now(UTC), actor_of(request).name)
    return await _answer(request, asked, "turnaround", made, partial(tables.turnaround_csv, made), pages)


async def get_qc(request: web.Request) -> web.StreamResponse:
    """A month's summary of quality control; its PDF is that of `/api/qc/reports`."""
    query = read_query(request, "api/reports/qc", ("month", "form", "paper", "zone"))
    month, asked, actor = (
        query.needed("month", "a summary is of a month, ?month=2026-11"),
        _form(request, query),
        actor_of(request),
    )
    async with services(request).database.transaction(actor.organization_id) as connection:
        named = qc_reports.zone_named(asked.zone) if asked.zone else None
        made = await qc_reports.month(connection, actor, month, zone=named)
    pages = partial(printed, made, asked.paper)
    return await _answer(request, asked, "qc", qc_summary(made), partial(tables.qc_csv, made), pages)


async def _answer(
    request: web.Request, asked: _Asked, kind: str, made: object, csv: Callable[[], str], pdf: Callable[[], bytes]
) -> web.StreamResponse:
    await note_read(request, "read", f"{kind}_report", None, (), {"asked": asked.words})
    if asked.form is Form.JSON:
        return json_response(made, headers=_BY_ACCEPT)
    named = {**_BY_ACCEPT, "Content-Disposition": f'attachment; filename="{kind}.{asked.form}"'}
    if asked.form is Form.CSV:
        return web.Response(text=await asyncio.to_thread(csv), headers=named, content_type=_CSV, charset="utf-8")
    return web.Response(body=await asyncio.to_thread(pdf), headers=named, content_type=_PDF)


# ---- targets --------------------------------------------------------------------------------------------------------


async def get_targets(request: web.Request) -> web.StreamResponse:
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        found = await statistics.targets(connection)
    await note_read(request, "read", "turnaround_target")
    return json_response({"targets": found})


async def put_targets(request: web.Request) -> web.StreamResponse:
    """`targets`, in place of all there are: `stage` and `minutes`, of `test`, `department` and `priority` if given."""
    body = await read_body(request)
    body.required("targets")
    new = [
        Target(
            one.choice("stage", Stage, Stage.RECEIVED_RELEASED), one.number("minutes") or 0, one.text("test", ""),
            one.text("department", ""), one.text("priority", ""),
        )
        for one in body.objects("targets")
    ]  # fmt: skip
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        after = await statistics.put_targets(connection, actor, new)
    return json_response({"targets": after})


_P = Permission
_TARGETS = {"targets": [Target]}
ROUTES = (
    Route("GET", "/api/reports/workload", get_workload, Need(_P.RESULT_READ), gives=WorkloadReport, media=_MEDIA),
    Route("GET", "/api/reports/turnaround/targets", get_targets, Need(_P.RESULT_READ), gives=_TARGETS),
    Route("PUT", "/api/reports/turnaround/targets", put_targets, Need(_P.CATALOGUE_WRITE), gives=_TARGETS),
    Route("GET", "/api/reports/turnaround", get_turnaround, Need(_P.RESULT_READ), gives=TurnaroundReport, media=_MEDIA),
    Route("GET", "/api/reports/qc", get_qc, Need(_P.QC_READ), gives=QcSummary, media=_MEDIA),
)
