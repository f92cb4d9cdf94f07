"""Patients: added, changed, found to be the same person, and found not to be.

A merge says that two records are one person: the prior is not used any more, whoever names it means the survivor, and
what is asked of the survivor is answered from both. No row is re-pointed, so that a merge can be taken back: what was
of the prior is of the prior again, and what was made on the survivor since stays with it.

Everything happens in the caller's transaction, with its audit row; what was there before stands in that row. Raises
OrderError for what is wrong with a patient, ApiError 403, 404, 409 and 422 for a step that is not allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from interface.domain import merges
from interface.domain.duplicates import SHOWN, Demographics, compare, near_dates
from interface.domain.model import Sex
from interface.domain.names import index_words
from interface.domain.permissions import Permission, allows
from interface.domain.views import Actor, ActorKind, IdentifierView, PatientView, UnmergedView
from interface.errors import ApiError
from interface.flow import recalculation
from interface.flow.actors import require
from interface.flow.problems import OrderError, identifier_problems, instant_problems, reason_of, text_problems
from interface.store import audit, lab_changes, patients, people, specimens
from interface.store.db import Connection
from interface.store.look_again import compared_with_others, ordered_since
from interface.store.patients import PatientFilter
from interface.store.people import PatientRow
from interface.store.query import Page
from interface.store.reports import merge_taken_back

CLEARABLE: Final = frozenset({"birth_date", "birth_at"})
_FIRST_ZONE = timedelta(hours=14)  # where a day begins first: who is born there in its morning is born tomorrow in UTC


@dataclass(frozen=True, slots=True)
class NewPatient:
    """A patient with at least an identifier or a family name.

    `birth_at`: where the hour of birth is known; its day, in its own zone, is `birth_date`.
    """

    identifiers: tuple[IdentifierView, ...] = ()
    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    birth_at: datetime | None = None

    @property
    def born(self) -> date | None:
        return self.birth_date or (self.birth_at.date() if self.birth_at else None)


@dataclass(frozen=True, slots=True)
class PatientChange:
    """What is to be said of a patient from now on; None leaves it. `cleared`: what is not known any more."""

    family: str | None = None
    given: str | None = None
    birth_date: date | None = None
    birth_at: datetime | None = None
    sex: Sex | None = None
    active: bool | None = None
    cleared: frozenset[str] = frozenset()  # of CLEARABLE

    @property
    def of_person(self) -> bool:
        """Whether it is about sex or age, of which results are calculated."""
        return self.sex is not None or self.birth_date is not None or self.birth_at is not None or bool(self.cleared)


async def create_patient(connection: Connection, actor: Actor, patient: NewPatient) -> PatientView:
    """Add a patient. Raises OrderError, also when one of the identifiers is already a patient's."""
    _may(actor)
    if problems := patient_problems(patient):
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)  # two at once must not make the patient twice
    if await people.find_by_identifiers(connection, patient.identifiers):
        raise OrderError(["a patient with one of these identifiers exists already"], conflict=True)
    return await _view(connection, await insert_patient(connection, actor, patient))


async def update_patient(
    connection: Connection, actor: Actor, patient_id: UUID, change: PatientChange, version: int
) -> PatientView:
    """Change what is said of a patient; `version` is the one the change was made from."""
    _may(actor)
    calculated = await recalculation.lock(connection, [patient_id]) if change.of_person else []
    row = await _locked(connection, patient_id, version)
    born_at = None if "birth_at" in change.cleared else change.birth_at or row.birth_at
    born = None if "birth_date" in change.cleared else change.birth_date or row.birth_date
    if change.birth_at is not None and change.birth_date is None:
        born = change.birth_at.date()
    new = replace(
        row,
        family=row.family if change.family is None else change.family.strip(),
        given=row.given if change.given is None else change.given.strip(),
        birth_date=born,
        birth_at=born_at,
        sex=change.sex or row.sex,
        active=row.active if change.active is None else change.active,
    )
    carried = (await people.identifiers(connection, [row.id])).get(row.id, ())
    problems = patient_problems(NewPatient(carried, new.family, new.given, new.birth_date, new.sex, change.birth_at))
    if born_at and (born is None or abs((born_at.astimezone(UTC).date() - born).days) > 1):
        problems.append("the birth date is not the day of the time of birth")
    if problems:
        raise OrderError(list(dict.fromkeys(problems)))
    if new == row:
        return await _again(connection, actor, row.id, "update")
    await people.update_patient(connection, actor.organization_id, new)
    await audit.record(connection, actor, "update", "patient", row.id, _difference(row, new))
    await recalculation.of_specimens(connection, actor, calculated, "its patient was changed")
    return await _view(connection, row.id)


