"""Patients: `/api/patients`. A client sees and does here what its scopes let it do over FHIR; merging is for staff."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from aiohttp import web

from interface.api.bodies import Body, read_body, version_of
from interface.api.context import Need, Route, actor_of, audience_of, json_response, note_read, services
from interface.api.lists import listing, not_found, path_id, read_query
from interface.api.schema import members
from interface.domain.model import Sex
from interface.domain.permissions import Permission
from interface.domain.times import day_after
from interface.domain.views import Audience, FormerIdentifier, IdentifierView, PatientView, UnmergedView
from interface.errors import ApiError
from interface.flow import people
from interface.store import patients
from interface.store.db import Connection
from interface.store.patients import PatientFilter


def new_patient(body: Body) -> people.NewPatient:
    """The patient a JSON object says, of its own or within an order."""
    patient = people.NewPatient(
        identifiers=identifiers_of(body),
        family=body.text("family", ""),
        given=body.text("given", ""),
        birth_date=body.day("birth_date"),
        sex=body.choice("sex", Sex, Sex.UNKNOWN),
        birth_at=body.instant("birth_at"),
    )
    body.close()
    return patient


def identifiers_of(body: Body) -> tuple[IdentifierView, ...]:
    return tuple(_identifier(entry) for entry in body.objects("identifiers"))


def _identifier(entry: Body) -> IdentifierView:
    identifier = IdentifierView(entry.text("authority", ""), entry.text("value"), entry.text("type", ""))
    entry.close()
    return identifier


async def create_patient(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    new = new_patient(body)
    body.done()
    actor = actor_of(request)
    async with services(request).database.transaction(actor.organization_id) as connection:
        view = await people.create_patient(connection, actor, new)
    return json_response(view, 201, {"Location": f"/api/patients/{view.id}"})


async def list_patients(request: web.Request) -> web.StreamResponse:
    """`name`: the beginnings of words of the name, in any order, as somebody types them."""
    known = ("identifier", "authority", "family", "given", "name", "birth_date", "sex", "active")
    query = read_query(request, "api/patients", known)
    born = query.day("birth_date")
    filter = PatientFilter(
        identifier=query.text("identifier"),
        authority=query.text("authority") or None,
        family=query.text("family"),
        given=query.text("given"),
        name=query.text("name"),
        born_since=born,
        born_until=day_after(born),
        sex=next(iter(query.choices("sex", Sex)), None),
        active=query.asked("active"),
        page=query.page,
    )
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        found = await patients.find_patients(connection, filter)
    shown = [view.id for view in found[: query.limit]]
    await note_read(request, "search", "patient", None, shown, {"query": query.words})
    return query.answer("patients", found)


async def get_patient(request: web.Request) -> web.StreamResponse:
    """One that was merged says into whom; for staff also the identifiers that have ended."""
    patient_id = path_id(request)
    staff = audience_of(request) is Audience.STAFF
    async with services(request).database.organization(actor_of(request).organization_id) as connection:
        view = await patients.get_patient(connection, patient_id)
        former = await patients.former_identifiers(connection, patient_id) if view is not None and staff else ()
    await note_read(request, "read", "patient", patient_id, (), {"found": "no" if view is None else "yes"})
    if view is None:
        raise not_found()
    if not former:
        return json_response(view)
    return json_response({**{name: getattr(view, name) for name in view.__slots__}, "former_identifiers": former})


async def update_patient(request: web.Request) -> web.StreamResponse:
    """Only the members that are given change; null empties `birth_date` and `birth_at`. `version`: what was looked at,
    in the body or as If-Match."""
    body = await read_body(request)
    cleared = frozenset(name for name in people.CLEARABLE if body.null(name))
    change = people.PatientChange(
        family=body.text("family", "") if body.has("family") else None,
        given=body.text("given", "") if body.has("given") else None,
        birth_date=body.day("birth_date"),
        birth_at=body.instant("birth_at"),
        sex=body.choice("sex", Sex, Sex.UNKNOWN) if body.has("sex") else None,
        active=body.flag("active") if body.has("active") else None,
        cleared=cleared,
    )
    version = version_of(request, body)
    body.done()
    return await _change(
        request, lambda connection, id: people.update_patient(connection, actor_of(request), id, change, version)
    )


async def add_identifier(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    identifier = _identifier(body)
    body.done()
    return await _change(
        request, lambda connection, id: people.add_identifier(connection, actor_of(request), id, identifier)
    )


async def end_identifier(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    authority, value, reason = body.text("authority", ""), body.text("value"), body.text("reason")
    body.done()
    return await _change(
        request,
        lambda connection, id: people.end_identifier(connection, actor_of(request), id, authority, value, reason),
    )


async def merge(request: web.Request) -> web.StreamResponse:
    """`{into, reason, accept_differences}`: the patient of the path is the one of `into`, which is the answer."""
    body = await read_body(request)
    into, reason, accept = body.id("into"), body.text("reason"), body.flag("accept_differences")
    body.done()
    if into is None:
        raise ApiError(422, "value", "into is missing")
    return await _change(
        request, lambda connection, id: people.merge(connection, actor_of(request), id, into, reason, accept)
    )


async def unmerge(request: web.Request) -> web.StreamResponse:
    """The patient, with `look_again`: results that were compared with the other person's while the two were one; and
    `ordered_meanwhile`: orders that were placed then, which are the survivor's, whomever they were for."""
    body = await read_body(request)
    reason = body.text("reason")
    body.done()
    return await _change(request, lambda connection, id: people.unmerge(connection, actor_of(request), id, reason))


