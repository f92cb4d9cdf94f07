"""The CapabilityStatement, made of the tables that the routes and searches are made of: it says what is true."""

from __future__ import annotations

from datetime import date

from interface import __version__
from interface.api.fhir.search import PARAMETERS
from interface.render.fhir import TERMINOLOGY, Json

FHIR_VERSION = "4.0.1"
PUBLISHED = date(2026, 11, 26)  # of this description; changes with it


_WRITTEN = {"Patient": ("create",), "ServiceRequest": ("create", "update")}


def capability_statement(base_url: str) -> Json:
    """`base_url`: of the server, without /fhir and without a slash at the end."""
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
                "documentation": "Results appear once a person or a validated rule has released them. Page links are "
                "good for an hour. Chained parameters, includes and conditional reads are not supported. A transaction "
                "orders: ServiceRequests with their Patient (found by identifier, or created) and Specimens. Requests "
                "of one requisition, or of one placer number, are one order; it is made once however often it is "
                "sent, and refused where the number is another order's. A request is updated to be revoked only.",
                "interaction": [{"code": "transaction"}],
                "security": _security(base_url),
                "resource": [_resource(name) for name in PARAMETERS],
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


def _resource(name: str) -> Json:
    return {
        "type": name,
        "interaction": [{"code": code} for code in ("read", "search-type", *_WRITTEN.get(name, ()))],
        "versioning": "versioned",
        "readHistory": False,
        "updateCreate": False,
        "conditionalCreate": "create" in _WRITTEN.get(name, ()),
        "conditionalRead": "not-supported",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchParam": [
            {"name": parameter.name, "type": parameter.type, "documentation": parameter.text}
            for parameter in PARAMETERS[name]
        ],
    }