async def add_identifier(
    connection: Connection, actor: Actor, patient_id: UUID, identifier: IdentifierView
) -> PatientView:
    """Give a patient one more identifier. One that another patient carries is refused: end it there first."""
    _may(actor)
    if problems := list(identifier_problems("patient", [identifier])):
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)  # before the patient, as whoever orders does
    row = await _locked(connection, patient_id)
    if carriers := await people.find_by_identifiers(connection, [identifier]):
        if carriers[0].id == row.id:
            return await _again(connection, actor, row.id, "add_identifier")
        raise OrderError(["the identifier is another patient's"], conflict=True)
    await people.add_identifiers(connection, actor.organization_id, row.id, [identifier])
    await people.touch(connection, [row.id])
    await audit.record(connection, actor, "add_identifier", "patient", row.id, _words(identifier))
    return await _view(connection, row.id)


async def end_identifier(
    connection: Connection, actor: Actor, patient_id: UUID, authority: str, value: str, reason: str
) -> PatientView:
    """From now on the identifier finds nobody, and may be given to another patient. The last word of one without a
    name is not taken away."""
    _may(actor)
    reason = reason_of(reason)
    row = await _locked(connection, patient_id)
    if not await people.end_identifier(connection, row.id, authority, value):
        raise ApiError(404, "not-found", "the patient does not carry this identifier")
    if not row.family.strip() and not (await people.identifiers(connection, [row.id])).get(row.id):
        raise OrderError(["a patient needs an identifier or a family name"], conflict=True)
    await people.touch(connection, [row.id])
    ended = {**_words(IdentifierView(authority, value)), "reason": reason}
    await audit.record(connection, actor, "end_identifier", "patient", row.id, ended)
    return await _view(connection, row.id)


# ---- merges ----------------------------------------------------------------------------------------------------------


async def merge(
    connection: Connection,
    actor: Actor,
    prior_id: UUID,
    survivor_id: UUID,
    reason: str,
    accept_differences: bool = False,
) -> PatientView:
    """Say that the prior is the survivor; returns the survivor. Repeated, it is answered with the survivor again.

    `accept_differences`: also when both have a birth date or a sex and they differ. Those that were merged into the
    prior come with it.
    """
    if actor.kind is not ActorKind.LINK:  # a hospital's, which says whose number is whose (IHE PAM)
        require(actor, Permission.PATIENT_MERGE)
    reason = reason_of(reason)
    if prior_id == survivor_id:
        raise ApiError(422, "value", "a patient is not merged into itself")
    await people.lock_merging(connection, actor.organization_id)
    calculated = await recalculation.lock(connection, [prior_id, survivor_id])
    known = await people.persons(connection, [prior_id, survivor_id])
    rows = await people.find_rows(connection, {id for ids in known.values() for id in ids}, lock=True)
    by_id = {row.id: row for row in rows}
    if prior_id not in by_id or survivor_id not in by_id:
        raise ApiError(404, "not-found", "there is no patient of this id")
    prior, survivor = by_id[prior_id], by_id[survivor_id]
    parents = {edge.prior: edge.survivor for edge in await people.edges(connection, by_id)}
    if parents.get(prior_id) == survivor_id:
        return await _again(connection, actor, survivor.survivor, "merge")
    for row in (survivor, prior):
        if row.merged_into is not None:
            raise ApiError(
                409, "conflict", f"patient {row.id} has been merged into {row.merged_into}; merge that one, or unmerge"
            )
    if (differing := differences(prior, survivor)) and not accept_differences:
        raise ApiError(
            409,
            "conflict",
            f"the patients differ in {' and '.join(differing)}; say that they are the same nevertheless",
        )
    await people.write_merge(connection, actor, prior_id, survivor_id, reason)
    await _follow(connection, {**parents, prior_id: survivor_id}, rows)
    await people.touch(connection, [survivor_id])
    told = {"survivor": str(survivor_id), "reason": reason, "differ": ", ".join(differing)}
    await audit.record(connection, actor, "merge", "patient", prior_id, told)
    await audit.record(connection, actor, "merge", "patient", survivor_id, {"prior": str(prior_id), "reason": reason})
    await recalculation.of_specimens(connection, actor, calculated, "its patient was merged")
    return await _view(connection, survivor_id)


