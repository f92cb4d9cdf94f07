"""Reports of orders: versions of what an EMR may see, and their pages. API, FHIR and command line share it.

A version is made when what an EMR may see of the order has changed: by `flow.report_watch` soon after, or by whoever
reads the report before that. So whatever was given out is a version, and stays as it was given out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from interface.domain.model import RELEASED, ItemStatus, ResultStatus
from interface.domain.report import (
    Earlier,
    Former,
    Header,
    Language,
    Line,
    Number,
    Open,
    OrderReport,
    Paper,
    Person,
    ReportDocument,
    ReportSettings,
    StoredReport,
    Tube,
)
from interface.domain.views import Actor, ActorKind, Audience, PatientView, ResultView
from interface.errors import ApiError
from interface.flow.changes import record_change, refuse, same_version
from interface.flow.printing import Printer
from interface.render import report_json
from interface.render.fhir import report_status
from interface.store import actors, patients
from interface.store import reports as rows
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from interface.store.reports import Attached as Attached
from interface.store.reports import FileRow, Material
from interface.store.specimens import touch_orders

MEDIA_TYPE = "application/pdf"
MOST_LETTERS = 400  # of a text above the reports
_NO_REPORT = "there is no report of this order, or none of this version"


# ---- reading --------------------------------------------------------------------------------------------------------


async def pdf_of(
    connection: Connection,
    order_id: UUID,
    audience: Audience,
    version: int | None = None,
    paper: Paper | None = None,
    language: Language | None = None,
) -> ReportDocument:
    """A version of an order's report as PDF; without `version` the one that says what its records say now.

    In its own form, that of the organization's settings when it was made, unless `paper` or `language` asks otherwise.
    Staff too see what an EMR sees: a report is what was reported. Held results are in none. Raises ApiError 404.
    """
    found = await version_of(connection, order_id, audience, version)
    return await document(connection, found, paper, language)


async def version_of(
    connection: Connection, order_id: UUID, audience: Audience, version: int | None = None
) -> StoredReport:
    """As `pdf_of`, without its pages."""
    seen = _seen_by(audience)
    found = await (current(connection, order_id, seen) if version is None
                   else rows.get_version(connection, order_id, seen, version))  # fmt: skip
    if found is None:
        raise ApiError(404, "not-found", _NO_REPORT)
    return found


async def versions(connection: Connection, order_id: UUID, audience: Audience) -> list[StoredReport]:
    """Every version, the current one last. Raises ApiError 404 where there is none."""
    seen = _seen_by(audience)
    if await current(connection, order_id, seen) is None:
        raise ApiError(404, "not-found", _NO_REPORT)
    return await rows.versions(connection, order_id, seen)


async def binary_of(connection: Connection, report_id: UUID, audience: Audience) -> ReportDocument | None:
    """The version of this id in its own form, which `attached` refers to; None when the audience may see none."""
    found = await rows.find_version(connection, report_id, _seen_by(audience))
    return await document(connection, found) if found is not None else None


async def versions_of(connection: Connection, id: UUID, audience: Audience) -> list[StoredReport]:
    """What a Binary of this id is and was, newest first: that version alone where it is one's, else the order's; none
    where the audience may see none."""
    found = await rows.find_version(connection, id, _seen_by(audience))
    if found is not None:
        return [found]
    if await current(connection, id, seen := _seen_by(audience)) is None:
        return []
    return list(reversed(await rows.versions(connection, id, seen)))


async def attached(connection: Connection, order_ids: Sequence[UUID], audience: Audience) -> dict[UUID, Attached]:
    """What DiagnosticReports say of their PDF, from rows alone: nothing is made or printed. An order of which the last
    version says something else than its records do now is left out until the next is made.

    What changed where the audience does not see it, such as a change to a released result that waits, leaves all as it
    was: who looks must not learn of it.
    """
    seen = _seen_by(audience)
    found = await rows.attached(connection, order_ids, seen)
    return {id: one for id, one in found.items() if not one.due or await _still_says(connection, id, seen, one.digest)}


async def _still_says(connection: Connection, order_id: UUID, audience: Audience, digest: bytes) -> bool:
    material = await rows.material(connection, order_id, audience)
    if material is None:
        return False
    content = await _content(connection, material, await rows.get_settings(connection))
    return report_json.digest(content, material.merged) == digest


async def content_of(connection: Connection, report: StoredReport) -> OrderReport:
    return report_json.loads(await rows.content_of(connection, report.id))


async def document(
    connection: Connection, report: StoredReport, paper: Paper | None = None, language: Language | None = None
) -> ReportDocument:
    """The pages of a version: those that were made before, else made now, beside the event loop, and kept."""
    paper, language = paper or report.paper, language or report.language
    content = await content_of(connection, report)
    file = await rows.get_file(connection, report.id, paper, language)
    if file is None:
        file = _file(await asyncio.to_thread(_printed, content, paper, language))
        organization_id = await rows.own_organization(connection)
        await rows.add_file(connection, organization_id, report.id, paper, language, file)
        file = await rows.get_file(connection, report.id, paper, language) or file
    patient_id = await connection.fetchval("select patient_id from lab.lab_order where id = $1", report.order_id)
    return ReportDocument(report, patient_id, content.number, paper, language, file.sha1, file.size, file.body)


async def print_ahead(database: Database, organization_id: UUID, report: StoredReport, printer: Printer) -> None:
    """Print a version in its own form, unless that was done; no connection waits for it. Raises PrintError."""
    async with database.by_index(organization_id) as connection:
        if await rows.get_file(connection, report.id, report.paper, report.language) is not None:
            return
        content = await rows.content_of(connection, report.id)
    file = _file(await printer.pdf(content, report.paper, report.language))
    async with database.by_index(organization_id) as connection:
        await rows.add_file(connection, organization_id, report.id, report.paper, report.language, file)


def _file(body: bytes) -> FileRow:
    return FileRow(hashlib.sha1(body, usedforsecurity=False).digest(), len(body), body)


def _printed(content: OrderReport, paper: Paper, language: Language) -> bytes:
    from interface.render.report_pdf import pdf

    return pdf(content, paper, language)


def _seen_by(audience: Audience) -> Audience:
    return Audience.EMR if audience is Audience.STAFF else audience


# ---- making a version -----------------------------------------------------------------------------------------------


async def current(connection: Connection, order_id: UUID, audience: Audience) -> StoredReport | None:
    """The version that says what the order's records say now, made if need be; None while there is nothing to tell."""
    found = await rows.get_version(connection, order_id, audience)
    if found is not None and not await rows.is_due(connection, order_id, found.version):
        return found
    await refresh(connection, order_id, audience)
    return await rows.get_version(connection, order_id, audience)


