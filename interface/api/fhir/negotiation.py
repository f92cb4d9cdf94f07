"""What the two sides agree on before a resource is sent: its form, its version, how strictly a search is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from uuid import UUID

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from interface.api.fhir.types import AnyShown
from interface.domain.record import record
from interface.errors import ApiError

MEDIA_TYPE = "application/fhir+json"
JSON_TYPES = frozenset({MEDIA_TYPE, "application/json", "text/json"})
_VERSIONS = ("4.0", "4.0.1")
_OF_FORM = ("_format", "_pretty")
_ANYTHING = ("*/*",)
_CONTENT = {"Content-Type": f"{MEDIA_TYPE}; charset=utf-8"}


def negotiate(request: web.Request, given: Iterable[tuple[str, str]] | None = None) -> None:
    """Raise ApiError 406 unless JSON is acceptable. `_format` wins over Accept (R4 http.html 3.1.0.1.11); it is among
    `given` where a form has parameters too."""
    if given is None:
        given = request.query.items() if "?" in request.raw_path else ()
    asked = next((value for name, value in given if name == "_format"), "")
    if wanted := asked.replace(" ", "+").partition(";")[0].strip().lower():
        if wanted != "json" and wanted not in JSON_TYPES:
            raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only")
        return
    if not _accepts(",".join(request.headers.getall("Accept", _ANYTHING))):
        raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only, of FHIR 4.0")


@lru_cache(maxsize=256)
def _accepts(header: str) -> bool:
    return any(_acceptable(header))


def _acceptable(header: str) -> Iterator[bool]:
    for entry in header.split(","):
        media_type, *options = (part.strip().lower().replace(" ", "") for part in entry.split(";"))
        asked = dict(option.partition("=")[::2] for option in options)
        refused = asked.get("q", "") in ("0", "0.0", "0.00", "0.000")
        version = asked.get("fhirversion", _VERSIONS[0]).strip('"')
        known = media_type in ("", "*/*", "application/*", "text/*") or media_type in JSON_TYPES
        yield known and not refused and version in _VERSIONS


def strict(request: web.Request) -> bool:
    """`Prefer: handling=strict` (R4 search.html#errors)."""
    return preference(request, "handling") == "strict"


def only(
    request: web.Request, given: Iterable[tuple[str, str]], what: str, once: Collection[str], many: Collection[str] = ()
) -> None:
    """Raise ApiError 400 for a parameter that is not known, where it is not to be passed over; and always for one that
    is said twice and counts once."""
    names = [name for name, _ in given]
    for name in dict.fromkeys(names):
        if name in once and names.count(name) > 1:
            raise ApiError(400, "value", f"{name} is given twice")
        if name not in (*once, *many, *_OF_FORM) and strict(request):
            raise ApiError(400, "not-supported", f"{what} has no parameter {name[:60]!r}")


def preference(request: web.Request, name: str) -> str:
    """What `Prefer` says of it first (RFC 7240 2), in small letters; "" where it says nothing."""
    for one in ",".join(request.headers.getall("Prefer", ())).lower().split(","):
        said, _, value = one.partition(";")[0].partition("=")
        if said.strip() == name:
            return value.strip().strip('"')
    return ""


def fhir_response(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose JSON is made."""
    return web.Response(body=body, headers={**_CONTENT, **headers} if headers else _CONTENT)


@record
class Ready:
    """A resource as it leaves: its JSON and its headers, made once. `patient_id`: whose data it is."""

    id: UUID
    patient_id: UUID | None
    version: str
    updated_at: datetime
    json: bytes
    headers: CIMultiDictProxy[str]

    @classmethod
    def of(cls, found: AnyShown, json: bytes | None = None) -> Ready:
        """`json`: of the elements that are shown, where these are not all."""
        json = found.json if json is None else json
        version, updated_at = found.version, found.updated_at
        headers = CIMultiDict(_CONTENT)
        headers["Content-Length"] = str(len(json))
        headers["ETag"] = f'W/"{version}"'
        headers["Last-Modified"] = _http_date(updated_at.replace(microsecond=0))
        return cls(found.id, found.patient_id, version, updated_at, json, CIMultiDictProxy(headers))


@lru_cache(maxsize=1024)  # results of one message changed in the same second
def _http_date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC), usegmt=True)


def resource_response(request: web.Request, found: AnyShown | Ready) -> web.Response:
    """A read's answer: the resource, or 304 where the client has it (R4 http.html#cread)."""
    ready = found if isinstance(found, Ready) else Ready.of(found)
    if has_it(request, ready.version):
        return web.Response(status=304, headers={name: ready.headers[name] for name in ("ETag", "Last-Modified")})
    return web.Response(body=ready.json, headers=ready.headers)


def is_of(tags: str, version: str) -> bool:
    """Whether a list of entity tags, or `*`, has this version."""
    return not {version, "*"}.isdisjoint(tag.strip().removeprefix("W/").strip('"') for tag in tags.split(","))


def has_it(request: web.Request, version: str) -> bool:
    """Whether who asks has this version already, by its tag alone. A date is no proof of a version here: it is of the
    second, and of when a transaction began, so that what is committed later may be of the same second or of an earlier
    one (RFC 9110 8.8.2.2), as after a clock was put back; If-Modified-Since may be passed over (R4 conditionalRead:
    not-match)."""
    known = request.headers.getall("If-None-Match", ())
    return bool(known) and is_of(",".join(known), version)