async def unmerge(connection: Connection, actor: Actor, prior_id: UUID, reason: str) -> UnmergedView:
    """Take back the merge of this patient into another; returns the patient, in use again, with those results of both
    that were compared with the other's meanwhile, and the orders that were placed then, which are the survivor's: a
    person looks at them again.

    Those that had been merged into it before are with it again.
    """
    require(actor, Permission.PATIENT_MERGE)
    reason = reason_of(reason)
    await people.lock_merging(connection, actor.organization_id)
    calculated = await recalculation.lock(connection, [prior_id])
    known = (await people.persons(connection, [prior_id])).get(prior_id, ())
    rows = await people.find_rows(connection, known, lock=True)
    if not rows:
        raise ApiError(404, "not-found", "there is no patient of this id")
    found = await people.edges(connection, known)
    edge = next((edge for edge in found if edge.prior == prior_id), None)
    if edge is None:
        raise ApiError(409, "conflict", "the patient has not been merged into another")
    survivor_id = next(row.survivor for row in rows if row.id == prior_id)
    await people.write_merge(connection, actor, prior_id, edge.survivor, reason, edge.id)
    await _follow(connection, {one.prior: one.survivor for one in found if one != edge}, rows)
    await people.touch(connection, [survivor_id])
    await recalculation.of_specimens(connection, actor, calculated, "the merge of its patient was taken back")
    # Their reports are others now: whoever was given one is told, as of every change of an order.
    await specimens.touch_orders(connection, await merge_taken_back(connection, actor.organization_id, known))
    persons = {id: records[0] for id, records in (await people.persons(connection, known)).items()}
    look = await compared_with_others(connection, persons)
    own = {id for id, person in persons.items() if person == persons[prior_id]}
    meanwhile = await ordered_since(connection, edge.id, [id for id in persons if id not in own], own)
    again = {"look_again": " ".join(dict.fromkeys(str(one.result_id) for one in look))} if look else {}
    again |= {"ordered_meanwhile": " ".join(str(one.order_id) for one in meanwhile)} if meanwhile else {}
    told = {"survivor": str(edge.survivor), "reason": reason, **again}
    await audit.record(connection, actor, "unmerge", "patient", prior_id, told)
    told = {"prior": str(prior_id), "reason": reason, **again}
    await audit.record(connection, actor, "unmerge", "patient", edge.survivor, told)
    view = await _view(connection, prior_id)
    of_patient = {field.name: getattr(view, field.name) for field in fields(view)}
    return UnmergedView(**of_patient, look_again=look, ordered_meanwhile=meanwhile)