async def refresh(
    connection: Connection, order_id: UUID, audience: Audience, now: datetime | None = None
) -> StoredReport | None:
    """Make a version if the order's records say something else than the last; returns it if one was made."""
    async with connection.transaction():
        await rows.lock(connection, order_id)
        due = await rows.due_rows(connection, order_id)
        made = await _add_version(connection, order_id, audience, now or datetime.now(UTC))
        # What changes from here on has a row of its own.
        await rows.looked_at(connection, due)
    return made


async def _add_version(
    connection: Connection, order_id: UUID, audience: Audience, now: datetime
) -> StoredReport | None:
    material = await rows.material(connection, order_id, audience)
    if material is None:
        return None
    settings = await rows.get_settings(connection)
    content = await _content(connection, material, settings)
    last = await rows.last(connection, order_id, audience)
    digest = report_json.digest(content, material.merged)
    if (last is not None and last[0] == digest) or (last is None and content.empty):
        return None
    number = await rows.last_number(connection, order_id) + 1
    content = replace(content, version=number, issued_at=now)
    if last is not None:
        content = replace(content, replaces=last[1], replaces_at=last[2])
    report = StoredReport(
        uuid7(), order_id, number, content.status, now, content.preliminary, settings.paper, settings.language
    )
    organization_id = await rows.own_organization(connection)
    await rows.add_version(connection, organization_id, report, digest, report_json.dumps(content))
    changed_at = material.view.updated_at
    if last is not None and (changed_at <= last[2] or await rows.is_to_come(connection, changed_at)):
        # Nothing of the order has changed since, but its person's name, or a specimen: it is told as another version of
        # the DiagnosticReport, whose PDF is another; who has the one before would be told 304, and keep that. Of a time
        # that is to come, by a clock that was put back since, nobody knows.
        await touch_orders(connection, [order_id], changed_at)
    return report


async def _content(connection: Connection, material: Material, settings: ReportSettings) -> OrderReport:
    order = material.view.order
    person = await patients.get_patient(connection, order.patient_id) if order.patient_id is not None else None
    if person is not None and person.merged_into is not None:  # who it was found to be
        person = await patients.get_patient(connection, person.merged_into) or person
    requester = order.requester
    lines = tuple(_line(material, view) for view in material.view.results)
    return OrderReport(
        header=Header(
            await actors.laboratory_name(connection), settings.address, settings.phone, settings.director,
            settings.accreditation, settings.zone,
        ),
        number=order.number, status=report_status(material.view), priority=order.priority,
        ordered_at=order.ordered_at, person=_person(person) if person is not None else None,
        placer_number=", ".join(material.placers),
        requester=" ".join(filter(None, (requester.given, requester.family))) if requester is not None else "",
        ward=order.ward, history=order.clinical_history,
        tubes=tuple(
            Tube(one.barcode, one.type, one.collected_at, one.received_at, one.rejected, one.time_point_min)
            for one in material.tubes
        ),
        lines=lines, open=_open(material),
    )  # fmt: skip