async def duplicates(request: web.Request) -> web.StreamResponse:
    """Who may be the same person as the patient of the path, or as the one that the body says, before it is added."""
    actor = actor_of(request)
    asked = None if request.method == "POST" else path_id(request)
    new = people.NewPatient()
    if asked is None:
        body = await read_body(request)
        new = new_patient(body)
        body.done()
    async with services(request).database.organization(actor.organization_id) as connection:
        if asked is None:
            found = await people.duplicates(connection, people.demographics(new))
        else:
            found = await people.duplicates_of(connection, asked)
    shown = [one.patient.id for one in found]
    await note_read(request, "duplicates", "patient", asked, shown, {"found": str(len(found))})
    return json_response({"duplicates": found})


async def _change(
    request: web.Request, change: Callable[[Connection, UUID], Awaitable[PatientView]]
) -> web.StreamResponse:
    patient_id = path_id(request)
    async with services(request).database.transaction(actor_of(request).organization_id) as connection:
        view = await change(connection, patient_id)
    return json_response(view)


_P = Permission
_PATIENT = members(PatientView) | {"former_identifiers?": [FormerIdentifier]}
ROUTES = (
    Route(
        "POST", "/api/patients", create_patient, Need(_P.PATIENT_WRITE, "Patient", "c"), gives=PatientView, status=201
    ),
    Route(
        "GET",
        "/api/patients",
        list_patients,
        Need(_P.PATIENT_READ, "Patient", "s"),
        gives=listing("patients", PatientView),
    ),
    Route(
        "POST", "/api/patients/duplicates", duplicates, Need(_P.PATIENT_READ), gives={"duplicates": [people.Duplicate]}
    ),
    Route(
        "GET",
        "/api/patients/{id}/duplicates",
        duplicates,
        Need(_P.PATIENT_READ),
        gives={"duplicates": [people.Duplicate]},
    ),
    Route("GET", "/api/patients/{id}", get_patient, Need(_P.PATIENT_READ, "Patient", "r"), gives=_PATIENT),
    Route("PATCH", "/api/patients/{id}", update_patient, Need(_P.PATIENT_WRITE, "Patient", "u"), gives=PatientView),
    Route(
        "POST",
        "/api/patients/{id}/identifiers",
        add_identifier,
        Need(_P.PATIENT_WRITE, "Patient", "u"),
        gives=PatientView,
    ),
    Route("POST", "/api/patients/{id}/identifiers/end", end_identifier, Need(_P.PATIENT_WRITE), gives=PatientView),
    Route("POST", "/api/patients/{id}/merge", merge, Need(_P.PATIENT_MERGE), gives=PatientView),
    Route("POST", "/api/patients/{id}/unmerge", unmerge, Need(_P.PATIENT_MERGE), gives=UnmergedView),
)