async def turn_round(connection: Connection, actor: Actor, patient_id: UUID, reason: str) -> None:
    """The record is the one in use from now on: the one that it was merged into is merged into it. It is one person as
    before; whoever says whose number is whose goes on with this one, and of the other nothing more is said."""
    await people.lock_merging(connection, actor.organization_id)
    calculated = await recalculation.lock(connection, [patient_id])
    known = (await people.persons(connection, [patient_id])).get(patient_id, ())
    rows = await people.find_rows(connection, known, lock=True)
    found = await people.edges(connection, known)
    edge = next(edge for edge in found if edge.prior == patient_id)
    before = next(row.survivor for row in rows if row.id == patient_id)
    await people.write_merge(connection, actor, patient_id, edge.survivor, reason, edge.id)
    await people.write_merge(connection, actor, before, patient_id, reason)
    await _follow(connection, {one.prior: one.survivor for one in found if one != edge} | {before: patient_id}, rows)
    told = {"survivor": str(patient_id), "reason": reason}
    await audit.record(connection, actor, "merge", "patient", before, told)
    told = {"prior": str(before), "reason": reason}
    await audit.record(connection, actor, "merge", "patient", patient_id, told)
    await recalculation.of_specimens(connection, actor, calculated, "its patient was merged")


async def _follow(connection: Connection, parents: Mapping[UUID, UUID], rows: Iterable[PatientRow]) -> None:
    """Point the records to the survivors that the merges in force make; only those that change."""
    before = {row.id: row.merged_into for row in rows}
    after = merges.survivors(parents, before)
    await people.point(connection, {id: survivor for id, survivor in after.items() if survivor != before[id]})


def differences(one: PatientRow, other: PatientRow) -> list[str]:
    """In what two records contradict each other: of birth date and sex, what both know."""
    found = []
    if one.birth_date and other.birth_date and one.birth_date != other.birth_date:
        found.append("birth date")
    if Sex.UNKNOWN not in (one.sex, other.sex) and one.sex is not other.sex:
        found.append("sex")
    return found


# ---- the patient of an order -----------------------------------------------------------------------------------------


async def patient_of(connection: Connection, patient_id: UUID) -> UUID:
    """The patient that an order names by id: where it was merged into another, that one.

    The caller has kept merges out (`people.lock_merging`).
    """
    rows = await people.find_rows(connection, [patient_id])
    if not rows:
        raise OrderError(["there is no patient with this id"])
    return rows[0].survivor


async def find_patient(connection: Connection, patient: NewPatient) -> UUID | None:
    """The patient of these identifiers, None when nobody carries them. A name may have changed; another birth date or
    sex, than that of every record of the person, is another person's."""
    carriers = await people.find_by_identifiers(connection, patient.identifiers)
    found = {row.survivor for row in carriers}
    if len(found) > 1:
        raise OrderError(["the patient identifiers belong to different patients"], conflict=True)
    if not found:
        return None
    records = await people.find_rows(connection, {row.id for row in carriers} | found)
    dates = {row.birth_date for row in records}
    sexes = {row.sex for row in records}
    if patient.born and None not in dates and patient.born not in dates:
        raise OrderError(["the patient identifier belongs to a patient with another birth date"], conflict=True)
    if patient.sex is not Sex.UNKNOWN and Sex.UNKNOWN not in sexes and patient.sex not in sexes:
        raise OrderError(["the patient identifier belongs to a patient of another sex"], conflict=True)
    survivor = found.pop()
    await sure_of(connection, survivor, patient)
    return survivor


# HL7 table 0203, of numbers that a person has one of at a time: at a facility, of the state; "": nobody says. Others
# come anew with each visit or insurance, such as VN, AN, MB.
_OF_A_FACILITY = frozenset({"MR", "PI", "PT"})
_OF_A_PERSON = _OF_A_FACILITY | {"", "SS", "NI"}


