"""What the two sides agree on before a resource is sent: its form, its version, how strictly a search is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from aiohttp import web

from interface.api.fhir.types import AnyShown
from interface.errors import ApiError

MEDIA_TYPE = "application/fhir+json"
JSON_TYPES = frozenset({MEDIA_TYPE, "application/json", "text/json"})
_VERSIONS = ("4.0", "4.0.1")


def negotiate(request: web.Request) -> None:
    """Raise ApiError 406 unless JSON is acceptable. `_format` wins over Accept (R4 http.html 3.1.0.1.11)."""
    wanted = request.query.get("_format", "").replace(" ", "+").partition(";")[0].strip().lower()
    if wanted:
        if wanted != "json" and wanted not in JSON_TYPES:
            raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only")
        return
    if not any(_acceptable(request.headers.getall("Accept", ["*/*"]))):
        raise ApiError(406, "not-supported", f"this server speaks {MEDIA_TYPE} only, of FHIR 4.0")


def _acceptable(headers: Sequence[str]) -> Iterator[bool]:
    for entry in ",".join(headers).split(","):
        media_type, *options = (part.strip().lower().replace(" ", "") for part in entry.split(";"))
        asked = dict(option.partition("=")[::2] for option in options)
        refused = asked.get("q", "") in ("0", "0.0", "0.00", "0.000")
        version = asked.get("fhirversion", _VERSIONS[0]).strip('"')
        known = media_type in ("", "*/*", "application/*", "text/*") or media_type in JSON_TYPES
        yield known and not refused and version in _VERSIONS


def strict(request: web.Request) -> bool:
    """`Prefer: handling=strict` (R4 search.html#errors)."""
    return "handling=strict" in ",".join(request.headers.getall("Prefer", [])).replace(" ", "").lower()


def fhir_response(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose JSON is made."""
    return web.Response(body=body, headers=headers, content_type=MEDIA_TYPE, charset="utf-8")


def resource_response(request: web.Request, found: AnyShown) -> web.Response:
    """A read's answer: the resource, or 304 where the client has it (R4 http.html#cread)."""
    version, updated_at = found.version, found.updated_at
    headers = {
        "ETag": f'W/"{version}"',
        "Last-Modified": format_datetime(updated_at.astimezone(UTC).replace(microsecond=0), usegmt=True),
    }
    if _has_it(request, version, updated_at):
        return web.Response(status=304, headers=headers)
    return fhir_response(found.json, headers)


def _has_it(request: web.Request, version: str, updated_at: datetime) -> bool:
    known = request.headers.getall("If-None-Match", [])
    if known:  # RFC 9110 13.1.3: then the date does not count
        tags = [tag.strip().removeprefix("W/").strip('"') for tag in ",".join(known).split(",")]
        return version in tags or "*" in tags
    since = request.headers.get("If-Modified-Since", "")
    try:
        return bool(since) and updated_at.replace(microsecond=0) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False  # no date, or one without a zone: RFC 9110 says to ignore it
