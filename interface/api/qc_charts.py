"""Charts and monthly reports of quality control over REST: pictures for whoever may read it. Never patient data."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import tzinfo
from multiprocessing import get_context
from typing import TYPE_CHECKING

from aiohttp import web

from interface.api.context import Need, Route, actor_of, note_read, services
from interface.api.lists import Query, read_query
from interface.api.media import wanted
from interface.domain.permissions import Permission
from interface.domain.qc import Chart
from interface.domain.qc_report import MonthReport
from interface.errors import ApiError
from interface.flow import qc_reports
from interface.render import charts
from interface.render.charts import LEAST_WIDTH, MOST_WIDTH, Look, levey_jennings
from interface.render.json import dumps

if TYPE_CHECKING:
    from interface.render.pdf import Paper

_CHART = ("analyzer", "module", "days", "from", "to", "zone", "width", "together")
_REPORT = ("zone", "paper")
MOST_HERE = 4  # tests of a report that is printed in this process


@dataclass(frozen=True, slots=True)
class _Kind:
    """A form that a chart has."""

    media: str
    make: Callable[[Chart, Look], bytes]


def _svg(chart: Chart, look: Look) -> bytes:
    return charts.svg(chart, look).encode()


def _png(chart: Chart, look: Look) -> bytes:
    from interface.render.png import png

    return png(levey_jennings(chart, replace(look, tips=False)))


def _data(chart: Chart, look: Look) -> bytes:
    return dumps({"chart": chart, "zone": str(look.zone)})


SVG, PNG, DATA = _Kind("image/svg+xml", _svg), _Kind("image/png", _png), _Kind("application/json", _data)
_KINDS = {kind.media: kind for kind in (DATA, SVG, PNG)}
_OFFERED = "a chart is application/json, image/svg+xml or image/png"


async def get_chart(request: web.Request) -> web.StreamResponse:
    """`?analyzer=` and `module=`, `days=` or `from=` and `to=`; as JSON, SVG or PNG, as Accept wants it."""
    return await _chart(request, _KINDS[wanted(request, tuple(_KINDS), _OFFERED)])


async def get_svg(request: web.Request) -> web.StreamResponse:
    return await _chart(request, SVG)


async def get_png(request: web.Request) -> web.StreamResponse:
    return await _chart(request, PNG)


async def get_report(request: web.Request) -> web.StreamResponse:
    """A month's report, such as `2026-11.pdf`; `?paper=letter` for a4."""
    from interface.render.pdf import Paper

    query, month = read_query(request, "api/qc/reports", _REPORT), request.match_info["month"]
    papers = query.choices("paper", Paper)
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        report = await qc_reports.month(connection, actor, month, zone=_zone(query))
    await note_read(request, "print", "qc_report", None, (), {"month": report.month})
    body = await asyncio.to_thread(printed, report, papers[0] if papers else Paper.A4)
    named = {"Content-Disposition": f'inline; filename="quality-control-{report.month}.pdf"'}
    return web.Response(body=body, headers=named, content_type="application/pdf")  # printed now: not to be kept


def printed(report: MonthReport, paper: Paper) -> bytes:
    """A small report here; of more tests, each of which takes 50 ms, in a process of its own that comes after others:
    the links of this one must not wait for it."""
    from interface.render.qc_pdf import pdf

    if sum(not stream.empty for stream in report.streams) <= MOST_HERE:
        return pdf(report, paper)
    with ProcessPoolExecutor(1, get_context("spawn"), _come_after) as apart:
        return apart.submit(pdf, report, paper).result()


def _come_after() -> None:
    with suppress(OSError):  # the sandbox of the service lets nobody's priority be changed
        os.nice(10)


async def _chart(request: web.Request, kind: _Kind) -> web.StreamResponse:
    query, test = read_query(request, "api/qc/charts", _CHART), request.match_info["test"]
    analyzer = query.needed("analyzer", "a chart is of an analyzer: say which, with ?analyzer=")
    width = query.number("width") or Look().width
    if not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise ApiError(400, "value", f"width is a number of pixels from {LEAST_WIDTH} to {MOST_WIDTH}")
    module = query.given("module")  # "" is the analyzer without modules
    days, first, last = query.number("days") or qc_reports.DEFAULT_DAYS, query.day("from"), query.day("to")
    together, asked_zone = query.flag("together"), _zone(query)
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        chart, zone = await qc_reports.chart(
            connection, analyzer, test, module=module, days=days, first=first, last=last, zone=asked_zone,
        )  # fmt: skip
    said = {"analyzer": chart.analyzer, "module": chart.module, "test": chart.test}
    await note_read(request, "read", "qc_chart", None, (), said)
    body = await asyncio.to_thread(kind.make, chart, Look(width, zone, together))
    return _kept(request, body, kind.media)


def _zone(query: Query) -> tzinfo | None:
    name = query.text("zone")
    return qc_reports.zone_named(name) if name else None


def _kept(request: web.Request, body: bytes, media: str) -> web.Response:
    """An answer that a browser may keep for its user and must ask about again: a point may be excluded at any time."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{tag}"', "Vary": "Accept, Authorization"}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type=media, charset=None if media == PNG.media else "utf-8")


_P = Permission
_KEPT = {304: None}
ROUTES = (  # the first that takes a path has it: those with an ending before the one without
    Route("GET", "/api/qc/charts/{test}.svg", get_svg, Need(_P.QC_READ), gives=str, media=SVG.media, also=_KEPT),
    Route("GET", "/api/qc/charts/{test}.png", get_png, Need(_P.QC_READ), gives=bytes, media=PNG.media, also=_KEPT),
    Route(
        "GET",
        "/api/qc/charts/{test}",
        get_chart,
        Need(_P.QC_READ),
        gives=dict[str, object],
        media=tuple(dict.fromkeys(kind.media for kind in _KINDS.values())),
    ),
    Route("GET", "/api/qc/reports/{month}.pdf", get_report, Need(_P.QC_READ), gives=bytes, media="application/pdf"),
    Route("GET", "/api/qc/reports/{month}", get_report, Need(_P.QC_READ), gives=bytes, media="application/pdf"),
)