async def sure_of(
    connection: Connection, survivor: UUID, said: NewPatient, also: Iterable[IdentifierView] = ()
) -> None:
    """Raise OrderError where one of the numbers leads to this person and another says that it is somebody else.

    A family shares an insurance's number: who is found by it, and has another number of the hospital's than the one
    that is said, is the mother or the twin. Whoever was registered twice, or is insured otherwise now, has the same
    given name and birth date; one of the two, where a facility's own number leads to them: a newborn is named and given
    the state's number, and a mistyped one has the birth date in it. `also`: numbers that are the person's by what is
    said, such as the prior of a merge.
    """
    if len(said.identifiers) < 2:
        return
    carried = (await people.identifiers(connection, [survivor])).get(survivor, ())
    numbers = [*said.identifiers, *also]
    told = {(one.authority, one.value) for one in numbers}
    for one in (one for one in said.identifiers if one.type in _OF_A_PERSON):
        same = [each for each in carried if each.authority == one.authority]
        same = [each for each in same if not (each.type and one.type) or each.type == one.type]
        if same and not any((each.authority, each.value) in told for each in same):
            break
    else:
        return
    records = await people.find_rows(connection, (await people.persons(connection, [survivor])).get(survivor, ()))
    known = {(one.authority, one.value) for one in carried}
    own = any(one.type in _OF_A_FACILITY and (one.authority, one.value) in known for one in said.identifiers)
    if not any(_agree(row, said, own) for row in records):
        text = "one of the patient numbers leads to a patient who has another number of the same authority"
        raise OrderError([text], conflict=True)


def _agree(row: PatientRow, said: NewPatient, one_of_them: bool) -> bool:
    """Whether given name and birth date are the same, as far as both know them, or one is: one of them at least."""
    known, told = index_words(row.given), index_words(said.given)
    given = bool(known & told) if known and told else None
    born = row.birth_date == said.born if row.birth_date and said.born else None
    return bool(given or born) and (one_of_them or False not in (given, born))


async def find_or_create(connection: Connection, actor: Actor, patient: NewPatient) -> tuple[UUID, bool]:
    """The patient of these identifiers, or a new one; whether it is new. Raises OrderError, also for one who is not
    active any more."""
    _may(actor)
    if problems := patient_problems(patient):
        raise OrderError(problems)
    await lab_changes.lock_orders(connection, actor.organization_id)  # two at once must not make the patient twice
    await people.lock_merging(connection, actor.organization_id, share=True)
    if found := await find_patient(connection, patient):
        await audit.record(connection, actor, "read", "patient", found, {"by": "create patient"})
        return await in_use(connection, found), False
    return await insert_patient(connection, actor, patient), True


async def in_use(connection: Connection, patient_id: UUID) -> UUID:
    """The patient, unless nothing may be ordered for it any more."""
    [row] = await people.find_rows(connection, [patient_id])
    if not row.active:
        raise OrderError(["the patient is not active any more"], conflict=True)
    return patient_id


async def insert_patient(connection: Connection, actor: Actor, patient: NewPatient) -> UUID:
    """Write a patient without problems whose identifiers nobody carries. Raises ApiError 403 for a client that may not:
    who may order is asked at the API, and whether an order makes somebody is known only here."""
    if actor.kind is ActorKind.CLIENT and not allows(actor.scopes, "Patient", "c"):
        raise ApiError(403, "forbidden", "the patient is not known here; who adds one needs the scope system/Patient.c")
    patient_id = await people.insert_patient(
        connection,
        actor.organization_id,
        patient.family.strip(),
        patient.given.strip(),
        patient.born,
        patient.sex,
        patient.identifiers,
        patient.birth_at,
    )
    await audit.record(connection, actor, "create", "patient", patient_id)
    return patient_id


# ---- what is wrong with it -------------------------------------------------------------------------------------------


def patient_problems(patient: NewPatient) -> list[str]:
    problems: list[str] = []
    if not patient.identifiers and not patient.family.strip():
        problems.append("a patient needs an identifier or a family name")
    problems += identifier_problems("patient", patient.identifiers)
    for name, text in (("family name", patient.family), ("given name", patient.given)):
        problems += text_problems(name, text)
    if patient.birth_date is not None and patient.birth_date > (datetime.now(UTC) + _FIRST_ZONE).date():
        problems.append("the birth date is in the future")
    if patient.birth_at is not None:
        problems += instant_problems("the time of birth", patient.birth_at)
        if patient.birth_date not in (None, patient.birth_at.date()):
            problems.append("the birth date is not the day of the time of birth")
        if patient.birth_at.tzinfo is not None and patient.birth_at > datetime.now(UTC):
            problems.append("the time of birth is in the future")
    return problems


