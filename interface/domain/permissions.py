"""Who may do what: roles and permissions of users, SMART scopes of clients. Data and pure functions.

A user's permissions come from roles; a client's from scopes (SMART App Launch 2.0 "Scopes for requesting FHIR
Resources", and the `.read`, `.write`, `.*` of version 1). One table each; what is not in it is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    PATIENT_READ = "patient:read"
    PATIENT_WRITE = "patient:write"
    PATIENT_MERGE = "patient:merge"  # and take it back
    PROVIDER_WRITE = "provider:write"
    ORDER_READ = "order:read"
    ORDER_WRITE = "order:write"
    RESULT_READ = "result:read"
    RESULT_RELEASE = "result:release"
    SPECIMEN_WRITE = "specimen:write"
    WORKSHEET_WRITE = "worksheet:write"
    CATALOGUE_WRITE = "catalogue:write"
    RULE_READ = "rule:read"
    RULE_WRITE = "rule:write"
    QC_READ = "qc:read"
    QC_WRITE = "qc:write"  # results and comments, exclusions, the action that makes a stream acceptable again
    QC_MANAGE = "qc:manage"  # lots, targets, plans
    CRITICAL_WRITE = "critical:write"  # who was called, and that it was read back
    DISPATCH_WRITE = "dispatch:write"  # sends work to an analyzer again or takes it back, says that one is down
    MESSAGE_READ = "message:read"
    MESSAGE_REPLAY = "message:replay"
    LINK_READ = "link:read"
    MAP_WRITE = "map:write"
    USER_READ = "user:read"
    USER_WRITE = "user:write"
    CLIENT_WRITE = "client:write"
    AUDIT_READ = "audit:read"


class Role(StrEnum):
    ADMINISTRATOR = "administrator"
    LABORATORY_DIRECTOR = "laboratory_director"
    TECHNOLOGIST = "technologist"
    PHLEBOTOMIST = "phlebotomist"
    VIEWER = "viewer"
    AUDITOR = "auditor"


_P = Permission
_CLINICAL_READ = frozenset({_P.PATIENT_READ, _P.ORDER_READ, _P.RESULT_READ, _P.QC_READ})
_BENCH_WORK = frozenset(
    {_P.SPECIMEN_WRITE, _P.WORKSHEET_WRITE, _P.CRITICAL_WRITE, _P.RULE_READ, _P.PROVIDER_WRITE, _P.QC_WRITE}
    | {_P.DISPATCH_WRITE}
)

# An administrator runs the system and may not sign a result, nor say which are released without a person, nor that an
# analyzer that failed its control measures rightly again: all are medical acts (CLIA 493.1291, 493.1282).
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMINISTRATOR: frozenset(_P) - {_P.RESULT_RELEASE, _P.RULE_WRITE, _P.QC_WRITE},
    Role.LABORATORY_DIRECTOR: _CLINICAL_READ
    | {_P.PATIENT_WRITE, _P.ORDER_WRITE, _P.RESULT_RELEASE, _P.MESSAGE_READ, _P.MESSAGE_REPLAY, _P.LINK_READ}
    | {_P.MAP_WRITE, _P.USER_READ, _P.AUDIT_READ, _P.CATALOGUE_WRITE, _P.RULE_WRITE, _P.QC_MANAGE}
    | _BENCH_WORK
    | {_P.PATIENT_MERGE},
    Role.TECHNOLOGIST: _CLINICAL_READ
    | {_P.PATIENT_WRITE, _P.ORDER_WRITE, _P.RESULT_RELEASE, _P.MESSAGE_READ, _P.MESSAGE_REPLAY, _P.LINK_READ}
    | _BENCH_WORK
    | {_P.PATIENT_MERGE},
    Role.PHLEBOTOMIST: frozenset({_P.PATIENT_READ, _P.PATIENT_WRITE, _P.ORDER_READ, _P.ORDER_WRITE, _P.SPECIMEN_WRITE}),
    Role.VIEWER: _CLINICAL_READ,
    Role.AUDITOR: frozenset({_P.AUDIT_READ, _P.USER_READ, _P.LINK_READ}),
}


def permissions(roles: Iterable[str]) -> frozenset[str]:
    """What a user with these roles may do. A role that is not known (any more) gives nothing."""
    known = {role.value: granted for role, granted in ROLE_PERMISSIONS.items()}
    return frozenset(permission.value for role in roles for permission in known.get(role, frozenset()))


# ---- SMART scopes ---------------------------------------------------------------------------------------------------

RESOURCES = ("DiagnosticReport", "Observation", "Patient", "ServiceRequest", "Specimen")
_ORDER = "cruds"  # SMART 2.0: the letters stand in this order
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE = re.compile(r"system/(?P<resource>[A-Za-z]+|\*)\.(?P<actions>read|write|\*|c?r?u?d?s?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """`system/<resource>.<actions>`; resource `*` is every one, actions are letters of `cruds`."""

    resource: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"system/{self.resource}.{''.join(letter for letter in _ORDER if letter in self.actions)}"


def parse_scope(text: str) -> Scope:
    """One SMART scope, version 1 or 2. ValueError, with a text for the reader, when it cannot be granted."""
    match = _SCOPE.fullmatch(text)
    if match is None or not match["actions"]:
        raise ValueError(
            f"{text!r} is not a scope; it reads system/<resource>.<actions>, for example system/Observation.rs"
        )
    if match["resource"] != "*" and match["resource"] not in RESOURCES:
        raise ValueError(f"{text!r}: the resource is none of {', '.join(RESOURCES)}, *")
    return Scope(match["resource"], frozenset(_V1.get(match["actions"], match["actions"])))


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Every scope of a space-separated list, or of several. ValueError at the first that is none."""
    return tuple(parse_scope(text) for part in texts for text in part.split())


def granted(requested: Iterable[Scope], allowed: Iterable[Scope]) -> tuple[Scope, ...]:
    """The part of `requested` that lies within `allowed`, resource by resource."""
    possible = tuple(allowed)
    found: dict[str, frozenset[str]] = {}
    for wanted in requested:
        for have in possible:
            if "*" in (wanted.resource, have.resource) or wanted.resource == have.resource:
                resource = have.resource if wanted.resource == "*" else wanted.resource
                found[resource] = found.get(resource, frozenset()) | (wanted.actions & have.actions)
    return tuple(Scope(resource, actions) for resource, actions in sorted(found.items()) if actions)


def allows(scopes: Iterable[str], resource: str, action: str) -> bool:
    """Whether a client holding these scopes (as granted, canonical) may do `action` (a letter of `cruds`)."""
    return any(scope.resource in ("*", resource) and action in scope.actions for scope in parse_scopes(scopes))
