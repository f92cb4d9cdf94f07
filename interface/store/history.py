"""Records as they stood: versions of patients, practitioners, specimens, orders, laboratories, analyzers and
subscriptions, and reports of an instant.

Triggers keep each version of these (migrations 0034, 0043); versions of results are kept anyway. A request or a report
as of an instant is the order as it was kept last before, with the versions of its results that the audience may see and
that were made by then. What an audience may not see as it stands now, it does not see as it stood
(`store.lab.visible`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from interface.domain.evidence import DeviceView, LaboratoryView
from interface.domain.model import RELEASED, ItemStatus, Priority, ResultStatus, Sex
from interface.domain.states import SpecimenState
from interface.domain.subscription import Status
from interface.domain.views import (
    Audience,
    IdentifierView,
    OrderItemView,
    OrderView,
    PatientView,
    ProviderView,
    ReportView,
    RequesterView,
    ResultView,
    SpecimenView,
)
from interface.store.db import Connection
from interface.store.lab import results_as_read
from interface.store.placing import known_by

_KEPT = """
select record_id, version, updated_at, body from lab.record_version
where kind = $1 and record_id = $2 order by version desc, updated_at desc
"""


async def _kept(connection: Connection, kind: str, record_id: UUID) -> list[Record]:
    return await connection.fetch(_KEPT, kind, record_id)


def _at(text: str | None) -> datetime | None:
    """None also for what earlier programs took and Python cannot make: "0001-12-31T17:00:00+00:00 BC"."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _day(text: str | None) -> date | None:
    """The first day that there is, which some write where nobody knows it, is stored as minus infinity."""
    if text == "-infinity":
        return date.min
    return date.fromisoformat(text) if text else None


def _id(text: str | None) -> UUID | None:
    return UUID(text) if text else None


def _identifiers(body: dict[str, Any]) -> tuple[IdentifierView, ...]:
    return tuple(IdentifierView(*one) for one in body["identifiers"])


async def patient_versions(connection: Connection, patient_id: UUID) -> list[PatientView]:
    """Every version there was, the newest first."""
    return [_patient(row) for row in await _kept(connection, "patient", patient_id)]


def _patient(row: Record) -> PatientView:
    body = row["body"]
    return PatientView(
        id=row["record_id"],
        version=row["version"],
        updated_at=row["updated_at"],
        identifiers=_identifiers(body),
        family=body["family"],
        given=body["given"],
        birth_date=_day(body["birth_date"]),
        sex=Sex(body["sex"]),
        active=body["active"],
        birth_at=_at(body["birth_at"]),
        merged_into=_id(body["merged_into"]),
        replaces=tuple(map(UUID, body["replaces"])),
    )


async def provider_versions(connection: Connection, provider_id: UUID) -> list[ProviderView]:
    return [
        ProviderView(
            id=row["record_id"],
            version=row["version"],
            updated_at=row["updated_at"],
            identifiers=_identifiers(row["body"]),
            family=row["body"]["family"],
            given=row["body"]["given"],
            role=row["body"]["role"],
            active=row["body"]["active"],
        )
        for row in await _kept(connection, "practitioner", provider_id)
    ]


async def specimen_versions(connection: Connection, specimen_id: UUID) -> list[SpecimenView]:
    """Of one that came with an order; of one that no order knows only the newest, for it was not to be seen before a
    result of it was."""
    views = [_specimen(row) for row in await _kept(connection, "specimen", specimen_id)]
    return views if not views or views[0].order_id is not None else views[:1]


def _specimen(row: Record) -> SpecimenView:
    body = row["body"]
    return SpecimenView(
        id=row["record_id"],
        version=row["version"],
        updated_at=row["updated_at"],
        barcode=body["barcode"],
        type=body["type"],
        status=body["status"],
        patient_id=_id(body["patient_id"]),
        order_id=_id(body["order_id"]),
        collected_at=_at(body["collected_at"]),
        received_at=_at(body["received_at"]),
        reject_reason=body["reject_reason"],
        state=SpecimenState(body["state"]),
        reject_code=body["reject_code"],
        container=body["container"],
        time_point_min=body["time_point_min"],
        parent_id=_id(body["parent_id"]),
        collected_by=body["collected_by"],
        received_by=body["received_by"],
    )


async def laboratory_versions(connection: Connection, organization_id: UUID) -> list[LaboratoryView]:
    return [
        LaboratoryView(row["record_id"], row["body"]["name"], row["body"]["title"], row["version"], row["updated_at"])
        for row in await _kept(connection, "organization", organization_id)
    ]


async def device_versions(connection: Connection, analyzer_id: UUID) -> list[DeviceView]:
    return [
        DeviceView(id=row["record_id"], version=row["version"], updated_at=row["updated_at"], **row["body"])
        for row in await _kept(connection, "analyzer", analyzer_id)
    ]


@dataclass(frozen=True, slots=True)
class SubscriptionPast:
    """A subscription as its client saw it. `headers`: their names, the values are kept nowhere but where they are
    used; `ended`: this version says that it was deleted."""

    id: UUID
    version: int
    updated_at: datetime
    status: Status
    reason: str
    criteria: str
    endpoint: str
    payload: str
    headers: tuple[str, ...]
    ends_at: datetime | None
    error: str
    ended: bool