def _person(view: PatientView) -> Person:
    numbers = tuple(Number(one.authority, one.value, one.type) for one in view.identifiers)
    return Person(view.family, view.given, view.birth_date, view.sex, numbers)


def _line(material: Material, view: ResultView) -> Line:
    made = material.releasers[view.version_id]
    releaser = made if view.status in RELEASED else None
    barcodes = {tube.id: tube.barcode for tube in material.tubes}
    return Line(
        test=view.test_code, name=view.test_name or view.test_code, status=view.status, version=view.version,
        value=_value(view), number=view.number, unit=view.unit, reference=view.reference, low=view.low, high=view.high,
        flags=view.flags, comments=tuple(text for text in (*view.comments, view.note) if text.strip()),
        department=material.departments.get(view.test_code, ""),
        specimen=barcodes.get(view.specimen_id, "") if view.specimen_id is not None else "",
        analyzer=view.analyzer, measured_at=view.instrument_at,
        made_at=made.at,
        released_by=releaser.name if releaser is not None else "",
        by_rules=releaser is not None and releaser.kind == ActorKind.RULE_SET.value,
        verified_by=releaser.verified_by if releaser is not None else "",
        before=tuple(
            Former(_value(one), one.unit, one.status, one.updated_at, one.reference, one.flags)
            for one in material.history.get(view.id, ()) if one.version < view.version  # no later one read meanwhile
        ),
        earlier=tuple(
            Earlier(one.at, _said(one.value, one.comparator), None if one.comparator else one.number)
            for one in material.earlier.get(view.id, ())
        ),
    )  # fmt: skip


def _value(view: ResultView) -> str:
    return _said(view.value, view.comparator.value if view.comparator is not None else "")


def _said(value: str, comparator: str) -> str:
    """As it was reported, with its comparator."""
    return value if value.startswith(comparator) else comparator + value


def _open(material: Material) -> tuple[Open, ...]:
    """Ordered tests without a result that may be seen. Of one that is not finished nothing more is said."""
    answered = {one.order_item_id for one in material.view.results if one.status is not ResultStatus.ENTERED_IN_ERROR}
    ended = (ItemStatus.CANCELLED, ItemStatus.REJECTED)
    found = []
    for item in material.view.order.items:
        if item.id not in answered:
            status = item.status if item.status in ended else ItemStatus.REQUESTED
            cancelled = material.view.order.cancelled and status is ItemStatus.REQUESTED
            status = ItemStatus.CANCELLED if cancelled else status
            department = material.departments.get(item.test_code, "")
            found.append(Open(item.test_code, item.test_name, status, department, item.reason))
    return tuple(found)


# ---- settings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What is given replaces what was there; None leaves it. `version`: the one that was looked at, if any."""

    address: str | None = None
    phone: str | None = None
    director: str | None = None
    accreditation: str | None = None
    zone: str | None = None
    paper: Paper | None = None
    language: Language | None = None
    version: int | None = None


async def get_settings(connection: Connection) -> ReportSettings:
    return await rows.get_settings(connection)


async def change_settings(connection: Connection, actor: Actor, change: SettingsChange) -> ReportSettings:
    """Versions that were made stay as they are. Raises ApiError."""
    before = await rows.get_settings(connection)
    same_version(before.version, change.version)
    names = ("address", "phone", "director", "accreditation", "zone", "paper", "language")
    given = {name: value for name in names if (value := getattr(change, name)) is not None}
    given = {name: " ".join(value.split()) if type(value) is str else value for name, value in given.items()}
    problems = [f"{name} is longer than {MOST_LETTERS} letters" for name, value in given.items()
                if type(value) is str and len(value) > MOST_LETTERS]  # fmt: skip
    if "zone" in given and not _is_zone(given["zone"]):
        problems.append("zone is an IANA name such as Asia/Jakarta")
    refuse(problems)
    after = replace(before, **given, version=before.version + 1)
    await rows.put_settings(connection, actor.organization_id, after)
    await record_change(connection, actor, "report_setting", None, "", "", before, after)
    return after


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return False
    return bool(name)
