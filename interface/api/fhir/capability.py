"""The CapabilityStatement, made of the tables that the routes and searches are made of: it says what is true."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date

from interface import __version__
from interface.api.fhir.search import MOST_COUNT
from interface.api.fhir.types import SUBSCRIPTION, TYPES
from interface.render.fhir import TERMINOLOGY, Json
from interface.store.changes import FOLLOWED
from interface.store.search.engine import Kind, Kinds
from interface.store.search.fields import Link

FHIR_VERSION = "4.0.1"
PUBLISHED = date(2026, 11, 27)  # of this description; changes with it
# R4 http.html: what a route of a type is; the places in its path are named as they may be
_INTERACTIONS = {
    ("GET", "/{}"): "read",
    ("GET", "/{}/_history/{}"): "vread",
    ("PUT", "/{}"): "update",
    ("PATCH", "/{}"): "patch",
    ("DELETE", "/{}"): "delete",
    ("GET", "/{}/_history"): "history-instance",
    ("GET", "/_history"): "history-type",
    ("POST", ""): "create",
    ("GET", ""): "search-type",
}
_BULK_DATA = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
_OPERATIONS = {  # by route: of which type ("" of the whole), and as whose definition
    "/fhir/$export": ("", "export", _BULK_DATA + "export"),
    "/fhir/Patient/$export": ("Patient", "export", _BULK_DATA + "patient-export"),
    "/fhir/Patient/{}/$everything": (
        "Patient", "everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything"
    ),
}  # fmt: skip
_WHOLE = {("POST", ""): "transaction", ("GET", "/_history"): "history-system", ("GET", ""): "search-system"}
_DOCUMENTATION = f"""Results appear once a person or a validated rule has released them. Page links hold their place
under inserts. _total counts when asked for (accurate); _count is at most {MOST_COUNT}. A chained parameter and _has
need the scope .s of the type that they search, an include .r of the type that comes along.
A transaction orders: ServiceRequests with their Patient (found by identifier, or created) and
Specimens. Requests of one requisition, or of one placer number, are one order; it is made once however often it is
sent, and refused where the number is another order's. A request is updated to be revoked only."""

_BINARY: Json = {
    "documentation": "The report of an order as PDF (DiagnosticReport.presentedForm), as application/pdf or "
    "application/fhir+json; by the id of a version, or for the newest by that of the order.",
    "versioning": "versioned",
    "readHistory": True,
    "updateCreate": False,
    "conditionalCreate": False,
    "conditionalRead": "not-match",
    "conditionalUpdate": False,
    "conditionalDelete": "not-supported",
    "searchParam": [
        {"name": "_id", "type": "token", "documentation": "the resource's id; without it nothing is searched"},
        {"name": "_lastUpdated", "type": "date", "documentation": "when it was made, of those that are named"},
    ],
}

Served = Collection[tuple[str, str]]  # methods and paths of the routes


def capability_statement(base_url: str, kinds: Kinds, served: Served) -> Json:
    """`base_url`: of the server, without /fhir and without a slash at the end; `served`: every route there is."""
    paths = {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in served}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": PUBLISHED.isoformat(),
        "kind": "instance",
        "software": {"name": "Labora", "version": __version__},
        "implementation": {"description": "Laboratory results, and orders", "url": f"{base_url}/fhir"},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "documentation": " ".join(_DOCUMENTATION.split()),
                "interaction": [
                    {"code": code} for (method, path), code in _WHOLE.items() if (method, f"/fhir{path}") in paths
                ],
                **_operations("", paths),
                "security": _security(base_url),
                "resource": [
                    *(_resource(kinds[name], kinds, paths) for name in TYPES),
                    _subscription(paths),
                    _binary(paths),
                ],
            }
        ],
    }


def _security(base_url: str) -> Json:
    # SMART App Launch 1: where clients look that know no .well-known
    uris = [{"url": "token", "valueUri": f"{base_url}/oauth/token"}]
    return {
        "extension": [
            {"url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris", "extension": uris}
        ],
        "service": [{"coding": [{"system": TERMINOLOGY + "restful-security-service", "code": "SMART-on-FHIR"}]}],
        "description": "OAuth 2.0 client credentials, by private_key_jwt or secret; scopes system/<type>.<cruds>",
    }


def _codes(kind: str, paths: Served) -> list[Json]:
    """What is done with a type, as its routes say."""
    return [
        {"code": code} for (method, path), code in _INTERACTIONS.items() if (method, f"/fhir/{kind}{path}") in paths
    ]


def _binary(paths: Served) -> Json:
    return {"type": "Binary", "interaction": _codes("Binary", paths), **_BINARY}


def _subscription(paths: Served) -> Json:
    """It is no record of a laboratory's: it has no table of parameters, and cannot be chained to."""
    return {
        "type": "Subscription",
        "documentation": f"rest-hook, of {', '.join(FOLLOWED)}; a client sees its own. With the payload "
        "application/fhir+json a resource is PUT to [endpoint]/[type]/[id], without one the endpoint is POSTed to.",
        "interaction": _codes("Subscription", paths),
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": False,
        "conditionalCreate": False,
        "conditionalRead": "not-match",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchParam": [
            {"name": name, "type": type, "documentation": text} for name, (type, text) in SUBSCRIPTION.items()
        ],
    }


def _resource(kind: Kind, kinds: Kinds, paths: Served) -> Json:
    codes = _codes(kind.name, paths)
    found: Json = {
        "type": kind.name,
        "interaction": codes,
        "versioning": "versioned",
        "readHistory": {"code": "vread"} in codes,
        "updateCreate": False,
        "conditionalCreate": {"code": "create"} in codes,
        "conditionalRead": "not-match",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchInclude": [f"{kind.name}:{name}" for name, targets in _links(kind) if targets],
        "searchRevInclude": [
            f"{other.name}:{name}"
            for other in kinds.values()
            for name, targets in _links(other)
            if kind.name in targets
        ],
        "searchParam": [
            {"name": one.name, "type": one.field.type, "documentation": one.text} for one in kind.parameters
        ],
    }
    found |= _operations(kind.name, paths)
    return {name: value for name, value in found.items() if value not in ([], None)}


def _operations(kind: str, paths: Served) -> Json:
    found = [
        {"name": name, "definition": definition}
        for route, (of, name, definition) in _OPERATIONS.items()
        if of == kind and ("GET", route) in paths
    ]
    return {"operation": found} if found else {}


def _links(kind: Kind) -> Iterator[tuple[str, Collection[str]]]:
    for parameter in kind.parameters:
        if isinstance(parameter.field, Link):
            yield parameter.name, parameter.field.targets