async def subscription_versions(connection: Connection, subscription_id: UUID) -> list[SubscriptionPast]:
    """Every version, newest first, the present one too."""
    return [_subscription(row) for row in await _kept(connection, "subscription", subscription_id)]


def _subscription(row: Record) -> SubscriptionPast:
    body = row["body"]
    return SubscriptionPast(
        id=row["record_id"],
        version=row["version"],
        updated_at=row["updated_at"],
        status=Status(body["status"]),
        reason=body["reason"],
        criteria=body["criteria"],
        endpoint=body["endpoint"],
        payload=body["payload"],
        headers=tuple(body["headers"]),
        ends_at=_at(body["ends_at"]),
        error=body["error"],
        ended=body["ended"],
    )


# ---- orders, and what was known of them ------------------------------------------------------------------------------


_FIRST = (ResultStatus.FINAL, ResultStatus.ENTERED_IN_ERROR)


@dataclass(frozen=True, slots=True)
class OrderPast:
    """An order's versions, and those of its results that the audience may see; each newest first."""

    orders: tuple[OrderView, ...]
    results: tuple[ResultView, ...]

    def at(self, instant: datetime) -> ReportView | None:
        """The report as of an instant; None before there was one."""
        order = next((one for one in self.orders if one.updated_at <= instant), None)
        if order is None:
            return None
        latest: dict[UUID, ResultView] = {}
        for one in self.results:
            if one.updated_at <= instant:
                latest.setdefault(one.id, one)
        ordered = sorted(latest.values(), key=lambda one: (str(one.order_item_id), one.id))
        answered = {one.order_item_id for one in ordered if one.status in RELEASED}
        items = tuple(_as_answered(item, item.id in answered) for item in order.items)
        return ReportView(replace(order, items=items, updated_at=instant), tuple(ordered), instant)

    def report_instants(self) -> list[datetime]:
        """When the report changed, the last time first."""
        return self._since_placed([one.updated_at for one in self.results])

    def request_instants(self) -> list[datetime]:
        """When the order changed, or something of it was released for the first time or retracted."""
        first = {(one.id, one.version): one.updated_at for one in self.results if one.status in _FIRST}  # oldest last
        return self._since_placed(list(first.values()))

    def _since_placed(self, of_results: list[datetime]) -> list[datetime]:
        of_order = [one.updated_at for one in self.orders]
        return sorted({at for at in (*of_order, *of_results) if of_order and at >= of_order[-1]}, reverse=True)


def _as_answered(item: OrderItemView, answered: bool) -> OrderItemView:
    if item.status in (ItemStatus.CANCELLED, ItemStatus.REJECTED):
        return item
    return replace(item, status=ItemStatus.VERIFIED if answered else ItemStatus.REQUESTED)


async def order_of(connection: Connection, item_id: UUID) -> UUID | None:
    """The order that an item is of."""
    order_id: UUID | None = await connection.fetchval("select order_id from lab.order_item where id = $1", item_id)
    return order_id


async def order_past(connection: Connection, order_id: UUID, audience: Audience) -> OrderPast:
    kept = await _kept(connection, "lab_order", order_id)
    results = await results_as_read(connection, order_id, audience)
    return OrderPast(
        tuple(_order(row) for row in kept),
        tuple(sorted(results, key=lambda one: (one.updated_at, one.version), reverse=True)),
    )


async def order_at_first(connection: Connection, order_id: UUID) -> OrderView | None:
    """As it was placed, or stood when the first of its versions was kept."""
    kept = await _kept(connection, "lab_order", order_id)
    return _order(kept[-1]) if kept else None


def _order(row: Record) -> OrderView:
    body = row["body"]
    return OrderView(
        id=row["record_id"],
        version=row["version"],
        updated_at=row["updated_at"],
        number=body["number"],
        placer_number=body["placer_number"],
        priority=Priority(body["priority"]),
        ordered_at=_at(body["ordered_at"]) or row["updated_at"],
        patient_id=_id(body["patient_id"]),
        clinical_history=body["clinical_history"],
        cancelled=body["cancelled"],
        items=tuple(_items(body["items"])),
        cancel_reason=body["cancel_reason"],
        requester=RequesterView(UUID(body["requester_id"])) if body["requester_id"] else None,
        ward=body["ward"],
        placer_authority=body["placer_authority"],
    )


def _items(rows: Iterable[dict[str, Any]]) -> Iterable[OrderItemView]:
    for row in rows:
        status = ItemStatus(row["status"])
        ended = status in (ItemStatus.CANCELLED, ItemStatus.REJECTED)
        yield OrderItemView(
            id=UUID(row["id"]),
            test_code=row["test_code"],
            test_name=row["test_name"],
            loinc=row["loinc"],
            status=status,
            specimen_id=_id(row["specimen_id"]),
            reason=row["reason"] if ended else "",
            placers=known_by(row.get("placers")),
        )
