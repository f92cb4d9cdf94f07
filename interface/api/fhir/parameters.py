"""What an operation is asked with (R4 operations.html#request): in the URL, and in the body of a POST."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from interface.api.bodies import FORM, parse_json, read_form
from interface.api.fhir.element import Element, Faults
from interface.api.fhir.negotiation import JSON_TYPES, MEDIA_TYPE
from interface.errors import ApiError

Given = list[tuple[str, str]]
MOST_GIVEN: Final = 200


async def read_parameters(request: web.Request) -> Given:
    """Names and values, those of the URL first; the body is a Parameters resource, a form, or nothing. Raises ApiError
    400, 413, 415, and 422 with everything that is wrong with the resource."""
    given = list(request.query.items())
    if request.method != "POST" or not request.body_exists or not await request.read():
        return given
    if request.content_type == FORM:
        return given + await read_form(request)
    if request.content_type not in JSON_TYPES:
        raise ApiError(415, "not-supported", f"the body is {MEDIA_TYPE}, or {FORM}")
    faults = Faults()
    body = Element(parse_json(await request.read()), "Parameters", faults)
    if body.text("resourceType") != "Parameters":
        raise ApiError(400, "structure", "the body is not a Parameters resource")
    said = [(one.text("name", required=True), one.primitive()) for one in body.many("parameter")]
    faults.check()
    if len(said) > MOST_GIVEN:
        raise ApiError(413, "too-long", f"an operation has at most {MOST_GIVEN} parameters")
    return given + said