def _may(actor: Actor) -> None:
    """What a client may do is decided by its scopes, at the API."""
    if actor.kind is ActorKind.USER:
        require(actor, Permission.PATIENT_WRITE)


# ---- parts -----------------------------------------------------------------------------------------------------------


async def _locked(connection: Connection, patient_id: UUID, version: int | None = None) -> PatientRow:
    rows = await people.find_rows(connection, [patient_id], lock=True)
    if not rows:
        raise ApiError(404, "not-found", "there is no patient of this id")
    [row] = rows
    if row.merged_into is not None:
        raise ApiError(409, "conflict", f"the patient has been merged into {row.merged_into}; change that one")
    if version is not None and version != row.version:
        raise ApiError(409, "conflict", f"the patient has been changed: it is at version {row.version} now")
    return row


async def _again(connection: Connection, actor: Actor, patient_id: UUID, action: str) -> PatientView:
    """What is so already: nothing changes, but it is read."""
    await audit.record(connection, actor, "read", "patient", patient_id, {"by": action})
    return await _view(connection, patient_id)


async def _view(connection: Connection, patient_id: UUID) -> PatientView:
    view = await patients.get_patient(connection, patient_id)
    if view is None:
        raise ApiError(404, "not-found", "there is no patient of this id")
    return view


def _difference(before: PatientRow, after: PatientRow) -> dict[str, str]:
    """What changed, as `old → new`: nothing that was said of a patient is lost."""
    changed = {}
    for name in ("family", "given", "birth_date", "birth_at", "sex", "active"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            changed[name] = f"{'' if old is None else old} → {'' if new is None else new}"
    return changed


def _words(identifier: IdentifierView) -> dict[str, str]:
    return {"authority": identifier.authority, "value": identifier.value, "type": identifier.type}


# ---- who may be the same ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A record that may be of the same person, and why."""

    patient: PatientView
    score: int
    likely: bool
    reasons: tuple[str, ...]


async def duplicates(
    connection: Connection, of: Demographics, apart_from: Iterable[UUID] = (), limit: int = 20
) -> list[Duplicate]:
    """The patients that may be this person, the likeliest first. Nothing is changed.

    `apart_from`: the records of the person itself.
    """
    found = await people.candidates(
        connection,
        near_dates(of.birth_date) if of.birth_date else (),
        index_words(of.family) | index_words(of.given),
        index_words(of.family),
        [identifier.value for identifier in of.identifiers],
        apart_from,
    )
    wanted = PatientFilter(ids=tuple(found), page=Page(limit=people.MOST_CANDIDATES))
    views = await patients.find_patients(connection, wanted) if found else []
    alike = [(compare(of, demographics(view)), view) for view in views]
    alike = sorted((one for one in alike if one[0].score >= SHOWN), key=lambda one: (-one[0].score, one[1].id))
    return [Duplicate(view, like.score, like.likely, like.reasons) for like, view in alike[:limit]]


async def duplicates_of(connection: Connection, patient_id: UUID, limit: int = 20) -> list[Duplicate]:
    """The patients that may be the same person as this one; of one that was merged, as the survivor."""
    known = (await people.persons(connection, [patient_id])).get(patient_id, ())
    if not known:
        raise ApiError(404, "not-found", "there is no patient of this id")
    view = await _view(connection, known[0])
    return await duplicates(connection, demographics(view), known, limit)


def demographics(of: PatientView | NewPatient) -> Demographics:
    born = of.born if isinstance(of, NewPatient) else of.birth_date
    return Demographics(of.family, of.given, born, of.sex, of.identifiers)
