"""Patients as the hospital says: found by number and authority, added, changed, merged.

What a hospital says of a person is the truth here, unlike an analyzer's idea of one, and every change of it is audited.
Where the person lies now is said by the orders of which something is still to be reported.
A number that was merged into another leads to the survivor; what a message under it says of the person is of the record
that is used no more, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from uuid import UUID

from interface.domain.model import Sex
from interface.domain.names import words
from interface.domain.views import Actor, Audience, IdentifierView
from interface.driver.orders import Event, Fault, PatientEvent, PatientMessage, Person
from interface.flow import recalculation
from interface.flow.people import (
    NewPatient,
    PatientChange,
    add_identifier,
    in_use,
    insert_patient,
    merge,
    patient_problems,
    sure_of,
    turn_round,
    update_patient,
)
from interface.flow.problems import OrderError, text_problems
from interface.store import audit, lab, lab_changes, order_changes, people, placing
from interface.store.db import Connection
from interface.store.people import PatientRow

UNKNOWN_KEY, APPLICATION = 204, 207  # HL7 table 0357


async def take(connection: Connection, actor: Actor, said: PatientMessage, message_id: UUID) -> list[Fault]:
    """ADT: what is to be told with a positive answer. Raises OrderError, ApiError: nothing of it is done."""
    await lab_changes.lock_orders(connection, actor.organization_id)  # two at once must not make a patient twice
    merged = said.event is Event.MERGED
    await people.lock_merging(connection, actor.organization_id, share=not merged)
    if merged or len(said.patients) > 1:  # what is calculated of all of them, then their records, in everybody's order
        numbers = [number for one in said.patients for number in (*one.person.identifiers, *one.prior)]
        found = await people.find_by_identifiers(connection, numbers)
        await recalculation.lock(connection, {row.survivor for row in found})
    warnings: list[Fault] = []
    for one in said.patients:
        if merged:
            warnings += await _merge(connection, actor, one, message_id)
        elif said.event is Event.SAID:
            warnings += (await _said(connection, actor, one.person))[1]
        if one.ward:
            warnings += await _moved(connection, actor, one)
    return warnings


async def ordered_for(connection: Connection, actor: Actor, person: Person) -> tuple[UUID, list[Fault]]:
    """The patient of an order, as the order says, and what is to be told of it.

    Raises OrderError where the number leads to somebody who is called otherwise, by family or given name, and was born
    at another time: a typing mistake in one of them is made, in both it is another person, such as the child.
    """
    carriers, survivor = await _find(connection, person)
    if survivor is not None:
        records = await people.find_rows(connection, {row.id for row in carriers} | {survivor})
        if all(_another(person, row) for row in records):
            text = "the patient number belongs to a patient of another name and birth date"
            raise OrderError([text], conflict=True)
    patient_id, warnings = await _said(connection, actor, person)
    return await in_use(connection, patient_id), warnings


async def is_of(connection: Connection, person: Person, order_id: UUID) -> bool:
    """Whether the order is this person's."""
    order = await lab.get_order(connection, order_id, Audience.STAFF)
    _, survivor = await _find(connection, person)
    if order is None or order.patient_id is None or survivor is None:
        return False
    return survivor in (await people.persons(connection, [order.patient_id])).get(order.patient_id, ())


async def _find(connection: Connection, person: Person) -> tuple[list[PatientRow], UUID | None]:
    """Who carries the numbers, and the record to be used for them."""
    carriers = await people.find_by_identifiers(connection, person.identifiers)
    found = {row.survivor for row in carriers}
    if len(found) > 1:
        raise OrderError(["the patient numbers belong to different patients"], conflict=True)
    return carriers, next(iter(found), None)


async def _moved(connection: Connection, actor: Actor, one: PatientEvent) -> list[Fault]:
    """What is still to be told of the patient is told where she is now: to another ward nobody tells a critical result
    in time. Nobody is added by it, and nothing else changed."""
    try:
        if problems := list(text_problems("ward", one.ward)):
            raise OrderError(problems)
        _, survivor = await _find(connection, one.person)
    except OrderError as error:
        return [Fault(one.person.location, UNKNOWN_KEY, f"nobody was moved: {error}", warning=True)]
    if survivor is None:
        return []
    records = await people.find_rows(connection, set((await people.persons(connection, [survivor]))[survivor]))
    if all(_another(one.person, row) for row in records):
        text = "nobody was moved: the patient number belongs to a patient of another name and birth date"
        return [Fault(one.person.location, UNKNOWN_KEY, text, warning=True)]
    for order_id, ward in await order_changes.move(connection, [row.id for row in records], one.ward, one.noted_at):
        await audit.record(connection, actor, "update", "order", order_id, {"ward": f"{ward} → {one.ward}"})
    return []


def _another(person: Person, row: PatientRow) -> bool:
    """Whether the name and the birth date are another's."""
    born = person.birth_date is not None and row.birth_date not in (None, person.birth_date)
    family, given = person.family or "", person.given or ""
    return born and (_other_words(family, row.family) or _other_words(given, row.given))


def _other_words(said: str, known: str) -> bool:
    """Whether the two names have no word in common, nor one that the other begins with: M. for Maria."""
    ours, theirs = words(known), words(said)
    alike = (one.startswith(other) or other.startswith(one) for one in ours for other in theirs)
    return bool(ours and theirs) and not any(alike)


