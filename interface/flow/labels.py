"""What stands on a specimen's label, put together from its order and patient. API and CLI share it."""

from __future__ import annotations

from uuid import UUID

from interface.domain.model import Priority
from interface.domain.states import CLOSED_ITEM
from interface.domain.views import Audience, OrderView, PatientView, SpecimenView
from interface.flow import specimens
from interface.render.labels import Label
from interface.store import lab, patients, people
from interface.store.db import Connection


async def label_of(connection: Connection, specimen_id: UUID) -> tuple[Label, SpecimenView]:
    """The label and the specimen it is of. Raises OrderError `missing`."""
    one = await specimens.view(connection, specimen_id)
    order = await lab.get_order(connection, one.order_id, Audience.STAFF) if one.order_id else None
    patient = None
    if one.patient_id is not None:
        persons = await people.persons(connection, [one.patient_id])
        patient = await patients.get_patient(connection, persons[one.patient_id][0])
    return _label(one, order, patient), one


def _label(one: SpecimenView, order: OrderView | None, patient: PatientView | None) -> Label:
    urgent = order is not None and order.priority in (Priority.STAT, Priority.ASAP)
    tube = " ".join(part for part in (one.type, one.container, _time_point(one)) if part)
    lines = (*(_person(patient) if patient else ()), " ".join(part for part in (tube, _tests(one, order)) if part))
    return Label(
        one.barcode,
        tuple(line for line in lines if line),
        below=order.number if order else "",
        mark=order.priority.value.upper() if order is not None and urgent else "",
    )


def _person(patient: PatientView) -> tuple[str, str]:
    """Two identifiers at the least: the name, and the birth date or a number (CLSI AUTO12, GP33)."""
    born = patient.birth_date.isoformat() if patient.birth_date else ""
    number = patient.identifiers[0].value if patient.identifiers else ""
    sex = "" if patient.sex.value == "unknown" else patient.sex.value[0].upper()
    name = ", ".join(part for part in (patient.family, patient.given) if part)
    return name, " ".join(part for part in (born, sex, number) if part)


def _time_point(one: SpecimenView) -> str:
    return "" if one.time_point_min is None else f"{one.time_point_min} min"


def _tests(one: SpecimenView, order: OrderView | None) -> str:
    if order is None:
        return ""
    return " ".join(i.test_code for i in order.items if i.specimen_id == one.id and i.status not in CLOSED_ITEM)