async def _said(
    connection: Connection, actor: Actor, person: Person, prior: Sequence[IdentifierView] = ()
) -> tuple[UUID, list[Fault]]:
    """The patient, added or changed, and what is to be told of it. `prior`: numbers that become the person's."""
    carriers, survivor = await _find(connection, person)
    if survivor is None:
        new = _new(person)
        if problems := patient_problems(new):
            raise OrderError(problems)
        return await insert_patient(connection, actor, new), []
    await sure_of(connection, survivor, _new(person), prior)
    if all(row.id != survivor for row in carriers):
        text = "the number was merged into another; what is said of the patient under it was left out"
        return survivor, [Fault(person.location, UNKNOWN_KEY, text, warning=True)]
    [row] = await people.find_rows(connection, [survivor])
    if _change(person, row).of_person:
        await recalculation.lock(connection, [survivor])  # what is calculated of the person, before its record
    [row] = await people.find_rows(connection, [survivor], lock=True)
    change = _change(person, row)
    if change != PatientChange():
        await update_patient(connection, actor, survivor, change, row.version)
    known = (await people.identifiers(connection, [survivor])).get(survivor, ())
    carried = {(one.authority, one.value) for one in known}
    for identifier in person.identifiers:
        if (identifier.authority, identifier.value) not in carried:
            await add_identifier(connection, actor, survivor, identifier)
    return survivor, []


def _new(person: Person) -> NewPatient:
    return NewPatient(
        person.identifiers, person.family or "", person.given or "", person.birth_date, person.sex or Sex.UNKNOWN,
        person.birth_at,
    )  # fmt: skip


def _change(person: Person, row: PatientRow) -> PatientChange:
    """What the person says and the record does not. A birth date that stays keeps the hour that is known."""
    cleared = {name for name in person.cleared if getattr(row, name) is not None}
    born = person.birth_date if person.birth_date != row.birth_date else None
    if born and row.birth_at is not None and person.birth_at is None:
        cleared.add("birth_at")
    at = person.birth_at if person.birth_at and person.birth_at.astimezone(UTC) != row.birth_at else None
    return PatientChange(
        family=person.family if person.family != row.family else None,
        given=person.given if person.given != row.given else None,
        birth_date=born,
        birth_at=at,
        sex=person.sex if person.sex is not row.sex else None,
        cleared=frozenset(cleared),
    )


# ---- merges ----------------------------------------------------------------------------------------------------------


async def _merge(connection: Connection, actor: Actor, one: PatientEvent, message_id: UUID) -> list[Fault]:
    """The prior number is the person's of PID from now on. A prior that nobody knows becomes a record of its own that
    is merged as well: a later message under that number finds the survivor, and the merge can be taken back. Once a
    person has done so a resend does not undo that."""
    both = {(each.authority, each.value) for each in one.person.identifiers}
    told = tuple(each for each in one.prior if (each.authority, each.value) not in both)
    if not told:
        raise OrderError(["the prior number of the merge is the survivor's"])
    prior = await _prior(connection, told)
    person = await _but_of(connection, one.person, prior)
    if prior is not None and not await placing.said_before(connection, message_id, message_id):
        await _turned(connection, actor, person, prior, told)
    survivor, warnings = await _said(connection, actor, person, one.prior)
    if prior is None:
        prior = await insert_patient(connection, actor, NewPatient(told))
        text = "nobody knew the prior number; it leads to the survivor from now on"
        warnings.append(Fault(one.prior_location, UNKNOWN_KEY, text, warning=True))
    if prior != survivor and await people.was_unmerged(connection, prior, survivor):
        if await placing.said_before(connection, message_id, message_id):
            text = "the merge was taken back in the laboratory since; said anew, by another message, it is made again"
            return [*warnings, Fault(one.prior_location, APPLICATION, text, warning=True)]
    if prior != survivor:
        await merge(connection, actor, prior, survivor, "merged by the hospital", accept_differences=True)
    return warnings


async def _but_of(connection: Connection, person: Person, prior: UUID | None) -> Person:
    """The survivor of a merge without the numbers by which the laboratory has known the prior so far, such as the
    state's: PID-3 has all that are the survivor's from now on, and they lead to it by the merge."""
    found = {row.survivor for row in await people.find_by_identifiers(connection, person.identifiers)}
    if prior not in found or len(found) == 1:
        return person
    own = []
    for each in person.identifiers:
        carriers = await people.find_by_identifiers(connection, [each])
        if all(row.survivor != prior for row in carriers):
            own.append(each)
    return replace(person, identifiers=tuple(own))


async def _turned(
    connection: Connection, actor: Actor, person: Person, prior: UUID, numbers: Sequence[IdentifierView]
) -> None:
    """Where they are one already, but the survivor's record was merged into the prior's, by somebody of the laboratory
    as a rule, it is the other way round from now on: all that the hospital goes on to say is of its survivor, and would
    be left out."""
    carriers = await people.find_by_identifiers(connection, person.identifiers)
    merged = [row for row in carriers if row.merged_into == prior]
    by_number = await people.find_by_identifiers(connection, numbers)
    if merged and len(merged) == len(carriers) and any(row.id == prior for row in by_number):
        await turn_round(connection, actor, merged[0].id, "merged by the hospital")


async def _prior(connection: Connection, identifiers: Sequence[IdentifierView]) -> UUID | None:
    """The record in use behind the prior numbers."""
    found = {row.survivor for row in await people.find_by_identifiers(connection, identifiers)}
    if len(found) > 1:
        raise OrderError(["the prior numbers belong to different patients"], conflict=True)
    return next(iter(found), None)
